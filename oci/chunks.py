"""The words for bytes on their way through the converter: chunks, and the buffers that they are read into."""

from __future__ import annotations

from collections.abc import Callable, Iterator

CHUNK = 1 << 20  # bytes read at once
PLAIN_CHUNK = 1 << 18  # bytes that a decoder gives at once

# Bytes in order. A chunk may be a part of a buffer of NextBuffer's: who keeps it beyond the next one copies it.
Chunks = Iterator[bytes]
# Return memory to read into; a chunk that is a part of it is good until this is called again.
NextBuffer = Callable[[], memoryview]
# Told of the number of bytes of the archive that were read.
OnBytes = Callable[[int], None]
