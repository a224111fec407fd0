"""Directories that only their owner can write, such as a cache: what is read there, nobody else can have planted.

A directory is judged by the descriptor that is used afterwards, never by its path, which somebody may exchange.
"""

from __future__ import annotations

import errno
import os

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_private(path: str, *, make: bool = False) -> int:
    """Open a directory of this user's that no one else may write; with `make` it is made where it is missing.

    Returns its descriptor. Raises OSError: ENOENT, ENOTDIR for a symbolic link or a file, EPERM for one of another
    user's or one that its group or others may write.
    """
    try:
        fd = os.open(path, _OPEN)
    except FileNotFoundError:
        if not make:
            raise
        fd = make_private(path)
    try:
        if reason := fault(os.fstat(fd)):
            raise PermissionError(errno.EPERM, reason, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def fault(status: os.stat_result) -> str:
    """Return why a directory or file is not this user's alone, "" where it is."""
    if status.st_uid != os.geteuid():
        return f"it belongs to uid {status.st_uid}"
    if status.st_mode & 0o022:
        return "its group or others may write it"
    return ""


def make_private(path: str) -> int:
    """Make a directory and its missing parents, each with mode 0700 whatever the umask is; the directory's descriptor.

    os.makedirs gives its mode to the last one alone, so that under `umask 0` everybody could write the others. Raises
    OSError; EPERM where somebody has put a directory of theirs in place meanwhile.
    """
    path = os.path.abspath(path)
    missing: list[str] = []
    existing = path
    while True:
        try:
            fd = os.open(existing, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            break
        except FileNotFoundError:
            existing, name = os.path.split(existing)
            missing.append(name)
    try:
        for name in reversed(missing):
            below = _make_one(fd, name, path)
            os.close(fd)
            fd = below
        return os.open(".", _OPEN, dir_fd=fd)
    finally:
        os.close(fd)


def _make_one(parent: int, name: str, path: str) -> int:
    """Make one directory below an open one; an O_PATH descriptor of it."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        pass  # somebody was quicker: whose it is shows below
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        status = os.fstat(fd)
        if status.st_uid == os.geteuid() and status.st_mode & 0o700 != 0o700:  # a umask such as 0777
            os.chmod(f"/proc/self/fd/{fd}", 0o700)
        if reason := fault(status):
            raise PermissionError(errno.EPERM, reason, path)
    except BaseException:
        os.close(fd)
        raise
    return fd
