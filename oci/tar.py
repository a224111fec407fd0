"""Read tar archives strictly: POSIX ustar and pax, GNU, V7, all kinds of sparse files.

`tarfile` of the standard library is 3 to 9 times slower, ends silently at a broken header and, in Python 3.11.2, has no
extraction filters. The tests compare this module with it. Formats: tar(5), POSIX.1-2017 pax, "GNU tar internals".
"""

from __future__ import annotations

import base64
import itertools
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from oci.errors import OciError

BLOCK = 512
MAX_HEADER = 1 << 20  # bytes of one pax header, long name or sparse map
MAX_NAME = 4096  # PATH_MAX of the kernel, with its NUL
MAX_SPARSE = 1 << 16  # pieces of one sparse file
_KNOWN = 1024

# name mode uid gid size mtime checksum type link magic+version uname gname major minor prefix rest
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
# The same for _quick: name, mode+uid+gid, size, its last byte, mtime, its last byte, checksum, the rest from type on.
_PLAIN = struct.Struct("100s24s11sc11sc6s2x356s").unpack

FILE, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = "f", "h", "l", "c", "b", "d", "p"
_TYPES = {b"0": FILE, b"\0": FILE, b"7": FILE, b"S": FILE, b"1": HARDLINK, b"2": SYMLINK}
_TYPES |= {b"3": CHARACTER, b"4": BLOCK_DEVICE, b"5": DIRECTORY, b"D": DIRECTORY, b"6": FIFO}
_NONE: dict[bytes, bytes] = {}


class Source(Protocol):
    """Bytes of an archive, read once from the beginning."""

    position: int  # bytes read or skipped so far

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes, or fewer at the end of the stream only."""

    def skip(self, size: int) -> int:
        """Skip `size` bytes; return how many were skipped, fewer at the end of the stream only."""

    def pieces(self, size: int) -> Iterable[memoryview]:
        """Return the next `size` bytes in pieces of any length, or fewer at the end of the stream only."""


class Member:
    """One member of an archive.

    name, link: without trailing slashes; type: one of the constants above; mode: the permission bits; uid, gid: as in
    the archive; size: bytes of the whole file, holes included; mtime: ns since the epoch; device: (major, minor);
    xattrs: name -> value; stored: bytes of contents in the archive; offset: where these begin in the archive; sparse:
    [(offset, length), ...] of the parts that are not holes, None for a file without holes; header, said: the header
    block and the name exactly as they are in the archive.
    """

    # Values of most members, on the class because setting them for each member costs time.
    type: str = FILE
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = _NONE
    sparse: list[tuple[int, int]] | None = None

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    stored: int
    offset: int
    header: bytes
    said: bytes


def members(source: Source, where: object) -> Iterator[Member]:
    """Yield the members of the archive, in order. Raises OciError for a broken archive.

    Take a member's contents, by `contents`, before the next member; what was not taken is skipped. An archive may end
    without its two blocks of zeros, but not in the middle of a member.
    """
    return _Reader(source, where).members()


def contents(source: Source, member: Member) -> Iterator[tuple[int, memoryview]]:
    """Yield (offset in the file, bytes) of a regular file's data; holes are left out."""
    for offset, length in member.sparse if member.sparse is not None else [(0, member.stored)]:
        for piece in source.pieces(length):
            yield offset, piece
            offset += len(piece)


class _Reader:
    def __init__(self, source: Source, where: object) -> None:
        self._source = source
        self._where = where
        self._global: dict[bytes, bytes] = {}
        self._known: dict[bytes, tuple[int, int, int]] = {}
        # For _quick: the header of the last plain file from `type` on, and the sum of its bytes for the checksum.
        self._end, self._end_sum = b"", 0
        self._last_time = b"", 0
        self._first = b""  # the first block, until it was read as a header

    def members(self) -> Iterator[Member]:
        source = self._source
        read = source.read
        padding = 0  # bytes after the previous member, read together with the next header
        while True:
            data = read(padding + BLOCK)
            block = data[padding:]
            member = self._quick(block) if len(block) == BLOCK else None
            if member is None:
                if len(data) < padding:
                    raise self._fail("truncated in the middle of a member")
                self._first = block if source.position <= BLOCK else b""
                header = self._header(block)
                member = self._member(header) if header is not None else None
                if member is None:
                    return
            yield member
            end = member.offset + member.stored
            padding = end + -end % BLOCK - source.position
            if padding >= BLOCK:  # the caller did not take its contents
                self._skip(padding)
                padding = 0

    def _quick(self, header: bytes) -> Member | None:
        """Return the member for a plain file whose header ends like that of an earlier one, as most headers do.

        Return None for every other header, also for a broken one, which `_member` then reads or refuses.
        """
        name, described, size, size_end, time, time_end, checksum, end = _PLAIN(header)
        known = self._known.get(described)
        if end != self._end or known is None or not size_end == time_end == b"\0" or not (size + checksum).isdigit():
            return None
        name_end = name.find(b"\0")
        if name_end < 1 or name[name_end - 1] == 0x2F:
            return None
        last, mtime = self._last_time
        if time != last:
            if not time.isdigit():
                return None
            mtime = self._number(time, "time") * 1_000_000_000
            self._last_time = time, mtime
        try:
            # The low half of Adler-32 is 1 + the sum of the bytes (RFC 1950), computed in C.
            if (zlib.adler32(header[:148]) & 0xFFFF) + self._end_sum != int(checksum, 8):
                return None
            stored = int(size, 8)
        except ValueError:
            return None
        member = Member()
        member.name = member.said = name[:name_end]
        member.header = header
        member.mode, member.uid, member.gid = known
        member.mtime = mtime
        member.size = member.stored = stored
        member.offset = self._source.position
        return member

    def _fail(self, what: str) -> OciError:
        if self._first:
            from oci.foreign import describe

            if known := describe(self._first):
                is_bundles = str(self._where).endswith("config.json")
                hint = "a bundle is the directory that holds it" if is_bundles else ""
                return OciError(f"not a tar archive: it looks like {known}", self._where, hint=hint)
        return OciError(f"broken tar archive: {what}", f"{self._where} at byte {self._source.position}")

    def _skip(self, size: int) -> None:
        if size and self._source.skip(size) != size:
            raise self._fail("truncated in the middle of a member")

    def _header(self, header: bytes) -> bytes | None:
        """Return the block if it is a header, None if the archive ends here. Raises OciError."""
        if len(header) == BLOCK and header[0]:
            return header
        if not header:
            return None
        if len(header) < BLOCK:
            raise self._fail("truncated header")
        if header.strip(b"\0"):
            return header  # an empty name; a pax header before it may have the real one
        if self._source.read(BLOCK).strip(b"\0"):
            raise self._fail("data behind a lone block of zeros")
        return None

    def _member(self, header: bytes) -> Member | None:
        """Return the member that begins with `header`, after reading its extension headers. None at the end."""
        pax = self._global
        long_name = long_link = b""
        while True:
            fields = _HEADER.unpack_from(header)
            self._check(header, fields[6])
            kind = fields[7]
            if kind not in b"xXgLKV":
                return self._build(header, fields, pax, long_name, long_link)
            data = self._extension(fields)
            if kind in b"xX":
                pax = {**self._global, **self._pax(data)}
            elif kind == b"g":
                self._global = {**self._global, **self._pax(data)}
                self._end = b""  # a pax header may apply to the next headers, so _quick must not read them
                pax = {**self._global, **pax}
            elif kind == b"L":
                long_name = data.split(b"\0", 1)[0]
            elif kind == b"K":
                long_link = data.split(b"\0", 1)[0]
            following = self._header(self._source.read(BLOCK))
            if following is None:
                if kind in b"gV":
                    return None
                raise self._fail("an extension header without a member")
            header = following

    def _check(self, header: bytes, stored: bytes) -> None:
        """Check the sum of the header's bytes, its own eight counted as blanks. Old tars summed signed bytes."""
        want = self._number(stored, "checksum")
        blank = header[:148] + b"        " + header[156:]
        total = sum(blank)
        if want not in (total, total - 256 * sum(byte > 127 for byte in blank)):
            raise self._fail("wrong checksum, or not a tar archive")

    def _extension(self, fields: tuple[bytes, ...]) -> bytes:
        size = self._number(fields[4], "size")
        if size > MAX_HEADER:
            raise self._fail(f"an extension header of {size} bytes")
        data = self._source.read(size)
        if len(data) < size:
            raise self._fail("truncated extension header")
        self._skip(-size % BLOCK)
        return data

    def _number(self, field: bytes, what: str, signed: bool = False) -> int:
        """Return a number: octal digits between blanks and NULs, or base 256 (GNU) if the first bit is set."""
        digits = field.strip(b" \0")
        if digits.isdigit():
            try:
                return int(digits, 8)
            except ValueError:
                raise self._fail(f"the {what} is not an octal number") from None
        if not digits:
            return 0
        if field[0] & 0x80:  # the bits after that one are a number in two's complement
            number = int.from_bytes(field) & (1 << 8 * len(field) - 1) - 1
            if field[0] & 0x40:
                number -= 1 << 8 * len(field) - 1
            if number >= 0:
                return number
        elif digits.startswith(b"-") and digits[1:].isdigit():
            number = -int(digits[1:].translate(None, b"89") or b"0", 8)
        elif (head := digits.split(b"\0", 1)[0].rstrip(b" ")).isdigit():
            return self._number(head, what)  # in V7 archives anything may follow the NUL
        else:
            raise self._fail(f"the {what} is not a number")
        if not signed:
            raise self._fail(f"a negative {what}")
        return number

    def _pax(self, data: bytes) -> dict[bytes, bytes]:
        """Return the records `LENGTH KEY=VALUE\\n` of an extended header."""
        records: dict[bytes, bytes] = {}
        sparse: list[bytes] = []  # format 0.0 repeats its two keys, so their order counts
        position = 0
        while position < len(data):
            blank = data.find(b" ", position, position + 20)
            length = data[position : max(blank, position)]
            if not length.isdigit():
                if not data[position:].strip(b"\0"):
                    break
                raise self._fail("broken pax record")
            end = position + int(length)
            key, equals, value = data[blank + 1 : end - 1].partition(b"=")
            if not blank < end <= len(data) or data[end - 1 : end] != b"\n" or not equals or not key:
                raise self._fail("broken pax record")
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                sparse.append(value)
            else:
                records[key] = value
            position = end
        if sparse:
            records[b"GNU.sparse.map"] = b",".join(sparse)
        return records

    def _build(
        self, header: bytes, fields: tuple[bytes, ...], pax: dict[bytes, bytes], long_name: bytes, long_link: bytes
    ) -> Member:
        member = Member()
        member.header = header
        kind = fields[7]
        try:
            member.type = _TYPES[kind]
        except KeyError:
            raise self._fail(f"unknown member type {kind!r}") from None
        name = long_name or self._short_name(fields)
        member.link = long_link or fields[8].split(b"\0", 1)[0]
        # Many members have the same mode and owner, so keep what was read.
        described = header[100:124]
        known = self._known.get(described)
        if known is None:
            known = (
                self._number(fields[1], "mode") & 0o7777,
                self._number(fields[2], "owner"),
                self._number(fields[3], "group"),
            )
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[described] = known
        member.mode, member.uid, member.gid = known
        member.mtime = self._number(fields[5], "time", signed=True) * 1_000_000_000
        member.size = self._number(fields[4], "size")
        if pax:
            name = self._override(member, name, pax)
        self._set_name(member, name)
        if member.type in (CHARACTER, BLOCK_DEVICE):
            member.device = (self._number(fields[12], "device"), self._number(fields[13], "device"))
        # Only files have contents. Others may carry a size without contents, except for D, a GNU directory listing.
        member.stored = member.size if member.type == FILE or kind == b"D" else 0
        if member.type != FILE:
            member.size = 0
        elif kind == b"S" or pax:
            self._set_sparse(member, header, kind, pax)
        member.offset = self._source.position
        if kind == b"0" and member.type == FILE and not (pax or member.link or long_name or fields[14][0]):
            self._end = header[156:]
            self._end_sum = sum(self._end) + 8 * 32 - 1  # the checksum's own bytes count as blanks
        return member

    def _short_name(self, fields: tuple[bytes, ...]) -> bytes:
        name = fields[0].split(b"\0", 1)[0]
        if fields[14][0] and fields[9][:6] == b"ustar\0":
            # star(1) keeps two times at the end of the prefix, and marks it by the last four bytes of the header.
            prefix = fields[14][:131] if fields[15][-4:] == b"tar\0" else fields[14]
            return prefix.split(b"\0", 1)[0] + b"/" + name
        return name

    def _set_name(self, member: Member, name: bytes) -> None:
        member.said = name
        if name.endswith(b"/"):
            if member.type == FILE:
                member.type = DIRECTORY  # V7 has no type for directories
            name = name.rstrip(b"/") or b"."
        if not name:
            raise self._fail("a member without a name")
        if len(name) >= MAX_NAME or len(member.link) >= MAX_NAME:
            raise self._fail(f"a name of {max(len(name), len(member.link))} bytes")
        if b"\0" in name or b"\0" in member.link:
            raise self._fail("a name with a NUL byte")
        member.name = name

    def _override(self, member: Member, name: bytes, pax: dict[bytes, bytes]) -> bytes:
        """Replace the header's values by those of the pax records, except for empty ones; return the name."""
        xattrs: dict[bytes, bytes] = {}
        for key, value in pax.items():
            if key.startswith(b"SCHILY.xattr."):
                xattrs[key[13:]] = value
            elif key.startswith(b"LIBARCHIVE.xattr."):
                from urllib.parse import unquote_to_bytes

                xattrs.setdefault(unquote_to_bytes(key[17:]), self._base64(value))
            elif not value:
                continue
            elif key == b"path":
                name = value
            elif key == b"linkpath":
                member.link = value
            elif key == b"size":
                member.size = self._decimal(value, "size")
            elif key == b"uid":
                member.uid = self._decimal(value, "owner")
            elif key == b"gid":
                member.gid = self._decimal(value, "group")
            elif key == b"mtime":
                member.mtime = self._time(value)
        if xattrs:
            if any(not key or b"\0" in key or len(key) > 255 for key in xattrs):
                raise self._fail("an extended attribute with a broken name")
            member.xattrs = xattrs
        return pax.get(b"GNU.sparse.name") or name

    def _base64(self, value: bytes) -> bytes:
        try:
            return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
        except ValueError:
            raise self._fail("broken LIBARCHIVE.xattr record") from None

    def _decimal(self, value: bytes, what: str) -> int:
        if not value.isdigit() or len(value) > 20:
            raise self._fail(f"the {what} is not a number")
        return int(value)

    def _time(self, value: bytes) -> int:
        match = re.fullmatch(rb"(-?)(\d{1,100})(?:\.(\d*))?", value)
        if not match:
            raise self._fail("the time is not a number")
        sign, seconds, fraction = match.groups()
        ns = int(seconds) * 1_000_000_000 + int(((fraction or b"") + b"000000000")[:9])
        return -ns if sign else ns

    def _set_sparse(self, member: Member, header: bytes, kind: bytes, pax: dict[bytes, bytes]) -> None:
        """Set the holes of a sparse file, from GNU's old header or from pax formats 0.0, 0.1 and 1.0."""
        said = pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size")
        if kind == b"S":
            size, numbers = self._old_sparse(header)
        elif said is None:
            return
        elif pax.get(b"GNU.sparse.major") == b"1":
            size, numbers = self._decimal(said, "sparse size"), self._stored_sparse(member)
        else:
            size = self._decimal(said, "sparse size")
            numbers = [self._decimal(n, "sparse map") for n in pax.get(b"GNU.sparse.map", b"").split(b",") if n]
        pieces = list(itertools.zip_longest(numbers[::2], numbers[1::2], fillvalue=-1))
        end = 0
        for offset, length in pieces:
            if offset < end or length < 0 or offset + length > size:
                raise self._fail("a sparse map that does not fit")
            end = offset + length
        if len(pieces) > MAX_SPARSE or sum(length for _, length in pieces) != member.stored:
            raise self._fail("a sparse map that does not fit")
        member.size, member.sparse = size, pieces

    def _old_sparse(self, header: bytes) -> tuple[int, list[int]]:
        size = self._number(header[483:495], "sparse size")
        numbers = self._pairs(header[386:482])
        more = header[482]
        while more:
            block = self._source.read(BLOCK)
            if len(block) < BLOCK or len(numbers) > 2 * MAX_SPARSE:
                raise self._fail("truncated or endless sparse map")
            numbers += self._pairs(block[:504])
            more = block[504]
        return size, numbers

    def _pairs(self, fields: bytes) -> list[int]:
        numbers: list[int] = []
        for start in range(0, len(fields), 24):
            if not fields[start : start + 24].strip(b" \0"):
                break
            numbers.append(self._number(fields[start : start + 12], "sparse map"))
            numbers.append(self._number(fields[start + 12 : start + 24], "sparse map"))
        return numbers

    def _stored_sparse(self, member: Member) -> list[int]:
        """Read the map of format 1.0: decimal numbers, one on each line, in whole blocks before the data."""
        text = b""
        count = 1  # lines to read; the first number says how many pairs follow
        while text.count(b"\n") < count:
            block = self._source.read(BLOCK)
            member.stored -= BLOCK
            if len(block) < BLOCK or member.stored < 0 or len(text) > MAX_HEADER:
                raise self._fail("truncated or endless sparse map")
            text += block
            if count == 1 and b"\n" in text:
                count += 2 * self._decimal(text.split(b"\n", 1)[0], "sparse map")
        return [self._decimal(number, "sparse map") for number in text.split(b"\n")[1:count]]
