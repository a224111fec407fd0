"""The layers' bytes: read, decompressed and checked by a process beside the one that takes them apart.

It runs ahead as far as a writer's memory has room, and over the end of a layer. A process and not a thread, for what
takes the layers apart is Python that never waits: each system call of a thread would end with waiting for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from oci.errors import OciError, dumped, loaded, unexpected
from oci.stream import StreamSource
from oci.writer import SLOT, Writer, fork_beside

if TYPE_CHECKING:
    from oci.chunks import Chunks, NextBuffer, OnBytes

    # Begins to read a layer. It tells of the bytes that it reads as they are stored, and may read into these buffers.
    Layer = Callable[[OnBytes, NextBuffer], Chunks]

_MESSAGE = struct.Struct("=cIIq")  # kind; where a slot begins; bytes used of it, or of the text behind; bytes read
_FILLED, _FAILED, _NO_WRITER = b"s", b"x", b"w"


class Reader:
    """A context manager. `take` gives what was filled of the first layer, then its end, then of the next one."""

    def __init__(self, layers: Sequence[Layer], writer: Writer, on_bytes: OnBytes | None = None) -> None:
        self._layers = layers
        self._writer = writer
        self._on_bytes = on_bytes
        self._pid = 0

    def __enter__(self) -> Reader:
        self._pipe, theirs = os.pipe()
        life, self._life = os.pipe()  # nothing is written to it: its end is what counts
        try:
            self._pid = fork_beside(lambda: self._run(theirs, life))
        except OSError:
            os.close(self._pipe)
            os.close(self._life)
            raise
        finally:
            os.close(theirs)
            os.close(life)
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._pipe)
        os.close(self._life)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)  # where all went well it has ended, or is about to
        os.waitpid(self._pid, 0)

    def is_ready(self) -> bool:
        """Whether `take` would not wait."""
        return bool(self._poll.poll(0))

    def take(self) -> tuple[int, int]:
        """Where the next slot begins in the writer's memory, and how many bytes are in it; 0 at the end of a layer."""
        kind, start, used, read = _MESSAGE.unpack(self._receive(_MESSAGE.size))
        if kind == _NO_WRITER:
            raise self._writer.failure()
        if kind == _FAILED:
            raise loaded(self._receive(used))
        if self._on_bytes:
            self._on_bytes(read)
        return start, used

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = os.read(self._pipe, size - len(data))
            if not piece:
                raise OciError("the process that reads the archive was killed")
            data += piece
        return data

    # --- the process

    def _run(self, pipe: int, life: int) -> None:
        try:
            self._writer.detach()
            os.close(self._pipe)
            os.close(self._life)
            _end_with(life)
            for layer in self._layers:
                self._fill(layer, pipe)
                os.write(pipe, _MESSAGE.pack(_FILLED, 0, 0, 0))  # its end
        except BrokenPipeError:  # the writer's: it says why itself; ours: nobody listens
            with contextlib.suppress(OSError):
                os.write(pipe, _MESSAGE.pack(_NO_WRITER, 0, 0, 0))
        except BaseException as error:
            text = dumped(unexpected(error, "cannot read the archive"))
            with contextlib.suppress(OSError):
                os.write(pipe, _MESSAGE.pack(_FAILED, 0, len(text), 0) + text)
        finally:
            os._exit(0)

    def _fill(self, layer: Layer, pipe: int) -> None:
        memory = self._writer.memory
        start, used, read = -1, 0, 0

        def count(size: int) -> None:
            nonlocal read
            read += size

        def next_buffer() -> memoryview:
            nonlocal start
            if start < 0:
                start = self._writer.acquire_slot()
            return memory[start + used : start + SLOT]

        for chunk in layer(count, next_buffer):
            rest = memoryview(chunk)
            while rest:
                place = next_buffer()
                piece = rest[: len(place)]
                if rest.obj is not memory.obj:  # else it was read into this very place
                    place[: len(piece)] = piece
                rest = rest[len(piece) :]
                used += len(piece)
                if used == SLOT:
                    os.write(pipe, _MESSAGE.pack(_FILLED, start, used, read))
                    start, used, read = -1, 0, 0
        if used:
            os.write(pipe, _MESSAGE.pack(_FILLED, start, used, read))


class SharedSource(StreamSource):
    """A tar.Source over a layer that a reader puts into a writer's memory; a slot is free again when it was passed."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        super().__init__(iter(()))
        self._reader = reader
        self._writer = writer
        self._start = 0
        self._ended = False  # what the reader gives then is the next layer's

    def hand_over(self, size: int, file: int, mtime: int) -> bool:
        """Have the next `size` bytes written to a file that is empty, its time (ns) set, and have it closed.

        False where the stream ends before: then the file is left as it is.
        """
        offset = 0
        while (rest := len(self._chunk) - self._at) < size - offset:
            if rest:
                self._pass(rest, os.dup(file), mtime, offset)
                offset += rest
            if not self._next():
                return False
        self._pass(size - offset, file, mtime, offset)
        return True

    def _pass(self, size: int, file: int, mtime: int, offset: int) -> None:
        self._writer.write(file, self._start + self._at, size, mtime, offset)
        self._at += size
        self.position += size

    def drain(self) -> None:
        self.position += len(self._chunk) - self._at
        while self._next():
            self.position += len(self._chunk)

    def _next(self) -> bool:
        if self._chunk:
            if not self._reader.is_ready():
                self._writer.write_queued_here()  # rather than wait
            self._writer.release_slot()
        self._start, size = (0, 0) if self._ended else self._reader.take()
        self._ended = not size
        self._chunk, self._at = self._writer.memory[self._start : self._start + size], 0
        return size > 0


def _end_with(life: int) -> None:
    """End this process, even one that waits for a pipe on which nothing comes, when nobody has the other end of this
    one any more: fcntl(2), O_ASYNC sends SIGIO then, whose default is to terminate."""
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETFL, os.O_ASYNC)
    if select.select([life], [], [], 0)[0]:  # it was too early for the signal
        os._exit(0)
