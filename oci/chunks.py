"""Name the types of bytes on their way through the converter: chunks, and the buffers that they are read into."""

from __future__ import annotations

from collections.abc import Callable, Iterator

CHUNK = 1 << 20  # the most bytes in a chunk that is read from a file or pipe
PLAIN_CHUNK = 1 << 18  # the most bytes in a chunk that a decoder returns

# Bytes in order. A chunk may be a view of memory from NextBuffer: copy what must outlive the next chunk.
Chunks = Iterator[bytes]
# Returns memory to read into. A chunk that is a view of it is valid until the next call.
NextBuffer = Callable[[], memoryview]
# Called with the number of bytes that were read from the archive.
OnBytes = Callable[[int], None]
