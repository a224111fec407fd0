"""Open directories that only this user can write, such as the cache, so that nobody else can have planted a file.

The check is made on the fd that is used afterwards and never on the path, because somebody may exchange what the path
leads to.
"""

from __future__ import annotations

import errno
import os

from oci.root import PATH_DIRECTORY, READ_DIRECTORY


def open_private(path: str, *, make: bool = False) -> int:
    """Return an fd of a directory that belongs to this user and that nobody else may write; `make` makes it if needed.

    Raises OSError: ENOENT, ENOTDIR for a symbolic link or a file, EPERM if it is another user's or if its group or
    others may write it.
    """
    try:
        fd = os.open(path, READ_DIRECTORY)
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
    """Return why others may write a directory or file, "" if only this user may."""
    if status.st_uid != os.geteuid():
        return f"it belongs to uid {status.st_uid}"
    if status.st_mode & 0o022:
        return "its group or others may write it"
    return ""


def make_private(path: str) -> int:
    """Make a directory and its missing parents, each with mode 0700 whatever the umask is; return an fd of it.

    os.makedirs gives its mode to the last directory only, so under `umask 0` everybody could write to the others.
    Raises OSError; EPERM if another user has made one of the directories meanwhile.
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
        return os.open(".", READ_DIRECTORY, dir_fd=fd)
    finally:
        os.close(fd)


def _make_one(parent: int, name: str, path: str) -> int:
    """Make one directory below an open one; return an O_PATH fd of it. Raises OSError."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        pass  # another process made it meanwhile; its owner is checked below
    fd = os.open(name, PATH_DIRECTORY, dir_fd=parent)
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
