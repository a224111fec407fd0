"""Times of files: what a file system keeps of them, and how pax headers write them."""

from __future__ import annotations

import os

_SECOND = 1_000_000_000  # ns
_FAR = (1 << 55) * _SECOND  # Python must get a time into a time_t
_NAME = b".times"


def time_limits(directory_fd: int) -> tuple[int, int]:
    """Return the earliest and the latest time (ns since the epoch) that the file system of a directory keeps.

    The kernel puts a time beyond them to the nearest one (utimensat(2); timestamp_truncate() of its fs/inode.c), so a
    file that is made here is asked for both. Raises OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(_NAME, flags, 0o600, dir_fd=directory_fd)
    try:
        os.unlink(_NAME, dir_fd=directory_fd)
        return _kept(file, -_FAR), _kept(file, _FAR)
    finally:
        os.close(file)


def _kept(file: int, time: int) -> int:
    """Return what is left of a time when it was set."""
    try:
        os.utime(file, ns=(time, time))
    except OSError:  # a file system that refuses where others put it to the nearest one
        return max(0, min(time, ((1 << 31) - 1) * _SECOND))
    return os.fstat(file).st_mtime_ns


def pax_time(time: int) -> str:
    """Return a time (ns) as the decimal number of seconds that pax headers hold (POSIX pax, "mtime")."""
    seconds, ns = divmod(abs(time), _SECOND)
    return f"{'-' if time < 0 else ''}{seconds}.{ns:09d}"
