"""Read, decompress and check the layers in a process of its own, the reader (docs/internals/conversion.md).

The reader runs ahead of the unpacker as far as there are free slots, also beyond the end of a layer. It is a process
and not a thread, because the unpacking loop holds the GIL: a thread would wait for it after every system call.
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

    # Starts to read a layer. It calls OnBytes with the number of stored bytes, and may read into NextBuffer's memory.
    Layer = Callable[[OnBytes, NextBuffer], Chunks]

# A message to the unpacker: kind; where the slot begins; bytes filled in it, or bytes of the text that follows the
# message; bytes read from the archive.
_MESSAGE = struct.Struct("=cIIq")
_FILLED, _FAILED, _NO_WRITER = b"s", b"x", b"w"


class Reader:
    """The unpacker's side of the reader, a context manager that starts and ends the process.

    `take` returns the filled slots of the first layer, then its end, then those of the next layer. names: what messages
    call the layers; on_bytes: called with the number of bytes read from the archive.
    """

    def __init__(
        self, layers: Sequence[Layer], writer: Writer, on_bytes: OnBytes | None = None, names: Sequence[str] = ()
    ) -> None:
        self._layers = layers
        self._names = [*names, *[""] * (len(layers) + 1 - len(names))]
        self._number = 0  # of the layer that is read
        self._writer = writer
        self._on_bytes = on_bytes
        self._pid = 0

    def __enter__(self) -> Reader:
        self._pipe, theirs = os.pipe()
        life, self._life = os.pipe()  # nothing is written to it: when we end, the reader sees the pipe's end
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
            os.kill(self._pid, signal.SIGKILL)  # after a failure it may still run
        os.waitpid(self._pid, 0)

    def is_ready(self) -> bool:
        """Return whether `take` would return at once."""
        return bool(self._poll.poll(0))

    def take(self) -> tuple[int, int]:
        """Return (start, bytes) of the next filled slot in the shared memory; bytes is 0 at the end of a layer.

        Raises the OciError that ended the reader, or what ended the writer.
        """
        kind, start, used, read = _MESSAGE.unpack(self._receive(_MESSAGE.size))
        if kind == _NO_WRITER:
            raise self._writer.failure()
        if kind == _FAILED:
            raise loaded(self._receive(used))
        if self._on_bytes:
            self._on_bytes(read)
        if not used:
            self._number += 1
        return start, used

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = os.read(self._pipe, size - len(data))
            if not piece:
                raise OciError("the process that reads the archive was killed", self._names[self._number])
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
                os.write(pipe, _MESSAGE.pack(_FILLED, 0, 0, 0))  # the end of the layer
                self._number += 1
        except BrokenPipeError:  # the writer has ended, and says why itself; or the unpacker has, and nobody listens
            with contextlib.suppress(OSError):
                os.write(pipe, _MESSAGE.pack(_NO_WRITER, 0, 0, 0))
        except BaseException as error:
            text = dumped(unexpected(error, "cannot read the archive", self._names[self._number]))
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
                if rest.obj is not memory.obj:  # a view of this memory was filled in place
                    place[: len(piece)] = piece
                rest = rest[len(piece) :]
                used += len(piece)
                if used == SLOT:
                    os.write(pipe, _MESSAGE.pack(_FILLED, start, used, read))
                    start, used, read = -1, 0, 0
        if used:
            os.write(pipe, _MESSAGE.pack(_FILLED, start, used, read))


class SharedSource(StreamSource):
    """A tar.Source over one layer in the shared memory. It frees each slot that was read to its end."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        super().__init__(iter(()))
        self._reader = reader
        self._writer = writer
        self._start = 0
        self._ended = False  # whether the layer has ended: the next `take` would return the next layer

    def hand_over(self, size: int, file: int, mtime: int) -> bool:
        """Queue jobs for the writer: write the next `size` bytes to an empty file, set its time (ns), and close it.

        Return False if the stream ends before that; the caller must close the file then.
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
                self._writer.write_queued_here()  # write instead of waiting for the reader
            self._writer.release_slot()
        self._start, size = (0, 0) if self._ended else self._reader.take()
        self._ended = not size
        self._chunk, self._at = self._writer.memory[self._start : self._start + size], 0
        return size > 0


def _end_with(life: int) -> None:
    """Have the kernel end this process when the other end of a pipe is closed, even while it waits for another pipe.

    O_ASYNC sends SIGIO then, and the default of SIGIO is to terminate (fcntl(2), signal(7)).
    """
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETFL, os.O_ASYNC)
    poller = select.poll()  # select(2) takes no descriptor above 1023
    poller.register(life, select.POLLIN)
    if poller.poll(0):  # the other end was closed before O_ASYNC was set
        os._exit(0)
