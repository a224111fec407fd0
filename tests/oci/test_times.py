"""Times of files that no file system keeps, or that 64 bits of nanoseconds do not hold: 1677 to 2262."""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path

import pytest

from oci import stream, tar
from oci.times import pax_time, time_limits
from tests.support import archives as a
from tests.support.commands import pack, rootless

SECOND = 10**9
SECONDS = [-(1 << 63), -9_300_000_000, -1, 9_300_000_000, 1 << 35, 1 << 40, (1 << 63) - 1, 1 << 80]


def base256(header: bytes, seconds: int) -> bytes:
    """Return the header with a time that eleven octal digits do not hold, as GNU tar writes it."""
    number = seconds.to_bytes(12, signed=True)
    return a.checked(header[:136] + bytes([number[0] | 0x80]) + number[1:] + header[148:])


def members(seconds: int, form: str) -> bytes:
    """Return a directory, files, a symbolic link and a fifo, all with that time; one file gets its time last because of
    its mode.
    """
    plain = {
        "d": a.directory("d"),
        "d/f": a.file("d/f", b"x" * 100),
        "d/suid": a.file("d/suid", b"s", mode=0o4755),
        "d/empty": a.file("d/empty", b""),
        "l": a.symlink("l", "d"),
        "p": a.header("p", type_=b"6"),
    }
    if form == "base 256":
        return b"".join(base256(block[:512], seconds) + block[512:] for block in plain.values())
    fraction = ".25" if form == "pax with a fraction" else ""
    return b"".join(a.pax({"mtime": f"{seconds}{fraction}"}) + block for block in plain.values())


def kept(place: Path, time: int) -> int:
    fd = os.open(place, os.O_RDONLY)
    earliest, latest = time_limits(fd)
    os.close(fd)
    return min(max(time, earliest), latest)


CASES = [("convert", seconds, "base 256") for seconds in SECONDS]
CASES += [("convert", seconds, "pax with a fraction") for seconds in SECONDS[1:5]]
CASES += [("import", seconds, form) for seconds in (SECONDS[0], SECONDS[-1]) for form in ("base 256", "pax")]


@pytest.mark.parametrize(("command", "seconds", "form"), CASES)
def test_time_is_kept_as_far_as_the_file_system_can(tmp_path: Path, command: str, seconds: int, form: str) -> None:
    layer = members(seconds, form) + a.END
    archive = tmp_path / "a.tar"
    archive.write_bytes(layer if command == "import" else a.docker_archive([layer]))
    done = rootless(command, archive, "-o", "b", "--owners", "squash", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    fraction = (-SECOND if seconds < 0 else SECOND) // 4 if form == "pax with a fraction" else 0
    want = kept(tmp_path, seconds * SECOND + fraction)
    times = {name: os.lstat(tmp_path / "b/rootfs" / name).st_mtime_ns for name in ("d", "d/f", "d/suid", "l", "p")}
    assert times == dict.fromkeys(times, want)
    unchanged = pack(tmp_path / "b", tmp_path / "out.tar", base=str(archive))
    assert "nothing has changed" in unchanged.stderr, "the record says what is on the disk"


@pytest.mark.parametrize("time", [-9_300_000_000 * SECOND - 1, -SECOND // 4, -1, 1, 9_300_000_000 * SECOND + 1])
def test_pack_writes_back_what_is_on_the_disk(tmp_path: Path, time: int) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(a.docker_archive([a.file("f") + a.END]))
    assert rootless("convert", archive, "-o", "b", "--owners", "squash", cwd=tmp_path).returncode == 0
    rootfs = tmp_path / "b/rootfs"
    (rootfs / "new").write_bytes(b"new")
    (rootfs / "link").symlink_to("new")
    (rootfs / "dir").mkdir()
    for name in ("new", "link", "dir"):
        os.utime(rootfs / name, ns=(time, time), follow_symlinks=False)
    for flatten in (False, True):
        done = pack(tmp_path / "b", tmp_path / "out.tar", base=str(archive), flatten=flatten, force=True)
        assert done.returncode == 0, done.stderr
        with tarfile.open(tmp_path / "out.tar") as outer:
            blobs = [outer.extractfile(m).read() for m in outer if m.isfile() and m.name.startswith("blobs/")]  # type: ignore[union-attr]
        (layer,) = [blob for blob in blobs if blob[:2] == b"\x1f\x8b"]
        source = stream.StreamSource(iter([gzip.decompress(layer)]))
        times = {m.name: m.mtime for m in tar.members(source, "layer") if m.name in (b"new", b"link", b"dir")}
        assert times == dict.fromkeys((b"new", b"link", b"dir"), kept(rootfs, time))


def test_a_time_is_written_as_it_is_read() -> None:
    for time in (-1, -SECOND, -SECOND - 1, -1_500_000_000, 0, 1, 1_500_000_000, 1 << 80):
        data = a.pax({"mtime": pax_time(time)}) + a.file("f", b"")
        assert [m.mtime for m in tar.members(stream.StreamSource(iter([data])), "x")] == [time]


def test_numbers_in_base_256() -> None:
    for seconds in (-(1 << 63), -1, 0, 1, 1 << 33, (1 << 94) - 1, -(1 << 94)):
        data = base256(a.header("f"), seconds)
        assert [m.mtime for m in tar.members(stream.StreamSource(iter([data])), "x")] == [seconds * SECOND]
