"""Remove a whole tree by directory fds, also an unwritable or very deep one, but never what is mounted in it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from stat import S_ISDIR

from oci.errors import OciError
from oci.mounts import mount_id, refuse_mounts
from oci.regular import open_regular
from oci.root import READ_DIRECTORY

_DEEP = 64


def remove_tree(path: str, count: Callable[[], None] = lambda: None) -> None:
    """Remove `path` and all below it; a missing path is fine.

    count: called after each entry. Directories whose mode denies their owner writing are made writable first. Raises
    OSError, and, before anything is removed, OciError that names the place if something is mounted in the tree.
    """
    if not os.path.lexists(path):
        return
    refuse_mounts(path)
    parent, name = os.path.split(os.path.abspath(path))
    fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _Removal(mount_id(fd), count).remove(fd, os.fsencode(name), 0)
    finally:
        os.close(fd)


def recorded_files(bundle: str) -> int:
    """Return how many files the record of a bundle has, 0 without one; more or fewer may be there by now."""
    try:
        with open_regular(f"{bundle}/.oci/base.mtree") as record:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: record.read(1 << 20), b""))
    except OSError:
        return 0


class _Removal:
    """The removal of one tree.

    mount: the id of the mount that all of it lies in; top: an fd of its root, to which deep directories are moved.
    """

    def __init__(self, mount: int, count: Callable[[], None]) -> None:
        self.mount = mount
        self.count = count
        self.top = -1

    def remove(self, parent: int, name: bytes, depth: int) -> None:
        """Remove an entry of the directory `parent`, and all below it."""
        try:
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if not S_ISDIR(mode):
            os.unlink(name, dir_fd=parent)
            self.count()
            return
        if mode & 0o700 != 0o700:
            # EPERM: its owner is not mapped in this user namespace. Then rmdir fails and says so.
            with contextlib.suppress(PermissionError):
                os.chmod(name, 0o700, dir_fd=parent)
        fd = os.open(name, READ_DIRECTORY, dir_fd=parent)
        try:
            if mount_id(fd) != self.mount:  # mounted since refuse_mounts looked: the files there are not ours to remove
                raise OciError("something was mounted here meanwhile", os.readlink(f"/proc/self/fd/{fd}"), errno.EBUSY)
            if depth == 0:
                self.top = fd
            while entries := os.listdir(fd):
                for entry in map(os.fsencode, entries):
                    if depth >= _DEEP and _is_directory(entry, fd):
                        _lift(entry, fd, self.top)
                        continue
                    try:
                        self.remove(fd, entry, depth + 1)
                    except OSError as error:
                        if error.errno not in (errno.EMFILE, errno.ENFILE) or fd == self.top:
                            raise
                        _lift(entry, fd, self.top)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=parent)


def _is_directory(name: bytes, fd: int) -> bool:
    return S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)


def _lift(name: bytes, fd: int, top: int) -> None:
    """Move a deep directory to the top, to be removed later, so that neither fds nor the stack grow with depth."""
    with contextlib.suppress(PermissionError):
        os.chmod(name, 0o700, dir_fd=fd)  # rename(2) changes its `..`, which needs write permission
    os.rename(name, b".deep-" + os.urandom(16).hex().encode(), src_dir_fd=fd, dst_dir_fd=top)
