"""Compute TarSum, the checksum of a layer's members that docker 1.5 to 1.9 wrote into a layer's json.

The sum of a member covers the fields of its header, as text, and its contents. The sum of a layer covers the sorted
sums of its members. tarsum.v1, called dev before it was finished, leaves times out and includes extended attributes.
"""

from __future__ import annotations

import hashlib
import queue
import re
import threading
from collections.abc import Iterator

from oci import tar
from oci.chunks import Chunks
from oci.errors import OciError
from oci.stream import StreamSource

FORM = re.compile(r"(tarsum\.(?:v1|dev)\+sha256):([0-9a-f]{64})")
_BEHIND = 4  # how many chunks may wait for the sum's thread


def checked(chunks: Chunks, said: str, where: object) -> Chunks:
    """Yield the same chunks of a plain tar while a thread computes the sum. Raises OciError if it is not `said`."""
    pieces: queue.Queue[bytes | None] = queue.Queue(_BEHIND)
    result: list[str | OciError] = []
    thread = threading.Thread(target=_compute, args=(iter(pieces.get, None), where, result), daemon=True)
    thread.start()
    try:
        for chunk in chunks:
            pieces.put(chunk)
            yield chunk
    finally:
        pieces.put(None)
        thread.join()
    label, _, digits = said.partition(":")
    if isinstance(result[0], OciError):
        raise result[0]
    if result[0] != digits:
        raise OciError(f"the layer has the checksum {label}:{result[0]}, its json says {said}", where)


def _compute(chunks: Iterator[bytes], where: object, result: list[str | OciError]) -> None:
    try:
        result.append(compute(chunks, where))
    except OciError as error:
        result.append(error)
    finally:
        for _ in chunks:  # after a failure: the other side must not wait for a place in the queue
            pass


def compute(chunks: Iterator[bytes], where: object) -> str:
    """Return the sum of a layer in hexadecimal digits. Raises OciError."""
    source = StreamSource(chunks)
    sums = []
    for member in tar.members(source, where):
        digest = hashlib.sha256(_words(member))
        for _, piece in tar.contents(source, member):
            digest.update(piece)
        sums.append(digest.hexdigest())
    return hashlib.sha256("".join(sorted(sums)).encode()).hexdigest()


def _words(member: tar.Member) -> bytes:
    header = member.header
    numbers = b"mode%d" % _octal(header[100:108]), b"uid%d" % member.uid, b"gid%d" % member.gid, b"size%d" % member.size
    texts = (
        b"typeflag" + header[156:157], b"linkname" + member.link,
        b"uname" + _text(header[265:297]), b"gname" + _text(header[297:329]),
    )  # fmt: skip
    devices = b"devmajor%d" % _octal(header[329:337]), b"devminor%d" % _octal(header[337:345])
    attributes = (name + value for name, value in sorted(member.xattrs.items()))
    return b"".join((b"name" + member.said, *numbers, *texts, *devices, *attributes))


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    return int(digits, 8) if digits.isdigit() else 0


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]
