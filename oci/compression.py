"""Decompressors, chosen by magic bytes and never by names.

Each is a function from an iterator of compressed chunks to an iterator of plain chunks, so that memory stays
bounded. A stream that ends early, or holds something else behind its end, is an OciError.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Any

from oci.chunks import PLAIN_CHUNK, Chunks
from oci.errors import OciError

_PIECE = 1 << 16
MAGIC_SIZE = 8  # bytes needed by `detect`
_LZMA_MEMORY = 64 << 20  # a dictionary above this would break the promise about memory


def detect(head: bytes) -> str:
    """The compression of a stream by its first bytes: gzip, bzip2, xz, zstd, lz4, or "" for none of them."""
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


def decompress(kind: str, chunks: Chunks, where: object) -> Chunks:
    """The plain bytes of `chunks`, which are compressed by `kind` as `detect` names it ("" passes through)."""
    if not kind:
        return chunks
    return _KINDS[kind](chunks, where)


def _members(
    chunks: Chunks, new: Callable[[], Any], magic: bytes, broken: tuple[type[Exception], ...], what: str, where: object
) -> Chunks:
    """Concatenated compressed members; each decoder has decompress/eof/unused_data as in bz2 and lzma."""
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
                data = decoder.unused_data or b""  # lz4 says None
                decoder = None
    if decoder is not None or data.strip(b"\0"):
        raise OciError(f"truncated {what} stream", where)


def _pieces(chunks: Chunks) -> Chunks:
    """Smaller pieces: a decoder copies the rest of its input each time that its output is full."""
    for chunk in chunks:
        if len(chunk) <= _PIECE:
            yield chunk
        else:
            yield from (chunk[start : start + _PIECE] for start in range(0, len(chunk), _PIECE))


class _Gzip:
    """One gzip member with the interface of bz2.BZ2Decompressor."""

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
        fast = importlib.import_module("isal.isal_zlib")  # twice as fast, where it is installed
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


def _unzstd(chunks: Chunks, where: object) -> Chunks:
    for name in ("compression.zstd", "backports.zstd"):  # the same module: in the standard library from Python 3.14 on
        try:
            zstd = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        return _members(chunks, zstd.ZstdDecompressor, b"", (zstd.ZstdError, EOFError), "zstd", where)
    raise OciError(
        "zstd compression needs a library", where, hint="pip install backports.zstd, or Python 3.14 which has it"
    )


def _unlz4(chunks: Chunks, where: object) -> Chunks:
    try:
        lz4 = importlib.import_module("lz4.frame")
    except ModuleNotFoundError:
        raise OciError("lz4 compression needs a library", where, hint="pip install lz4") from None
    return _members(chunks, lz4.LZ4FrameDecompressor, b"\x04\x22\x4d\x18", (RuntimeError,), "lz4", where)


_KINDS: dict[str, Callable[[Chunks, object], Chunks]] = {
    "gzip": _gunzip,
    "bzip2": _bunzip2,
    "xz": _unxz,
    "zstd": _unzstd,
    "lz4": _unlz4,
}
