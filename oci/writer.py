"""Write the contents of files in a process of its own, the writer (docs/internals/conversion.md).

It is a process and not a thread, because it makes little but system calls, and a thread would wait for the GIL after
each. The reader, the unpacker and the writer share memory, so a job is only an open file and where its bytes are.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import struct
from array import array
from socket import AF_UNIX, CMSG_SPACE, SCM_RIGHTS, SO_SNDBUF, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET, socketpair
from typing import TYPE_CHECKING

from oci.errors import OciError, dumped, loaded, unexpected

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

SLOT = 1 << 20  # bytes of the shared memory that are filled and freed as one
_SLOTS = 12
_BATCH = 120  # jobs in one message, each with a file; unix(7) allows at most 253 files
_ERROR_ROOM = 1 << 16  # bytes after the slots, for the error that ends the process: its length, then its text
_LENGTH = struct.Struct("=I")
_HAS_ERROR = 255  # exit code: the error is in the shared memory. No errno has this number.
_AHEAD = 1 << 14  # SO_SNDBUF, for a few messages; RLIMIT_NOFILE bounds the files in them too (unix(7))
# A job: where its bytes begin in the memory, how many, the file's time in seconds and ns, the offset in the file.
_JOB = struct.Struct("=IIqIq")
_SECOND = 1_000_000_000  # ns; kept apart from seconds, because 64 bits of ns reach from 1677 to 2262 only
_FREE = b"f"


class Writer:
    """The unpacker's side of the writer, a context manager that starts the process and waits until all is written.

    An error in the process is raised by the next method call, at the latest by __exit__. memory: shared by all three
    processes, in slots. The reader calls `acquire_slot` and fills the slot; the unpacker passes jobs for bytes in it to
    `write`, and then calls `release_slot`. Slots are released in the order in which they were acquired.
    """

    def __init__(self) -> None:
        shared = memoryview(mmap.mmap(-1, _SLOTS * SLOT + _ERROR_ROOM))
        self.memory, self._error = shared[:-_ERROR_ROOM], shared[-_ERROR_ROOM:]
        self._next = 0  # where the next slot begins
        self._files: list[int] = []
        self._jobs: list[bytes] = []
        self._pid = 0

    def __enter__(self) -> Writer:
        self._slots, freed = os.pipe()  # the pipe holds one byte for each free slot
        os.write(freed, _FREE * _SLOTS)
        self._socket, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
        self._socket.setsockopt(SOL_SOCKET, SO_SNDBUF, _AHEAD)
        try:
            self._pid = fork_beside(lambda: self._run(theirs, freed))
        except OSError:
            self._socket.close()
            os.close(self._slots)
            raise
        finally:
            os.close(freed)
            theirs.close()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._send()
            else:
                self._kill()
            failure = self._end()
        except BaseException:
            self._kill()
            raise
        finally:
            self._end()
            for file in self._files:
                os.close(file)
            os.close(self._slots)
        if failure and kind is None:
            raise failure

    def acquire_slot(self) -> int:
        """Wait for a free slot; return where it begins. Raises BrokenPipeError if the writer has ended (`failure`)."""
        if not os.read(self._slots, 1):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        start = self._next
        self._next = (start + SLOT) % len(self.memory)
        return start

    def failure(self) -> Exception:
        """Return the error that ended the process."""
        return self._end() or BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def detach(self) -> None:
        """Close the socket in the reader. Otherwise the writer would not see that the unpacker has ended."""
        self._socket.close()

    def release_slot(self) -> None:
        """Queue the release of the slot that was acquired first, after the jobs that `write` queued."""
        self._send(_FREE)

    def write_queued_here(self) -> None:
        """Write the jobs that were not sent yet in this process."""
        for file, job in zip(self._files, self._jobs, strict=True):
            self._write(file, *_JOB.unpack(job))
        self._done()

    def write(self, file: int, start: int, size: int, mtime: int, offset: int = 0) -> None:
        """Queue a job: write bytes of the memory to an open file at an offset, set its time (ns), and close it.

        The pieces of a file may be written in any order, because `write_queued_here` may be faster than the process
        with jobs that were sent earlier.
        """
        self._files.append(file)
        self._jobs.append(_JOB.pack(start, size, *divmod(mtime, _SECOND), offset))
        if len(self._files) == _BATCH:
            self._send()

    def _send(self, end: bytes = b"") -> None:
        message = b"".join(self._jobs) + end
        if not message:
            return
        files = array("i", self._files)
        try:
            self._socket.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, files)] if files else [])
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:  # the process has ended; its exit code says why
                raise self._end() or error from None
            self.write_queued_here()
            if end:
                self._socket.sendmsg([end])
        self._done()

    def _done(self) -> None:
        self._jobs.clear()
        while self._files:
            os.close(self._files.pop())

    def _kill(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)

    def _end(self) -> OSError | OciError | None:
        """Wait for the end of the process, which comes when all is written; return its error, None for success."""
        self._socket.close()
        pid, self._pid = self._pid, 0
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else 0
        if code < 0:
            return OciError(f"the process that writes files was killed by signal {-code}")
        if code == _HAS_ERROR:
            (length,) = _LENGTH.unpack_from(self._error)
            return loaded(bytes(self._error[_LENGTH.size : _LENGTH.size + length]))
        return OSError(code, os.strerror(code)) if code else None

    def _run(self, jobs: socket, freed: int) -> None:
        """Do the jobs, as the writer. The exit code is the errno of a failure; other errors go into the memory."""
        code = _HAS_ERROR
        try:
            self._socket.close()  # otherwise recvmsg(2) would never see the end
            os.close(self._slots)
            while message := self._receive(jobs):
                if message.endswith(_FREE) and len(message) % _JOB.size:
                    os.write(freed, _FREE)
            code = 0
        except OSError as error:
            code = error.errno or errno.EIO
        except BaseException as error:
            text = dumped(unexpected(error, "cannot write the files"))
            if len(text) > _ERROR_ROOM - _LENGTH.size:
                text = dumped(OciError("cannot write the files"))
            self._error[: _LENGTH.size + len(text)] = _LENGTH.pack(len(text)) + text
        finally:
            os._exit(code)

    def _receive(self, jobs: socket) -> bytes:
        """Receive a message and do its jobs; return it, b"" at the end."""
        message, ancillary, _, _ = jobs.recvmsg(_BATCH * _JOB.size + len(_FREE), CMSG_SPACE(_BATCH * 4))
        files = array("i")
        for _, _, data in ancillary:
            files.frombytes(data[: len(data) - len(data) % files.itemsize])
        if len(files) < len(message) // _JOB.size:  # the kernel drops fds above RLIMIT_NOFILE (unix(7), SCM_RIGHTS)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        for file, job in zip(files, _JOB.iter_unpack(message[: len(files) * _JOB.size]), strict=True):
            self._write(file, *job)
            os.close(file)
        return message

    def _write(self, file: int, start: int, size: int, seconds: int, ns: int, offset: int) -> None:
        written = os.pwrite(file, self.memory[start : start + size], offset)
        while written < size:
            written += os.pwrite(file, self.memory[start + written : start + size], offset + written)
        mtime = seconds * _SECOND + ns
        os.utime(file, ns=(mtime, mtime))


def fork_beside(life: Callable[[], None]) -> int:
    """Fork a process that runs `life` and ends with it; return its pid. Raises OSError.

    The process ignores HUP, INT and TERM, because a terminal sends them to all three processes and the unpacker ends
    the others. They are blocked during the fork: a handler that raises would unwind the unpacker's stack in the child.
    """
    signals = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    pid = -1
    try:
        pid = os.fork()
        if pid == 0:
            for signum in signals:
                signal.signal(signum, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            life()
    finally:
        if pid == 0:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid
