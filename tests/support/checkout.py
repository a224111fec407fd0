"""Say where the checkout and its program are, and how long a command of it may take."""

from __future__ import annotations

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LAUNCHER = CHECKOUT / "bin" / "rootless"
# Archives that lie beside the checkout of whoever has them; without them the tests that need them are skipped.
SHARED = Path(os.environ.get("ROOTLESS_SHARED", CHECKOUT.parent / "shared"))
BUSYBOX = Path("/bin/busybox")
# Seconds until a command that hangs is a failure; nothing is measured by it. The emulated guest of tests/vm needs more.
TIMEOUT = int(os.environ.get("ROOTLESS_TEST_TIMEOUT", "60"))


def driver(program: str, *args: str | Path) -> list[str]:
    """Return the argv of a Python program that finds the checkout's packages and may replace a part of `rootless`."""
    path = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n"
    return [sys.executable, "-IS", "-c", path + program, *map(str, args)]
