"""Learn which times of files a file system keeps, and write times as pax headers have them."""

from __future__ import annotations

import os

_SECOND = 1_000_000_000  # ns
_MAX_TIME = (1 << 55) * _SECOND  # ns; far beyond any file system, but small enough for Python to make a time_t of
_NAME = b".times"


def time_limits(directory_fd: int) -> tuple[int, int]:
    """Return the earliest and the latest time (ns since the epoch) that the file system of a directory keeps.

    The kernel replaces a time beyond the limits by the nearest one (timestamp_truncate() in fs/inode.c). So a file is
    made here, set to very early and very late times, and asked what it has. Raises OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(_NAME, flags, 0o600, dir_fd=directory_fd)
    try:
        os.unlink(_NAME, dir_fd=directory_fd)
        return _kept(file, -_MAX_TIME), _kept(file, _MAX_TIME)
    finally:
        os.close(file)


def _kept(file: int, time: int) -> int:
    """Set a file's time (ns), and return the time that the file system has kept."""
    try:
        os.utime(file, ns=(time, time))
    except OSError:  # some file systems refuse such a time instead
        return max(0, min(time, ((1 << 31) - 1) * _SECOND))
    return os.fstat(file).st_mtime_ns


def pax_time(time: int) -> str:
    """Return a time (ns) as the decimal number of seconds that pax headers hold (POSIX pax, "mtime")."""
    seconds, ns = divmod(abs(time), _SECOND)
    return f"{'-' if time < 0 else ''}{seconds}.{ns:09d}"
