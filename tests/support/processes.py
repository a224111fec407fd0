"""Find processes of this machine by their command lines, and wait for what they do."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.support.checkout import TIMEOUT

Value = TypeVar("Value")


def until(condition: Callable[[], Value], seconds: float = TIMEOUT) -> Value:
    """Ask again and again until the answer is true, or so many seconds have passed; return the last answer."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return value


# Timeouts for a call that has to time out after its program has printed something. On a machine that is too slow for
# the first one, a longer one is tried.
LONGER_AND_LONGER = (0.5, 5, 50)


def long_sleep() -> str:
    """Return an argument of sleep(1): some years, in a number that no other test's process has in its command line."""
    return str(100_000_000 + secrets.randbelow(1_000_000_000))


def running(words: str) -> bool:
    """Return whether a process has these words in its command line now."""
    return any(words.encode() in command_line(pid) for pid in filter(str.isdigit, os.listdir("/proc")))


def begins(words: str) -> bool:
    """Return whether a process has these words in its command line, at the latest in a minute.

    One that has just been executed has an empty command line for a moment (execve(2): the memory is replaced first).
    """
    return until(lambda: running(words))


def ends(words: str) -> bool:
    """Return whether no process has these words in its command line, at the latest in a minute."""
    return until(lambda: not running(words))


def is_gone(pid: int) -> bool:
    """Return whether a process has ended and was reaped, at the latest in a minute."""
    return until(lambda: not os.path.exists(f"/proc/{pid}"))


def has_ended(pid: int) -> bool:
    """Return whether a process is gone, or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def command_line(pid: str) -> bytes:
    """Return the command line of a process, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
