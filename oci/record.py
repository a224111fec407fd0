"""Write and read the record of a rootfs: a line for each entry, in the form of mtree(5).

The record is a journal, because it is written while layers are applied: a later line for a path replaces an earlier
one, and `type=none` removes the path. `pack` compares the tree with it. It also keeps what the disk cannot hold: owners
if there is one id only, devices, and attributes that only root may set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

import attrs

_UNSAFE = re.compile(rb"[^!-\x22\x24-\x3c\x3e-\x5b\x5d-\x7e]")  # blanks, controls, non-ASCII, and # = \
_TYPES = {"f": "file", "d": "dir", "l": "link", "h": "hard", "p": "fifo", "c": "char", "b": "block"}
_LETTERS = {name: letter for letter, name in _TYPES.items()}
_MANY = 1000
HEADER = b"#rootless record 1\n"


@attrs.define(slots=True)
class Entry:
    """Hold what an image has at one path. link: the target of a symbolic link, or the other path of a hard link."""

    type: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int | None = None  # ns; None if no layer lists the path
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = attrs.field(factory=dict)


class Recorder:
    """Write the lines."""

    def __init__(self, file: IO[bytes]) -> None:
        self._write = file.write
        self._known: dict[tuple[str, int, int, int], bytes] = {}  # text for (type, mode, uid, gid), which repeat
        file.write(HEADER)

    def add(self, path: bytes, type_: str, mode: int, uid: int, gid: int, size: int, mtime: int | None) -> None:
        """Write the line of a plain entry. mtime: ns; None writes no time. `extra` writes all other entries."""
        if _UNSAFE.search(path):
            path = escape(path)
        words = self._known.get((type_, mode, uid, gid))
        if words is None:
            words = b"type=%b mode=%o uid=%d gid=%d" % (_TYPES[type_].encode(), mode, uid, gid)
            if len(self._known) < _MANY:
                self._known[type_, mode, uid, gid] = words
        if mtime is None:
            self._write(b"./%b %b\n" % (path, words))
        else:
            self._write(b"./%b %b size=%d time=%d\n" % (path, words, size, mtime))

    def extra(self, path: bytes, entry: Entry) -> None:
        """Write the line of an entry with a link, a device or extended attributes."""
        line = b"./%b type=%b mode=%o uid=%d gid=%d size=%d" % (
            escape(path), _TYPES[entry.type].encode(), entry.mode, entry.uid, entry.gid, entry.size,
        )  # fmt: skip
        if entry.mtime is not None:
            line += b" time=%d" % entry.mtime
        if entry.link:
            line += b" link=" + escape(entry.link)
        if entry.type in "cb":
            line += b" device=%d,%d" % entry.device
        for name, value in entry.xattrs.items():
            line += b" xattr." + escape(name) + b"=" + value.hex().encode()
        self._write(line + b"\n")

    def remove(self, path: bytes) -> None:
        """Write that a path was removed. Entries below it need lines of their own."""
        self._write(b"./%b type=none\n" % escape(path))


def escape(text: bytes) -> bytes:
    """Return the bytes with the octal escapes of vis(3), as mtree(5) has them."""
    return _UNSAFE.sub(lambda m: b"\\%03o" % m[0][0], text)


def unescape(text: bytes) -> bytes:
    """Return the bytes that `escape` escaped."""
    return re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), text)


def read(file: IO[bytes]) -> dict[bytes, Entry]:
    """Return {path: entry} as of the journal's end. Hard links of one file are the same Entry.

    Raises ValueError if the file is not a record.
    """
    if file.readline() != HEADER:
        raise ValueError("not a record of this version")
    entries: dict[bytes, Entry] = {}
    for path, entry in _lines(file):
        if entry is None:
            entries.pop(path, None)
        elif entry.type == "h":
            entries[path] = entries[entry.link]
        else:
            entries[path] = entry
    return entries


def _lines(file: IO[bytes]) -> Iterator[tuple[bytes, Entry | None]]:
    for line in file:
        words = line.split()
        path = unescape(words[0][2:])
        fields = dict(word.split(b"=", 1) for word in words[1:])
        kind = fields[b"type"].decode()
        if kind == "none":
            yield path, None
            continue
        entry = Entry(_LETTERS[kind], int(fields[b"mode"], 8), int(fields[b"uid"]), int(fields[b"gid"]))
        entry.size = int(fields.get(b"size", 0))
        entry.mtime = int(fields[b"time"]) if b"time" in fields else None
        entry.link = unescape(fields.get(b"link", b""))
        if b"device" in fields:
            major, _, minor = fields[b"device"].partition(b",")
            entry.device = int(major), int(minor)
        entry.xattrs = {unescape(k[6:]): bytes.fromhex(v.decode()) for k, v in fields.items() if k[:6] == b"xattr."}
        yield path, entry
