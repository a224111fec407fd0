"""Recognise files that users take for image archives, by their first bytes (magic(5))."""

from __future__ import annotations

_MAGIC = (
    (b"PK\x03\x04", "a zip file"),
    (b"PK\x05\x06", "an empty zip file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip file"),
    (b"Rar!", "a RAR file"),
    (b"!<arch>\ndebian", "a Debian package"),
    (b"!<arch>", "a static library or another ar file"),
    (b"\xed\xab\xee\xdb", "an RPM package"),
    (b"0707", "a cpio archive"),
    (b"\xc7\x71", "a cpio archive"),
    (b"hsqs", "a squashfs image"),
    (b"sqsh", "a squashfs image"),
    (b"QFI\xfb", "a qcow2 disk image"),
    (b"KDMV", "a VMware disk image"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a Windows program"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"%PDF", "a PDF file"),
    (b"SIMPLE", "a FITS file"),
)
_DOCKERFILE = (b"from", b"arg", b"run", b"copy", b"#syntax", b"# syntax")


def describe(head: bytes) -> str:
    """Return what a file that is not a tar looks like, "" if it may be a broken tar. head: its first block."""
    if head[257:262] == b"ustar" or not head.strip(b"\0"):
        return ""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return "a SIF image of apptainer" if name == "a program" and b"SIF_MAGIC" in head else name
    if b"SIF_MAGIC" in head[:64]:
        return "a SIF image of apptainer"
    text = head.lstrip()
    if b"\0" in head or not text:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith(b"#")]
    first = (lines[0] if lines else text).lower()
    if text.startswith(b"#!"):
        return "a script"
    if first.split(b" ")[0] in _DOCKERFILE:
        return "a Dockerfile, which `buildah bud` builds an image from"
    if text[:1] in b"{[":
        return "a JSON file"
    if text[:1] == b"<":
        return "an HTML or XML file, such as the error page of a download"
    return ""
