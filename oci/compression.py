"""Decompress streams, and compress what is written. The first bytes say how a stream that is read is compressed.

A decompressor takes an iterator of compressed chunks and returns an iterator of plain chunks, so memory stays bounded.
It raises OciError for a stream that ends early, or has other data behind its end. What is written is compressed as the
name of the file says.
"""

from __future__ import annotations

import contextlib
import importlib
import zlib
from collections.abc import Callable
from typing import IO, Any

from oci.chunks import PLAIN_CHUNK, Chunks
from oci.errors import OciError
from oci.hints import HINTS

_PIECE = 1 << 16
MAGIC_SIZE = 8  # bytes that `detect` needs
_LZMA_MEMORY = 64 << 20  # bytes; a stream that asks for a larger dictionary is refused, because memory is bounded


def detect(head: bytes) -> str:
    """Return how a stream with these first bytes is compressed: gzip, bzip2, xz, zstd, lz4, or "" for none of them."""
    for magic, name in (
        (b"\x1f\x8b", "gzip"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x04\x22\x4d\x18", "lz4"),
    ):
        if head.startswith(magic):
            return name
    if len(head) >= 4 and 0x50 <= head[0] <= 0x5F and head[1:4] == b"\x2a\x4d\x18":
        return "zstd"  # a skippable frame, RFC 8878 section 3.1.2; zstd:chunked may begin with one
    return ""


def kind_of_name(path: str) -> str:
    """Return how an archive with this name is to be compressed: a word of `detect`, "" for not at all."""
    for kind, endings in _NAMES.items():
        if path.endswith(endings):
            return kind
    return ""


def check_library(kind: str, where: object) -> None:
    """Raise OciError if compression of this kind needs a library that is not installed."""
    if kind == "zstd":
        _zstd(where)
    elif kind == "lz4":
        _lz4(where)


def compressing(kind: str, file: IO[bytes], where: object) -> contextlib.AbstractContextManager[IO[bytes]]:
    """Return a file that compresses what is written to it into `file`, which stays open. Raises OciError.

    kind: a word of `detect`, "" for none. The result depends on the data alone, so that archives are reproducible.
    """
    if not kind:
        return contextlib.nullcontext(file)
    opened: contextlib.AbstractContextManager[IO[bytes]] = _WRITERS[kind](file, where)
    return opened


def decompress(kind: str, chunks: Chunks, where: object) -> Chunks:
    """Return the plain bytes of `chunks`, compressed as `kind` says: a word of `detect`, "" for plain already."""
    if not kind:
        return chunks
    return _KINDS[kind](chunks, where)


def _members(
    chunks: Chunks, new: Callable[[], Any], magic: bytes, broken: tuple[type[Exception], ...], what: str, where: object
) -> Chunks:
    """Decompress concatenated members. A decoder has decompress, eof and unused_data, as bz2.BZ2Decompressor has."""
    decoder = None
    data = b""
    for chunk in _pieces(chunks):
        data = data + chunk if data else chunk
        while data:
            if decoder is None:
                if len(data) < len(magic):
                    break
                if not data.startswith(magic):
                    if data.strip(b"\0"):
                        raise OciError(f"broken {what} stream: other data behind its end", where)
                    data = b""
                    break
                decoder = new()
            try:
                plain = decoder.decompress(data, PLAIN_CHUNK)
                if plain:
                    yield plain
                data = b""
                while not decoder.eof and not decoder.needs_input:
                    plain = decoder.decompress(b"", PLAIN_CHUNK)
                    if plain:
                        yield plain
            except broken as error:
                raise OciError(f"broken {what} stream ({error})", where) from None
            if decoder.eof:
                data = decoder.unused_data or b""  # lz4's decoder has None for no data
                decoder = None
    if decoder is not None or data.strip(b"\0"):
        raise OciError(f"truncated {what} stream", where)


def _pieces(chunks: Chunks) -> Chunks:
    """Cut chunks into smaller ones, because a decoder copies the rest of its input whenever its output is full."""
    for chunk in chunks:
        if len(chunk) <= _PIECE:
            yield chunk
        else:
            yield from (chunk[start : start + _PIECE] for start in range(0, len(chunk), _PIECE))


class _Gzip:
    """A decoder of one gzip member, with the interface of bz2.BZ2Decompressor."""

    def __init__(self, inflate: Any) -> None:
        self._inflate = inflate

    def decompress(self, data: bytes, limit: int) -> bytes:
        plain: bytes = self._inflate.decompress(data or self._inflate.unconsumed_tail, limit)
        return plain

    @property
    def eof(self) -> bool:
        return bool(self._inflate.eof)

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inflate.unused_data)


def _gunzip(chunks: Chunks, where: object) -> Chunks:
    try:
        fast = importlib.import_module("isal.isal_zlib")  # an optional package, twice as fast as zlib
    except ModuleNotFoundError:
        return _members(chunks, lambda: _Gzip(zlib.decompressobj(wbits=31)), b"\x1f\x8b", (zlib.error,), "gzip", where)
    new = fast.decompressobj
    return _members(chunks, lambda: _Gzip(new(wbits=31)), b"\x1f\x8b", (fast.error, zlib.error), "gzip", where)


def _bunzip2(chunks: Chunks, where: object) -> Chunks:
    import bz2

    return _members(chunks, bz2.BZ2Decompressor, b"BZh", (OSError, ValueError), "bzip2", where)


def _unxz(chunks: Chunks, where: object) -> Chunks:
    import lzma

    def new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)

    return _members(chunks, new, b"\xfd7zXZ\x00", (lzma.LZMAError,), "xz", where)


def _zstd(where: object) -> Any:
    for name in ("compression.zstd", "backports.zstd"):  # one module: in the standard library from Python 3.14 on
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    raise OciError("zstd compression needs a library", where, hint=HINTS["no-zstd"].text)


def _lz4(where: object) -> Any:
    try:
        return importlib.import_module("lz4.frame")
    except ModuleNotFoundError:
        raise OciError("lz4 compression needs a library", where, hint=HINTS["no-lz4"].text) from None


def _unzstd(chunks: Chunks, where: object) -> Chunks:
    zstd = _zstd(where)
    return _members(chunks, zstd.ZstdDecompressor, b"", (zstd.ZstdError, EOFError), "zstd", where)


def _unlz4(chunks: Chunks, where: object) -> Chunks:
    new = _lz4(where).LZ4FrameDecompressor
    return _members(chunks, new, b"\x04\x22\x4d\x18", (RuntimeError,), "lz4", where)


def _to_gzip(file: IO[bytes], _: object) -> Any:
    import gzip

    return gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0, compresslevel=6)


def _to_bzip2(file: IO[bytes], _: object) -> Any:
    import bz2

    return bz2.BZ2File(file, "wb")


def _to_xz(file: IO[bytes], _: object) -> Any:
    import lzma

    return lzma.LZMAFile(file, "wb")


_KINDS: dict[str, Callable[[Chunks, object], Chunks]] = {
    "gzip": _gunzip,
    "bzip2": _bunzip2,
    "xz": _unxz,
    "zstd": _unzstd,
    "lz4": _unlz4,
}
_NAMES = {
    "gzip": (".tar.gz", ".tgz"),
    "bzip2": (".tar.bz2", ".tbz2"),
    "xz": (".tar.xz", ".txz"),
    "zstd": (".tar.zst", ".tzst"),
    "lz4": (".tar.lz4",),
}
_WRITERS: dict[str, Callable[[IO[bytes], object], Any]] = {
    "gzip": _to_gzip,
    "bzip2": _to_bzip2,
    "xz": _to_xz,
    "zstd": lambda file, where: _zstd(where).ZstdFile(file, "wb"),
    "lz4": lambda file, where: _lz4(where).LZ4FrameFile(file, "wb"),
}
