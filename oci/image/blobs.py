"""Open archives for reading by name: a tar, or a directory. Compressed tars and pipes go through a spool file.

Nothing is extracted here. The names in an archive are keys of a table, and links are followed inside that table only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import posixpath
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from oci import compression, tar
from oci.chunks import Chunks, NextBuffer, OnBytes
from oci.errors import OciError, printable
from oci.root import READ_DIRECTORY, Root
from oci.stream import Budget, FileSource, counted, read_all, read_range, split_digest, verified

MAX_SIZE = 64 << 30  # default of --max-size: bytes, all layers unpacked
MAX_MEMBERS = 200_000  # members of the outer archive
MAX_JSON = 8 << 20
_MAX_LINKS = 16


@attrs.frozen
class Blob:
    """A part of an archive: `size` bytes at `offset` of an open file."""

    fd: int
    offset: int
    size: int
    where: str

    def chunks(self, on_bytes: OnBytes | None = None, next_buffer: NextBuffer | None = None) -> Chunks:
        """Yield the bytes as they are stored, read into memory of `next_buffer` if that is given. Raises OciError."""
        return counted(read_range(self.fd, self.offset, self.size, self.where, next_buffer), on_bytes)

    def compression(self) -> str:
        """Return how the bytes are compressed: a word of compression.detect."""
        return compression.detect(os.pread(self.fd, min(self.size, compression.MAGIC_SIZE), self.offset))

    def read(self, limit: int, what: str) -> bytes:
        """Return all bytes. Raises OciError if there are more than `limit`."""
        if self.size > limit:
            raise OciError(f"{what} is larger than {limit} bytes", self.where)
        return b"".join(self.chunks())


class Archive:
    """An open image archive, which finds blobs by name. A context manager. source: what messages call it."""

    def __init__(self, source: str, fd: int, find: Callable[[str], Blob | None], names: list[str]) -> None:
        self.source = source
        self.names = names
        self._fd = fd
        self._find = find

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; its blobs cannot be read afterwards."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def find(self, name: str) -> Blob | None:
        """Return the file of that name, None if there is none. Links are followed inside the archive only."""
        return self._find(posixpath.normpath(name))

    def place(self, name: str) -> str:
        """Return what messages call a member."""
        return f"{self.source}: {printable(name)}"

    def blob(self, digest: object) -> Blob | None:
        """Return the blob of a digest, in blobs/ (image-spec image-layout.md) or beside the manifest, or None."""
        algorithm, digits = split_digest(digest, self.source)
        return self.find(f"blobs/{algorithm}/{digits}") or self.find(digits)

    def json(self, name: str, what: str, digest: str = "", size: int = -1) -> Any:
        """Return a file as JSON, checked against digest and size. Raises OciError if it is missing or is not JSON."""
        blob = self.find(name)
        if blob is None:
            raise OciError(f"{what} is missing in the archive", self.place(name))
        if blob.size > MAX_JSON:
            raise OciError(f"{what} is larger than {MAX_JSON} bytes", self.place(name))
        return read_json(b"".join(verified(blob.chunks(), digest, size, what, self.place(name))), what, blob.where)


def read_json(data: bytes, what: str, where: object) -> Any:
    """Parse untrusted JSON. Raises OciError; NaN and the like are refused."""
    try:
        return json.loads(data, parse_constant=_refuse)
    except RecursionError:
        raise OciError(f"{what} is nested too deeply", where) from None
    except ValueError as error:
        raise OciError(f"{what} is not JSON: {error}", where) from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not allowed")


def open_archive(source: str, spool_directory: str = "", max_size: int = MAX_SIZE) -> Archive:
    """Open a file, a directory, or standard input ("-"). Raises OciError.

    What cannot be read at random (compressed, a pipe) is first copied to an unlinked file in `spool_directory`.
    """
    if source != "-" and os.path.isdir(source):
        return _open_directory(source)
    label = "standard input" if source == "-" else source
    fd = open_seekable(source, spool_directory, max_size)
    try:
        blobs, links = _index(fd, label)
    except BaseException:
        os.close(fd)
        raise

    def find(name: str) -> Blob | None:
        for _ in range(_MAX_LINKS):
            if name in blobs or name not in links:
                return blobs.get(name)
            name = links[name]
        return None

    return Archive(label, fd, find, [*blobs, *links])


def open_input(source: str) -> int:
    """Open a file, or standard input for "-", for reading; return the fd. Raises OciError."""
    try:
        return os.dup(0) if source == "-" else os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        from oci.absent import explain_absent

        raise OciError.from_os(error, "cannot open the archive", source, explain_absent(source)) from None
    except OSError as error:
        raise OciError.from_os(error, "cannot open the archive", source) from None


def plain_chunks(fd: int, where: str) -> tuple[str, Chunks]:
    """Return (compression, the decompressed chunks) of an input."""
    chunks = _errors_named(read_all(fd), where)
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= compression.MAGIC_SIZE:
            break
    kind = compression.detect(head)
    return kind, compression.decompress(kind, _chain(head, chunks), where)


def open_seekable(source: str, spool_directory: str, max_size: int = MAX_SIZE) -> int:
    """Return an fd of the plain tar that pread(2) can read: the file itself, or a spool file. Raises OciError."""
    label = "standard input" if source == "-" else source
    fd = open_input(source)
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, fd)
        if is_at_start(fd):
            try:
                if not compression.detect(os.pread(fd, compression.MAGIC_SIZE, 0)):
                    undo.pop_all()
                    return fd
            except OSError as error:
                raise OciError.from_os(error, "cannot read the archive", label) from None
        _, chunks = plain_chunks(fd, label)
        return _spool(Budget(max_size).spend(chunks, label), spool_directory)


def is_at_start(fd: int) -> bool:
    """Return whether the fd can be read by pread(2), and nothing of it was read yet."""
    try:
        return os.lseek(fd, 0, os.SEEK_CUR) == 0
    except OSError as error:
        if error.errno != errno.ESPIPE:
            raise
        return False


def _chain(head: bytes, chunks: Chunks) -> Chunks:
    if head:
        yield head
    yield from chunks


def _errors_named(chunks: Chunks, where: str) -> Chunks:
    try:
        yield from chunks
    except OSError as error:
        raise OciError.from_os(error, "cannot read the archive", where) from None


def _spool(chunks: Chunks, directory: str) -> int:
    import tempfile

    if not directory or not os.access(directory, os.W_OK):
        directory = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
            return os.dup(file.fileno())
    except OSError as error:
        raise OciError.from_os(error, "cannot copy the archive to a spool file", directory) from None


def _index(fd: int, source: str) -> tuple[dict[str, Blob], dict[str, str]]:
    """Return ({name: blob}, {name: target of a link}) of the outer tar. Names are normalised; the last one wins."""
    blobs: dict[str, Blob] = {}
    links: dict[str, str] = {}
    for number, member in enumerate(tar.members(FileSource(fd, os.fstat(fd).st_size), source)):
        if number >= MAX_MEMBERS:
            raise OciError(f"more than {MAX_MEMBERS} members", source, hint="is it a root file system tar?")
        name = posixpath.normpath(os.fsdecode(member.name).lstrip("/"))
        blobs.pop(name, None)
        links.pop(name, None)
        if member.type == tar.FILE and member.sparse is None:
            blobs[name] = Blob(fd, member.offset, member.stored, f"{source}: {printable(name)}")
        elif member.type == tar.HARDLINK:
            links[name] = posixpath.normpath(os.fsdecode(member.link).lstrip("/"))
        elif member.type == tar.SYMLINK:
            links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), os.fsdecode(member.link)))
    return blobs, links


def _open_directory(source: str) -> Archive:
    try:
        fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OciError.from_os(error, "cannot open the directory", source) from None
    files: dict[str, Blob | None] = {}
    root = Root(fd)

    def find(name: str) -> Blob | None:
        if name not in files:
            opened = root.open_file(os.fsencode(name))
            where = f"{source}: {printable(name)}"
            files[name] = None if opened is None else Blob(opened, 0, os.fstat(opened).st_size, where)
        return files[name]

    return _DirectoryArchive(source, root, find, files)


class _DirectoryArchive(Archive):
    """An archive that is a directory. It closes each file that it opened."""

    def __init__(
        self, source: str, root: Root, find: Callable[[str], Blob | None], files: dict[str, Blob | None]
    ) -> None:
        super().__init__(source, root.fd, find, list(_list(root.fd)))
        self._root = root
        self._files = files

    def close(self) -> None:
        self._root.close()
        for blob in self._files.values():
            if blob is not None:
                os.close(blob.fd)
        self._files.clear()
        super().close()


def _list(fd: int) -> Iterator[str]:
    """Yield names two levels deep, because no layout needs more."""
    for name in os.listdir(fd):
        yield name
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            below = os.open(name, READ_DIRECTORY, dir_fd=fd)
            try:
                yield from (f"{name}/{entry}" for entry in os.listdir(below))
            finally:
                os.close(below)
