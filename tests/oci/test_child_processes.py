"""The processes that read layers and write files do their jobs, and the unpacker raises the error that ends one."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from oci import writer as w
from oci.chunks import Chunks, NextBuffer
from oci.errors import OciError
from oci.reader import Reader, SharedSource
from oci.stream import read_all, read_range
from tests.support import archives as a
from tests.support.commands import rootless
from tests.support.processes import has_ended, until


def layer(chunks: Iterable[bytes], told: int = 0) -> Callable[[Callable[[int], None], NextBuffer], Chunks]:
    """Return what a Reader reads: these chunks. It calls the progress function with `told` for each."""

    def read(progress: Callable[[int], None], next_buffer: NextBuffer) -> Chunks:
        for chunk in chunks:
            progress(told)
            yield chunk

    return read


def new(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def test_files_are_written_in_all_slots_and_batches(tmp_path: Path) -> None:
    size = 100_000
    before = set(os.listdir("/proc/self/fd"))
    with w.Writer() as writer:
        for turn in range(30):  # more slots than there are
            start = writer.acquire_slot()
            writer.memory[start : start + size] = bytes([turn]) * size
            for number in range(turn):
                writer.write(new(tmp_path / f"{turn}.{number}"), start, size - number, 1_000_000_000 * turn + 5)
            writer.release_slot()
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
        writer.acquire_slot()
        writer.write(os.open(tmp_path / "read-only", os.O_RDONLY), 0, 1, 0)
    assert caught.value.errno == errno.EBADF
    endless = itertools.repeat(bytes(w.SLOT))  # it is raised long before an end
    with pytest.raises(OSError) as caught, w.Writer() as writer, Reader([layer(endless)], writer) as reader:
        source = SharedSource(reader, writer)
        while source.read(10) and source.hand_over(9, os.open(tmp_path / "read-only", os.O_RDONLY), 0):
            source.skip(w.SLOT - 19)
    assert caught.value.errno == errno.EBADF
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_killed_process_is_told(tmp_path: Path) -> None:
    with pytest.raises(OciError, match="killed by signal 9"), w.Writer() as writer:
        os.kill(writer._pid, signal.SIGKILL)
        writer.acquire_slot()
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
        """Play a socket that takes no files."""

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
            start = writer.acquire_slot()
            writer.memory[start : start + 5] = b"%05d" % number
            writer.write(new(tmp_path / str(number)), start, 5, 7)
            writer.release_slot()
    assert [(tmp_path / str(n)).read_bytes() for n in range(40)] == [b"%05d" % n for n in range(40)]


def test_an_error_while_the_reader_waits_for_room_ends_it_at_once() -> None:
    endless = itertools.repeat(bytes(w.SLOT))
    with pytest.raises(ZeroDivisionError), w.Writer() as writer, Reader([layer(endless)], writer) as reader:
        SharedSource(reader, writer).read(5)
        raise ZeroDivisionError
    with pytest.raises(ProcessLookupError):
        os.kill(reader._pid, 0)


def test_an_error_of_the_reader_is_raised_where_it_came() -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 100
        raise OciError("broken", "some where", errno.EIO, hint="none")

    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OciError) as caught, w.Writer() as writer, Reader([layer(broken())], writer) as reader:
        SharedSource(reader, writer).drain()
    assert caught.value.message() == "broken: some where: EIO (input/output error); hint: none"
    with pytest.raises(OciError, match="TypeError"), w.Writer() as writer, Reader([layer([None])], writer) as reader:  # type: ignore[list-item]
        SharedSource(reader, writer).drain()
    with pytest.raises(OciError, match="was killed"), w.Writer() as writer, Reader([layer([b""])], writer) as reader:
        os.kill(reader._pid, signal.SIGKILL)
        while True:
            SharedSource(reader, writer).drain()
    assert set(os.listdir("/proc/self/fd")) == before


def test_an_error_of_the_reader_names_its_layer() -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    layers, names = [layer([b"sound"]), layer(broken())], ["base", "top"]
    with pytest.raises(OciError) as caught, w.Writer() as writer, Reader(layers, writer, names=names) as reader:
        for _ in layers:
            SharedSource(reader, writer).drain()
    assert caught.value.message() == "cannot read the archive: top: EIO (input/output error)"

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(w.SLOT)

    layers = [layer([b"sound"]), layer(endless())]
    with pytest.raises(OciError) as caught, w.Writer() as writer, Reader(layers, writer, names=names) as reader:
        SharedSource(reader, writer).drain()
        os.kill(reader._pid, signal.SIGKILL)
        SharedSource(reader, writer).drain()
    assert caught.value.message() == "the process that reads the archive was killed: top"


def test_layers_come_one_after_the_other_and_what_was_read_is_told() -> None:
    told: list[int] = []
    layers = [layer([b"a" * 10, b"b" * 10], 7), layer([]), layer([b"c" * w.SLOT * 3, b"d"], 5)]
    with w.Writer() as writer, Reader(layers, writer, told.append) as reader:
        found = []
        for _ in layers:
            source = SharedSource(reader, writer)
            found.append(source.read(1 << 30))
            assert source.read(1) == b""
    assert found == [b"a" * 10 + b"b" * 10, b"", b"c" * w.SLOT * 3 + b"d"]
    assert sum(told) == 24


def test_what_is_read_into_the_room_is_not_copied(tmp_path: Path) -> None:
    data = os.urandom(5 * w.SLOT + 1)
    (tmp_path / "file").write_bytes(data)

    def read(progress: Callable[[int], None], next_buffer: NextBuffer) -> Chunks:
        yield b"head"  # so that the buffer is a part of a slot
        yield from read_range(fd, 0, len(data), "file", next_buffer)

    fd = os.open(tmp_path / "file", os.O_RDONLY)
    with w.Writer() as writer, Reader([read], writer) as reader:
        assert SharedSource(reader, writer).read(1 << 30) == b"head" + data
    os.close(fd)


def test_a_file_is_written_here_rather_than_wait_for_the_reader(tmp_path: Path) -> None:
    def slow() -> Iterator[bytes]:
        yield b"x" * w.SLOT
        while not (tmp_path / "file").exists() or not (tmp_path / "file").stat().st_size:
            time.sleep(0.01)
        yield b"y"

    with w.Writer() as writer, Reader([layer(slow())], writer) as reader:
        source = SharedSource(reader, writer)
        assert source.read(1) == b"x"
        os.kill(writer._pid, signal.SIGSTOP)
        try:
            assert source.hand_over(1000, new(tmp_path / "file"), 0)
            source.skip(w.SLOT - 1001)
            assert source.read(1) == b"y"
        finally:
            os.kill(writer._pid, signal.SIGCONT)
    assert (tmp_path / "file").read_bytes() == b"x" * 1000


def test_the_pieces_of_a_file_find_their_places_in_any_order(tmp_path: Path) -> None:
    """The first piece is sent to the process, and the second is written here before that."""
    path = tmp_path / "file"
    file = new(path)

    def slow() -> Iterator[bytes]:
        yield b"x" * w.SLOT + b"y" * w.SLOT
        while not path.stat().st_size:
            time.sleep(0.01)
        yield b"z"

    with w.Writer() as writer, Reader([layer(slow())], writer) as reader:
        source = SharedSource(reader, writer)
        assert source.read(1) == b"x"
        os.kill(writer._pid, signal.SIGSTOP)
        try:
            while not reader.is_ready():
                time.sleep(0.01)
            assert source.hand_over(w.SLOT + 999, file, 5)
            source.skip(w.SLOT - 1000)
            assert source.read(1) == b"z"
        finally:
            os.kill(writer._pid, signal.SIGCONT)
    assert path.read_bytes() == b"x" * (w.SLOT - 1) + b"y" * 1000
    assert path.stat().st_mtime_ns == 5


def test_a_reader_that_waits_for_a_pipe_ends_with_the_process_that_made_it(tmp_path: Path) -> None:
    silent, held = os.pipe()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:

        def read(progress: Callable[[int], None], next_buffer: NextBuffer) -> Chunks:
            os.write(tell, b"%d" % os.getpid())
            yield from read_all(silent)

        try:  # nothing of pytest's may go on here
            with w.Writer() as writer, Reader([read], writer) as reader:
                reader.take()
        finally:
            os._exit(1)
    readers = int(os.read(told, 100))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert until(lambda: has_ended(readers)), "it still waits"
    for fd in (silent, held, told, tell):
        os.close(fd)


def test_reads_across_slots_are_what_came(tmp_path: Path) -> None:
    data = os.urandom(40 * w.SLOT + 77)
    chunks = (data[at : at + 700_001] for at in range(0, len(data), 700_001))
    found = []
    with w.Writer() as writer, Reader([layer(chunks)], writer) as reader:
        source = SharedSource(reader, writer)
        while piece := source.read(333_333):
            found.append(piece)
    assert b"".join(found) == data


def test_what_follows_a_file_that_is_still_being_written(tmp_path: Path) -> None:
    """A hard link to it, the same name again, and a whiteout in the next layer have the same effect as after the
    writing.
    """
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
