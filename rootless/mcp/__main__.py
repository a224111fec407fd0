"""Start the server: `python -m rootless.mcp`."""

import sys

from rootless.mcp import main

sys.exit(main())
