"""Remove a whole tree by directory fds: unwritable and very deep ones too."""

from __future__ import annotations

import contextlib
import os
from stat import S_ISDIR

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEP = 64


def remove_tree(path: str) -> None:
    """Remove `path` and all below it; a missing one is fine. Directories are made writable first.

    A directory of the caller's that denies its owner everything is removed too. Raises OSError.
    """
    parent, name = os.path.split(os.path.abspath(path))
    fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _remove(fd, os.fsencode(name), 0, -1)
    finally:
        os.close(fd)


def _remove(parent: int, name: bytes, depth: int, top: int) -> None:
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not S_ISDIR(mode):
        os.unlink(name, dir_fd=parent)
        return
    if mode & 0o700 != 0o700:
        with contextlib.suppress(PermissionError):  # root of a namespace that lacks the owner: rmdir will say so
            os.chmod(name, 0o700, dir_fd=parent)
    fd = os.open(name, _OPEN, dir_fd=parent)
    try:
        if depth == 0:
            top = fd
        while entries := os.listdir(fd):
            for entry in map(os.fsencode, entries):
                if depth >= _DEEP and _is_directory(entry, fd):
                    _lift(entry, fd, top)
                else:
                    _remove(fd, entry, depth + 1, top)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


def _is_directory(name: bytes, fd: int) -> bool:
    return S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)


def _lift(name: bytes, fd: int, top: int) -> None:
    """Move a directory up to the top, where it is removed in its turn: neither fds nor the stack grow with depth."""
    with contextlib.suppress(PermissionError):
        os.chmod(name, 0o700, dir_fd=fd)  # a change of `..` needs write permission, rename(2)
    os.rename(name, b".deep-" + os.urandom(16).hex().encode(), src_dir_fd=fd, dst_dir_fd=top)
