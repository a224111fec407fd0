"""Files that can be read only once: standard input, and the pipe that a shell's <(...) names."""

from __future__ import annotations

import os
import stat

from rootless.kernel.host import Host
from rootless.runtime.interpreter import protect
from rootless.userns.run import default_maps


def protect_stream(path: str) -> None:
    """Before a pipe or standard input is read, run from a sealed copy of the interpreter if `create` would ask for it.

    For that this command line is executed again, and what has been read would be gone. Raises RootlessError.
    """
    try:
        if path != "-" and not stat.S_ISFIFO(os.stat(path).st_mode):
            return
    except OSError:
        return  # who opens it says why that fails
    protect(*default_maps(Host()))
