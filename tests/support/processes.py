"""Processes of this machine, looked for by their command lines."""

from __future__ import annotations

import os
import time
from pathlib import Path


def running(words: str, seconds: float = 5) -> bool:
    """Return whether a process has these words in its command line, and does not end within that time."""
    until = time.monotonic() + seconds
    while any(words.encode() in command_line(pid) for pid in filter(str.isdigit, os.listdir("/proc"))):
        if time.monotonic() > until:
            return True
        time.sleep(0.05)
    return False


def command_line(pid: str) -> bytes:
    """Return the command line of a process, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
