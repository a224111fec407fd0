"""The process that writes files: what it is given, and how its end comes out."""

from __future__ import annotations

import errno
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import archives as a
import pytest
from commands import rootless

from oci import writer as w
from oci.errors import OciError
from oci.stream import Ahead, SharedSource


def new(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def test_files_are_written_in_all_slots_and_batches(tmp_path: Path) -> None:
    size = 100_000
    before = set(os.listdir("/proc/self/fd"))
    with w.Writer() as writer:
        for turn in range(30):  # more slots than there are
            start = writer.take()
            writer.memory[start : start + size] = bytes([turn]) * size
            for number in range(turn):
                writer.write(new(tmp_path / f"{turn}.{number}"), start, size - number, 1_000_000_000 * turn + 5)
            writer.free()
    for turn in range(30):
        for number in range(turn):
            path = tmp_path / f"{turn}.{number}"
            assert path.read_bytes() == bytes([turn]) * (size - number)
            assert path.stat().st_mtime_ns == 1_000_000_000 * turn + 5
    assert set(os.listdir("/proc/self/fd")) == before


def test_an_error_of_the_process_is_raised_and_all_is_closed(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    (tmp_path / "read-only").touch()
    with pytest.raises(OSError) as caught, w.Writer() as writer:
        writer.take()
        writer.write(os.open(tmp_path / "read-only", os.O_RDONLY), 0, 1, 0)
    assert caught.value.errno == errno.EBADF
    endless = itertools.repeat(bytes(w.SLOT))  # it is raised long before an end
    with pytest.raises(OSError) as caught, w.Writer() as writer, Ahead(endless, writer) as ahead:
        source = SharedSource(ahead, writer)
        while source.read(10) and source.hand_over(9, os.open(tmp_path / "read-only", os.O_RDONLY), 0):
            source.skip(w.SLOT - 19)
    assert caught.value.errno == errno.EBADF
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_killed_process_is_told(tmp_path: Path) -> None:
    with pytest.raises(OciError, match="killed by signal 9"), w.Writer() as writer:
        os.kill(writer._pid, signal.SIGKILL)
        writer.take()
        writer.write(new(tmp_path / "file"), 0, 1, 0)


def test_an_error_here_ends_the_process(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), w.Writer() as writer:
        pid = writer._pid
        writer.write(new(tmp_path / "file"), 0, 1, 0)
        raise ZeroDivisionError
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_too_many_files_on_their_way_are_written_here(tmp_path: Path) -> None:
    class Full:
        """A socket that takes no files."""

        def __init__(self, real: object) -> None:
            self.real = real
            self.close = real.close  # type: ignore[attr-defined]

        def sendmsg(self, data: list[bytes], ancillary: list[object] | None = None) -> None:
            if ancillary:
                raise OSError(errno.ETOOMANYREFS, "")
            self.real.sendmsg(data)  # type: ignore[attr-defined]

    with w.Writer() as writer:
        writer._socket = Full(writer._socket)  # type: ignore[assignment]
        for number in range(40):
            start = writer.take()
            writer.memory[start : start + 5] = b"%05d" % number
            writer.write(new(tmp_path / str(number)), start, 5, 7)
            writer.free()
    assert [(tmp_path / str(n)).read_bytes() for n in range(40)] == [b"%05d" % n for n in range(40)]


def test_an_error_while_the_thread_waits_for_room_ends_it_at_once() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(w.SLOT)

    with pytest.raises(ZeroDivisionError), w.Writer() as writer, Ahead(endless(), writer) as ahead:
        SharedSource(ahead, writer).read(5)
        raise ZeroDivisionError
    assert not ahead._thread.is_alive()


def test_reads_across_slots_are_what_came(tmp_path: Path) -> None:
    data = os.urandom(40 * w.SLOT + 77)
    chunks = (data[at : at + 700_001] for at in range(0, len(data), 700_001))
    found = []
    with w.Writer() as writer, Ahead(chunks, writer) as ahead:
        source = SharedSource(ahead, writer)
        while piece := source.read(333_333):
            found.append(piece)
    assert b"".join(found) == data


def test_what_follows_a_file_that_is_still_being_written(tmp_path: Path) -> None:
    """A hard link to it, the same name again, a whiteout in the next layer: each as if it had been written."""
    first = b"".join(a.file(f"d/f{n}", b"%d" % n * 9_000) for n in range(300))
    first += a.hard_link("d/hard", "d/f299") + a.file("d/f7", b"again") + a.file("d/f8", b"more" * 50_000)
    second = a.file("d/.wh.f299", b"") + a.file("d/f9", b"upper") + a.file("e", b"e" * 3_000_000)
    (tmp_path / "image.tar").write_bytes(a.docker_archive([first + a.END, second + a.END]))
    done = rootless("convert", "-q", "image.tar", "-o", "b", "--owners", "squash", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    root = tmp_path / "b/rootfs"
    expected = {f"f{n}": b"%d" % n * 9_000 for n in range(299)}
    expected |= {"hard": b"299" * 9_000, "f7": b"again", "f8": b"more" * 50_000, "f9": b"upper"}
    assert {path.name: path.read_bytes() for path in (root / "d").iterdir()} == expected
    assert (root / "e").read_bytes() == b"e" * 3_000_000
