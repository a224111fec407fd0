"""Decompressors, chosen by magic bytes and never by names.

Each is a function from an iterator of compressed chunks to an iterator of plain chunks, so that memory stays
bounded. A stream that ends early, or holds something else behind its end, is an OciError.
"""

from __future__ import annotations

import importlib
import itertools
import os
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

from oci.errors import OciError

CHUNK = 1 << 18
_PIECE = 1 << 16
MAGIC_SIZE = 8  # bytes needed by `detect`
_LZMA_MEMORY = 64 << 20  # a dictionary above this would break the promise about memory

Chunks = Iterator[bytes]


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
                plain = decoder.decompress(data, CHUNK)
                if plain:
                    yield plain
                data = b""
                while not decoder.eof and not decoder.needs_input:
                    plain = decoder.decompress(b"", CHUNK)
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
    except ImportError:
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
    for name in ("compression.zstd", "backports.zstd"):
        try:
            zstd = importlib.import_module(name)
        except ImportError:
            continue
        return _members(chunks, zstd.ZstdDecompressor, b"", (zstd.ZstdError, EOFError), "zstd", where)
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        return _program("zstd", ["zstd", "-dc", "-q"], chunks, where)
    return _zstandard(zstandard, chunks, where)


def _zstandard(zstandard: Any, chunks: Chunks, where: object) -> Chunks:
    """The `zstandard` package: its stream reader bounds memory but takes a truncated stream for a whole one.

    So a frame of random bytes is put behind the stream: it comes out only if the last frame before it was whole.
    """
    token = os.urandom(16)
    source = _Source(itertools.chain(chunks, [zstandard.ZstdCompressor().compress(token)]))
    reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(source, CHUNK, read_across_frames=True)
    held = b""
    try:
        while plain := reader.read(CHUNK):
            held += plain
            if len(held) > len(token):
                yield held[: -len(token)]
                held = held[-len(token) :]
    except zstandard.ZstdError as error:
        raise OciError(f"broken or truncated zstd stream ({error})", where) from None
    if held != token:
        raise OciError("truncated zstd stream", where)


class _Source:
    """Chunks as a file to read from."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        data = self._rest or next(self._chunks, b"")
        self._rest = data[size:]
        return data[:size]


def _unlz4(chunks: Chunks, where: object) -> Chunks:
    try:
        lz4 = importlib.import_module("lz4.frame")
    except ImportError:
        return _program("lz4", ["lz4", "-dc", "-q"], chunks, where)

    return _members(chunks, lz4.LZ4FrameDecompressor, b"\x04\x22\x4d\x18", (RuntimeError,), "lz4", where)


def _program(what: str, command: list[str], chunks: Chunks, where: object) -> Chunks:
    """A filter program beside us, fed by a thread."""
    import shutil

    if not shutil.which(command[0]):
        hint = f"install the Python package {'zstandard' if what == 'zstd' else what} or the program {command[0]}"
        raise OciError(f"{what} compression needs a library or a program", where, hint=hint)
    return _run_program(what, command, chunks, where)


def _run_program(what: str, command: list[str], chunks: Chunks, where: object) -> Chunks:
    import subprocess
    import threading

    failure: list[BaseException] = []
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
    assert process.stdin and process.stdout and process.stderr
    feeder = threading.Thread(target=_feed, args=(chunks, process.stdin, failure), daemon=True)
    feeder.start()
    try:
        while plain := process.stdout.read(CHUNK):
            yield plain
        message = process.stderr.read(1000).decode("utf-8", "replace").strip()
        broken = process.wait() != 0 or bool(message)
    finally:
        process.kill()  # does nothing once it was waited for
        process.wait()
        feeder.join()
        process.stdout.close()
        process.stderr.close()
    if failure:
        raise failure[0]
    if broken:
        raise OciError(f"broken or truncated {what} stream ({message})", where)


def _feed(chunks: Chunks, sink: IO[bytes], failure: list[BaseException]) -> None:
    try:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(sink.fileno(), view) :]
    except BrokenPipeError:
        pass
    except BaseException as error:
        failure.append(error)
    finally:
        sink.close()


_KINDS: dict[str, Callable[[Chunks, object], Chunks]] = {
    "gzip": _gunzip,
    "bzip2": _bunzip2,
    "xz": _unxz,
    "zstd": _unzstd,
    "lz4": _unlz4,
}
