"""Compare the reader of tar archives with the standard library's."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from oci import stream, tar
from oci.errors import OciError
from tests.support import archives as a


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reader_agrees_with_tarfile(layout: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=layout) as written:
        for number, name in enumerate(["f", "d" * 90 + "/" + "e" * 60, "é", "dir/", "x" * 99]):
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size = 0 if name.endswith("/") else number * 777
            info.uid, info.gid, info.mtime = number * 100, 2_000_000 + number, 1_420_070_400 + number
            info.mode = 0o4755 if number else 0
            written.addfile(info, io.BytesIO(b"z" * info.size))
    if layout != tarfile.USTAR_FORMAT:
        out.seek(0)
        with tarfile.open(fileobj=out, mode="a", format=layout) as written:
            info = tarfile.TarInfo("n" * 300)
            info.type, info.linkname, info.uid = tarfile.SYMTYPE, "l" * 400, 1 << 24
            written.addfile(info)
    source = stream.StreamSource(iter([out.getvalue()]))
    ours = [(m.name, m.type, m.mode, m.uid, m.gid, m.size, m.mtime, m.link) for m in tar.members(source, "x")]
    kinds = {tarfile.REGTYPE: "f", tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l"}
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as read:
        theirs = [
            (
                os.fsencode(m.name),
                kinds[m.type],
                m.mode,
                m.uid,
                m.gid,
                m.size,
                int(m.mtime * 10**9),
                m.linkname.encode(),
            )
            for m in read
        ]
    assert ours == theirs


def test_headers_alike_are_read_for_what_differs() -> None:
    """After a plain file come other times and sizes, twelve digits without an end among them, and a broken checksum."""
    sizes = [b"%011o\0" % 3, b"%012o" % 3, b"%011o\0" % 700, b"%011o " % 3]
    headers = [a.header(f"f{number}", size, mtime=number * 7) for number, size in enumerate(sizes)]
    data = b"".join(header + bytes(1024 if number == 2 else 512) for number, header in enumerate(headers))
    found = [(m.name, m.size, m.mtime) for m in tar.members(stream.StreamSource(iter([data])), "x")]
    assert found == [(b"f%d" % n, 700 if n == 2 else 3, n * 7_000_000_000) for n in range(4)]
    for broken in (data[:-1], data.replace(b"f2", b"f3")):
        with pytest.raises(OciError):
            list(tar.members(stream.StreamSource(iter([broken + a.file("last")])), "x"))
