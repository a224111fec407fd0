"""Keep unpacked trees, so that a later conversion copies layers (or shares them by reflinks) instead of unpacking.

The key of a tree is the digests of its layers, base first, and the way its owners are written. A conversion starts from
the tree that has the most of its lower layers. A tree appears by rename, so conversions may run side by side. A lock
keeps `prune` away from trees that are being read or written (flock(2)).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from typing import IO, Any

import attrs

from oci.attributes import Report
from oci.clone import clone_tree
from oci.errors import OciError
from oci.hints import HINTS
from oci.image.model import Image, Layer
from oci.mounts import refuse_mounts
from oci.owners import Owners
from oci.private import open_private
from oci.record import HEADER
from oci.remove import remove_tree
from oci.root import READ_DIRECTORY

MAX_SIZE = 10 << 30  # bytes, unless the user sets a limit
_VERSION = 1
_LOCK = ".lock"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@attrs.define
class Kept:
    """A tree in the cache. size: bytes on disk; used: seconds since the epoch; layers: digests, base first."""

    key: str
    names: list[str]
    layers: list[str]
    owners: str
    size: int
    used: float


def default_directory() -> str:
    """Return $XDG_CACHE_HOME/rootless, or ~/.cache/rootless if that is unset."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "rootless", "trees")


class Cache:
    """The store in `directory`, "" for default_directory(). The first `store` makes the directory.

    max_size: bytes; above it the trees that were not used for longest are removed. A method must be called with the ids
    that the trees were written with, because it reads and removes their files. Methods raise OSError and OciError.
    """

    def __init__(self, directory: str = "", max_size: int = MAX_SIZE) -> None:
        self.directory = directory or default_directory()
        self.max_size = max_size

    def restore(self, image: Image, owners: Owners, report: Report, root_fd: int, record: IO[bytes]) -> int:
        """Fill an empty root, and its record, from the tree with the most lower layers; return how many it has.

        Raises OciError that names the cache, and OSError for a full disk, which is the bundle's.
        """
        if not os.path.lexists(self.directory):
            return 0
        identities = [identity(layer) for layer in image.layers]
        with self._as_oci_error("cannot copy layers from the cache", _FULL), self._locked(fcntl.LOCK_SH) as here:
            for count in range(len(identities), 0, -1):
                path = f"{here}/{_key(identities[:count], owners)}"
                document = _read(path)
                if document is None or (owners.strict and document["folded"]):
                    continue
                source = os.open(f"{path}/rootfs", READ_DIRECTORY)
                try:
                    clone_tree(source, root_fd)
                finally:
                    os.close(source)
                with open(f"{path}/base.mtree", "rb") as file:
                    file.seek(len(HEADER))
                    while chunk := file.read(1 << 18):
                        record.write(chunk)
                for key, value in document["report"].items():
                    setattr(report, key, value)
                owners.clamped, owners.highest = document["folded"], document["highest"]
                os.utime(f"{path}/tree.json")
                return count
        return 0

    def store(self, image: Image, owners: Owners, report: Report, root_fd: int, record: str) -> None:
        """Keep a finished tree and its record, then remove old ones. A tree larger than max_size is not kept.

        Raises OciError that names the cache.
        """
        identities = [identity(layer) for layer in image.layers]
        key = _key(identities, owners)
        what = "cannot keep the layers in the cache"
        with self._as_oci_error(what), self._locked(fcntl.LOCK_SH, make=True) as here:
            path, temporary = f"{here}/{key}", f"{here}/.{key[:16]}.{os.urandom(4).hex()}"
            if os.path.lexists(path):
                return
            try:
                size = self._copy(temporary, root_fd, record)
                document = {
                    "version": _VERSION, "names": list(image.names), "layers": identities, "owners": owners.mode,
                    "size": size, "folded": owners.clamped, "highest": owners.highest, "report": attrs.asdict(report),
                }  # fmt: skip
                with open(f"{temporary}/tree.json", "x", encoding="utf-8") as out:
                    json.dump(document, out)
                try:
                    if size <= self.max_size:
                        os.rename(temporary, path)
                except OSError as error:
                    if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # another conversion was first
                        raise
            finally:
                remove_tree(temporary)
        with self._as_oci_error("cannot remove old layers from the cache"):
            self.prune(self.max_size)

    @contextlib.contextmanager
    def _as_oci_error(self, what: str, passed: tuple[int, ...] = ()) -> Iterator[None]:
        """Turn an OSError, except for the errnos in `passed`, into an OciError that says `what` and names the cache."""
        try:
            yield
        except OSError as error:
            if error.errno in passed:
                raise
            hint = HINTS["cache-full"].text if error.errno in _FULL else ""
            raise OciError.from_os(error, what, self.directory, hint) from None

    @staticmethod
    def _copy(temporary: str, root_fd: int, record: str) -> int:
        os.mkdir(temporary, 0o700)
        os.mkdir(f"{temporary}/rootfs", 0o700)
        target = os.open(f"{temporary}/rootfs", READ_DIRECTORY)
        try:
            size = clone_tree(root_fd, target)
        finally:
            os.close(target)
        with open(record, "rb") as old, open(f"{temporary}/base.mtree", "xb") as new:
            while chunk := old.read(1 << 18):
                new.write(chunk)
        return size

    def trees(self) -> list[Kept]:
        """Return the trees, the last used first."""
        if not os.path.lexists(self.directory):
            return []
        with self._opened() as here:
            return _list(here)

    def prune(self, max_size: int) -> list[Kept]:
        """Remove the trees that were not used for longest until at most `max_size` bytes are left; return them.

        It also removes what killed conversions left. The exclusive lock says that nobody is writing.
        """
        if not os.path.lexists(self.directory):
            return []
        removed = []
        with self._locked(fcntl.LOCK_EX) as here:
            left = [name for name in os.listdir(here) if name.startswith(".") and name != _LOCK]
            total = 0
            for tree in _list(here):
                total += tree.size
                if total > max_size or max_size == 0:
                    removed.append(tree)
            places = [f"{here}/{name}" for name in (*left, *(tree.key for tree in removed))]
            for place in places:  # refuse before the first removal, so that nothing is half done
                refuse_mounts(place)
            for place in places:
                remove_tree(place)
        return removed

    @contextlib.contextmanager
    def _locked(self, how: int, *, make: bool = False) -> Iterator[str]:
        with self._opened(make=make) as here:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(f"{here}/{_LOCK}", flags, 0o600)
            try:
                fcntl.flock(fd, how)
                yield here
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def _opened(self, *, make: bool = False) -> Iterator[str]:
        """Yield a path of the directory by its fd, after a check that only this user can write it.

        What others could write there would become part of a root file system. Raises OciError.
        """
        try:
            fd = open_private(self.directory, make=make)
        except PermissionError as error:
            what, hint = f"the cache is not used: {error.strerror}", HINTS["cache-elsewhere"].text
            raise OciError(what, self.directory, errno.EPERM, hint) from None
        except NotADirectoryError:
            what = "the cache is a symbolic link, or not a directory"
            raise OciError(what, self.directory, errno.ENOTDIR, HINTS["cache-elsewhere"].text) from None
        try:
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)


def _list(directory: str) -> list[Kept]:
    kept = []
    for key in os.listdir(directory):
        document = _read(f"{directory}/{key}") if not key.startswith(".") else None
        if document is not None:
            used = os.stat(f"{directory}/{key}/tree.json").st_mtime
            kept.append(Kept(key, document["names"], document["layers"], document["owners"], document["size"], used))
    return sorted(kept, key=lambda tree: tree.used, reverse=True)


def identity(layer: Layer) -> str:
    """Return a layer's digest: the one that the image names, else that of its stored bytes.

    The image's word is enough, because the layer that is in the cache was checked against it.
    """
    if layer.diff_id or layer.digest:
        return layer.diff_id or layer.digest
    if layer.blob is None:
        raise OciError("a layer is missing in the archive", layer.name)
    digest = hashlib.sha256()
    for chunk in layer.stored():
        digest.update(chunk)
    return f"stored:{digest.hexdigest()}"


def _key(identities: list[str], owners: Owners) -> str:
    how: list[Any] = [_VERSION, owners.mode, owners.uids, owners.gids, os.geteuid(), identities]
    return hashlib.sha256(json.dumps(how).encode()).hexdigest()


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(f"{path}/tree.json", encoding="utf-8") as file:
            document = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    return document if isinstance(document, dict) and document.get("version") == _VERSION else None
