"""Read, check and count bytes on their way from an archive to a tree.

Everything is an iterator of chunks (oci/chunks.py), so memory stays bounded. zlib, hashlib and read(2) release the GIL,
so a checksum may run in a thread beside decompression.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from oci.chunks import CHUNK
from oci.errors import OciError

if TYPE_CHECKING:
    from oci.chunks import Chunks, NextBuffer, OnBytes

_BEHIND = 4  # how many chunks may wait for the checksum's thread
_ALGORITHMS = {"sha256": 64, "sha384": 96, "sha512": 128}


def read_range(fd: int, offset: int, size: int, where: object, next_buffer: NextBuffer | None = None) -> Chunks:
    """Yield `size` bytes of a file from `offset` on, read by pread(2). Raises OciError if the file is shorter."""
    end = offset + size
    chunk: Any
    while offset < end:
        if next_buffer:
            memory = next_buffer()[: end - offset]
            chunk = memory[: os.preadv(fd, [memory], offset)]
        else:
            chunk = os.pread(fd, min(CHUNK, end - offset), offset)
        if not chunk:
            raise OciError("truncated", where)
        offset += len(chunk)
        yield chunk


def read_all(fd: int) -> Chunks:
    """Yield all bytes of a file or pipe."""
    while chunk := os.read(fd, CHUNK):
        yield chunk


def split_digest(digest: object, where: object) -> tuple[str, str]:
    """Return (algorithm, hex digits) of `sha256:...` (image-spec descriptor.md, "Digests"). Raises OciError."""
    algorithm, _, digits = digest.partition(":") if isinstance(digest, str) else ("", "", "")
    if _ALGORITHMS.get(algorithm) != len(digits) or digits.strip("0123456789abcdef"):
        raise OciError(f"{digest!r} is not a digest of a known kind", where, hint="sha256, sha384 and sha512 are known")
    return algorithm, digits


def verified(chunks: Chunks, digest: str, size: int, what: str, where: object, *, in_thread: bool = True) -> Chunks:
    """Yield the same chunks. Raises OciError at their end if digest ("" for any) or size (-1 for any) is wrong.

    Set in_thread=False if chunks are reused buffers: a thread for the checksum would read them too late.
    """
    algorithm, digits = split_digest(digest, where) if digest else ("", "")
    seen = 0
    with _Sum(algorithm, in_thread=in_thread) as sum_:
        for chunk in chunks:
            seen += len(chunk)
            if 0 <= size < seen:
                raise OciError(f"{what} is larger than the {size} bytes that its descriptor says", where)
            sum_.update(chunk)
            yield chunk
        if 0 <= size != seen:
            raise OciError(f"{what} has {seen} bytes, its descriptor says {size}", where)
        actual = sum_.hexdigest()
    if actual != digits:
        raise OciError(f"{what} has the digest {algorithm}:{actual}, not {digest}", where)


class _Sum:
    """A checksum over chunks, or none if the algorithm is "".

    in_thread: compute it in a thread from the second chunk on, which is waited for only at the end.
    """

    def __init__(self, algorithm: str, *, in_thread: bool) -> None:
        self._in_thread = in_thread
        self._sum = hashlib.new(algorithm) if algorithm else None
        self._queue: queue.Queue[bytes | None] | None = None
        self._thread: threading.Thread | None = None
        self._first = True

    def __enter__(self) -> _Sum:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def update(self, chunk: bytes) -> None:
        if self._sum is None:
            return
        if self._first or not self._in_thread:
            self._first = False
            self._sum.update(chunk)
            return
        if self._queue is None:
            self._queue = queue.Queue(_BEHIND)
            self._thread = threading.Thread(target=self._run, args=(self._queue, self._sum.update), daemon=True)
            self._thread.start()
        self._queue.put(chunk)

    def hexdigest(self) -> str:
        self._stop()
        return self._sum.hexdigest() if self._sum else ""

    def _stop(self) -> None:
        if self._queue is not None and self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._queue = self._thread = None

    @staticmethod
    def _run(chunks: queue.Queue[bytes | None], update: Callable[[bytes], None]) -> None:
        while (chunk := chunks.get()) is not None:
            update(chunk)


class Budget:
    """A limit for the bytes that an archive unpacks to, against decompression bombs."""

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self.used = 0

    def spend(self, chunks: Chunks, where: object) -> Chunks:
        """Yield the same chunks and count their bytes. Raises OciError above the limit."""
        for chunk in chunks:
            self.used += len(chunk)
            if self.used > self.max_size:
                raise OciError(f"more than {self.max_size} bytes unpacked", where, hint="--max-size sets the limit")
            yield chunk


def counted(chunks: Chunks, on_bytes: OnBytes | None) -> Chunks:
    """Yield the same chunks, and call `on_bytes` with the length of each."""
    if on_bytes is None:
        return chunks
    return _counted(chunks, on_bytes)


def _counted(chunks: Chunks, on_bytes: OnBytes) -> Chunks:
    for chunk in chunks:
        on_bytes(len(chunk))
        yield chunk


class StreamSource:
    """A tar.Source over an iterator of chunks."""

    def __init__(self, chunks: Chunks) -> None:
        self.position = 0
        self._chunks = chunks
        self._chunk: bytes | memoryview = b""
        self._at = 0

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes, or fewer at the end of the stream only."""
        end = self._at + size
        if end <= len(self._chunk):
            data = bytes(self._chunk[self._at : end])
            self._at = end
            self.position += size
            return data
        return b"".join(map(bytes, self.pieces(size)))  # copied, because a piece is valid only until the next

    def pieces(self, size: int) -> Iterable[memoryview]:
        """Yield the next `size` bytes in pieces, or fewer at the end of the stream only."""
        at = self._at
        if at + size <= len(self._chunk):  # most files are in one chunk
            self._at = at + size
            self.position += size
            return (memoryview(self._chunk)[at : at + size],) if size else ()
        return self._pieces(size)

    def _pieces(self, size: int) -> Iterator[memoryview]:
        while size:
            left = len(self._chunk) - self._at
            if not left:
                if not self._next():
                    return
                left = len(self._chunk)
            length = min(left, size)
            piece = memoryview(self._chunk)[self._at : self._at + length]
            self._at += length
            self.position += length
            size -= length
            yield piece

    def skip(self, size: int) -> int:
        """Skip `size` bytes; return how many were skipped."""
        end = self._at + size
        if end <= len(self._chunk):
            self._at = end
            self.position += size
            return size
        return sum(map(len, self.pieces(size)))

    def drain(self) -> None:
        """Read to the end, where `verified` checks the stream as a whole."""
        self.position += len(self._chunk) - self._at
        for chunk in self._chunks:
            self.position += len(chunk)
        self._chunk, self._at = b"", 0

    def _next(self) -> bool:
        self._chunk, self._at = next(self._chunks, b""), 0
        return bool(self._chunk)


class FileSource:
    """A tar.Source over a part of a file. What is skipped is not read."""

    def __init__(self, fd: int, size: int) -> None:
        self.position = 0
        self._fd = fd
        self._size = size

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes, or fewer at the end of the file only."""
        return b"".join(self.pieces(size))

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield the next `size` bytes in pieces, or fewer at the end of the file only."""
        while size and (chunk := os.pread(self._fd, min(size, CHUNK), self.position)):
            self.position += len(chunk)
            size -= len(chunk)
            yield memoryview(chunk)

    def skip(self, size: int) -> int:
        """Skip `size` bytes; return how many were skipped."""
        passed = max(0, min(size, self._size - self.position))
        self.position += passed
        return passed
