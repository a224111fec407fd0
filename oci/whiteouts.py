"""Remove what an upper layer removes from lower ones (image-spec layer.md, "Whiteouts").

There are four cases. A whiteout `.wh.NAME` removes NAME of lower layers. An opaque marker `.wh..wh..opq` removes all
that lower layers have in its directory. An entry replaces an entry of another type. A directory on the way to an entry
replaces what a lower layer has there. The first two spare entries of the layer that is being applied, which may come
before them in the archive.
"""

from __future__ import annotations

import errno
import os
from stat import S_ISDIR, S_ISLNK

from oci import tar
from oci.owners import Owners
from oci.record import Recorder
from oci.root import READ_DIRECTORY, Root

WHITEOUT = b".wh."
NO_DIRECTORY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # errnos for a path that does not lead to a directory


class LowerLayers:
    """The entries of a tree that come from layers below the one that is being applied.

    root: the tree; pending: modes and times that directories get in the end, and from which a removed directory is
    removed; is_stale: whether a directory or link was removed, so that paths in root's cache may lead elsewhere now.
    """

    def __init__(self, root: Root, owners: Owners, record: Recorder, pending: dict[bytes, tuple[int, int]]) -> None:
        self._root = root
        self._owners = owners
        self._record = record
        self._pending = pending
        # What this layer has made, so that its whiteouts spare it: directories that only it has made, and for entries
        # in other directories hashes of their paths (a hundred bytes less for each; Python's hash is keyed at random).
        # _upper is None while the lowest layer is applied, which has nothing below it.
        self._own_dirs: set[bytes] = set()
        self._upper: set[int] | None = None
        self.named_whiteouts: set[bytes] = set()  # this layer's directories with names of whiteouts
        self.is_stale = False

    def begin_layer(self, *, is_lowest: bool) -> None:
        """Begin a layer: everything that is in the tree now belongs to lower ones."""
        self._own_dirs.clear()
        self.named_whiteouts.clear()
        self._upper = None if is_lowest else set()

    @property
    def exist(self) -> bool:
        """Return whether there is a lower layer."""
        return self._upper is not None

    def note(self, path: bytes, parent: bytes) -> None:
        """Remember that this layer has made the entry `path` in the directory `parent`."""
        if self._upper is not None and parent not in self._own_dirs:
            self._upper.add(hash(path))

    def is_below_directory(self, parts: list[bytes]) -> bool:
        """Return whether every part that is named like a whiteout is a directory; docker's archives of 2015 have such.

        Docker applies the directory as a whiteout, and also puts the entries below it into a directory of that name.
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
        """Remove an entry of lower layers, but nothing that this layer has made. Raises OSError."""
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
        """Empty an opaque directory of what lower layers put there. What this layer has made stays. Raises OSError."""
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
        """Remove the first component of a path that does not lead to a directory, if a lower layer made it."""
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
        """Remove an entry and all below it; return whether it is gone. keep_upper: spare what this layer has made."""
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
            if not gone:  # only children from this layer remain, so treat it as a directory that no layer lists
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
        """Remove what is in a directory; return whether it is empty now."""
        fd = os.open(name, READ_DIRECTORY, dir_fd=parent)
        try:
            gone = [self.remove(fd, path, os.fsencode(n), keep_upper=keep_upper) for n in os.listdir(fd)]
        finally:
            os.close(fd)
        return all(gone)

    def note_directory(self, path: bytes, parent: bytes) -> None:
        """Remember that this layer has made the directory, so that nothing in it is from a lower one."""
        if self._upper is not None:
            if parent not in self._own_dirs:
                self._upper.add(hash(path))
            self._own_dirs.add(path)
