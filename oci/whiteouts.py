"""What an upper layer takes away from lower ones (image-spec layer.md, "Whiteouts"), and what it spares.

There are four cases. A whiteout `.wh.NAME` removes NAME of lower layers. An opaque marker `.wh..wh..opq` removes all
that lower layers have in its directory. An entry replaces one of another type. What a lower layer has on the way to an
entry gives place to a directory. The first two may stand behind entries that this layer has in the same place: these
stay.
"""

from __future__ import annotations

import errno
import os
from stat import S_ISDIR, S_ISLNK

from oci import tar
from oci.owners import Owners
from oci.record import Recorder
from oci.root import Root

WHITEOUT = b".wh."
NO_DIRECTORY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # of a path that leads to no directory
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LowerLayers:
    """The entries of a tree that layers below the one that is applied have made.

    root: the tree; pending: modes and times that directories get in the end, from which what is removed is taken out.
    is_stale: a directory or link was removed, so that paths which root has cached may lead elsewhere now.
    """

    def __init__(self, root: Root, owners: Owners, record: Recorder, pending: dict[bytes, tuple[int, int]]) -> None:
        self._root = root
        self._owners = owners
        self._record = record
        self._pending = pending
        # What this layer made, so that its whiteouts spare it: directories that are all its own, and hashes of paths
        # in directories of lower layers (hashes: a hundred bytes less each; their key is random). None: no lower layer.
        self._own_dirs: set[bytes] = set()
        self._upper: set[int] | None = None
        self.named_whiteouts: set[bytes] = set()  # directories of this layer whose names are those of whiteouts
        self.is_stale = False

    def begin_layer(self, *, is_lowest: bool) -> None:
        """All that is in the tree now is lower."""
        self._own_dirs.clear()
        self.named_whiteouts.clear()
        self._upper = None if is_lowest else set()

    @property
    def exist(self) -> bool:
        """Whether there is any lower layer."""
        return self._upper is not None

    def note(self, path: bytes, parent: bytes) -> None:
        """This layer has an entry of its own there."""
        if self._upper is not None and parent not in self._own_dirs:
            self._upper.add(hash(path))

    def is_below_directory(self, parts: list[bytes]) -> bool:
        """Whether every part that looks like a whiteout is a directory, which docker's archives of 2015 have.

        Docker takes the directory as a whiteout, and what is below it as entries of a directory with that very name.
        """
        for number, part in enumerate(parts, 1):
            path = b"/".join(parts[:number])
            if not part.startswith(WHITEOUT) or path in self.named_whiteouts:
                continue
            try:
                self._root.directory(path)
            except OSError as error:
                if error.errno not in NO_DIRECTORY:
                    raise
                return False
        return True

    def white_out(self, parent: bytes, name: bytes) -> None:
        """Remove an entry of lower layers; what this layer has of it stays. Raises OSError."""
        if self._upper is None:
            return
        try:
            directory = self._root.directory(parent)
        except OSError as error:
            if error.errno not in NO_DIRECTORY:
                raise
            return
        if directory.path not in self._own_dirs:
            self.remove(directory.fd, directory.path, name, keep_upper=True)

    def clear_lower(self, path: bytes) -> None:
        """An opaque directory: what lower layers left in it goes, what this layer put there stays."""
        if self._upper is None:
            return
        try:
            directory = self._root.directory(path)
        except OSError as error:
            if error.errno not in NO_DIRECTORY:
                raise
            return
        if directory.path not in self._own_dirs:
            self._empty(directory.fd, b".", directory.path, keep_upper=True)

    def clear_way(self, path: bytes) -> None:
        """Take away the first entry on a way that leads to no directory, if a lower layer made it."""
        way = b""
        directory = self._root.directory(way)
        for name in path.split(b"/"):
            way = way + b"/" + name if way else name
            try:
                directory = self._root.directory(way)
            except OSError as error:
                if error.errno not in NO_DIRECTORY:
                    raise
                break
        try:
            os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if directory.path not in self._own_dirs and hash(directory.join(name)) not in (self._upper or ()):
            self.remove(directory.fd, directory.path, name, keep_upper=False)
            self._root.forget()

    def remove(self, parent_fd: int, parent: bytes, name: bytes, *, keep_upper: bool) -> bool:
        """Remove an entry and all below it, but with keep_upper not what this layer made; whether it is gone."""
        path = parent + b"/" + name if parent else name
        try:
            mode = os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return True
        spared = keep_upper and self._upper is not None and (path in self._own_dirs or hash(path) in self._upper)
        if not S_ISDIR(mode):
            if spared:
                return False
            os.unlink(name, dir_fd=parent_fd)
            self.is_stale = self.is_stale or S_ISLNK(mode)
        else:
            if keep_upper and path in self._own_dirs:
                return False
            gone = self._empty(parent_fd, name, path, keep_upper=keep_upper)
            if spared:
                return False
            self._pending.pop(path, None)
            if not gone:  # it is there only because this layer has something in it, as if it had never been named
                os.chmod(name, 0o755, dir_fd=parent_fd)
                self._record.add(path, tar.DIRECTORY, 0o755, 0, 0, 0, None)
                if self._owners.mode == "map":
                    os.chown(name, *(os.geteuid(), os.getegid()), dir_fd=parent_fd, follow_symlinks=False)
                return False
            os.rmdir(name, dir_fd=parent_fd)
            self._own_dirs.discard(path)
            self.is_stale = True
        self._record.remove(path)
        return True

    def _empty(self, parent: int, name: bytes, path: bytes, *, keep_upper: bool) -> bool:
        """Take away what is in a directory; whether nothing is left."""
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            gone = [self.remove(fd, path, os.fsencode(n), keep_upper=keep_upper) for n in os.listdir(fd)]
        finally:
            os.close(fd)
        return all(gone)

    def note_directory(self, path: bytes, parent: bytes) -> None:
        """This layer made the directory: nothing in it is lower."""
        if self._upper is not None:
            if parent not in self._own_dirs:
                self._upper.add(hash(path))
            self._own_dirs.add(path)
