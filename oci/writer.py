"""The contents of files, written by a process beside the one that reads on and makes the files.

Nearly all of it is system calls, between which two threads would wait for the interpreter longer than they work. Both
processes see the memory that an archive passes through: a job is a file that is open, and where its bytes are.
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
    from _socket import socket
    from collections.abc import Callable

SLOT = 1 << 20  # bytes of the memory that are filled and freed at once
_SLOTS = 12
_BATCH = 120  # jobs sent at once; unix(7): at most 253
_WORDS = 1 << 16  # bytes of the memory behind the slots, for the error that ends the process: its length, then its text
_LENGTH = struct.Struct("=I")
_HAS_WORDS = 255  # no errno
_AHEAD = 1 << 14  # for SO_SNDBUF: some batches; the kernel bounds the files on their way by RLIMIT_NOFILE, unix(7)
_JOB = struct.Struct("=IIqIq")  # where its bytes are, how many, the file's time in seconds and ns, the offset in it
_SECOND = 1_000_000_000  # ns; 64 bits of them reach from 1677 to 2262 only
_FREE = b"f"


class Writer:
    """A context manager, at whose end all is written. An error in the process is raised by the next call, at the latest
    by __exit__.

    memory: `acquire_slot` gives a slot of it to be filled, `release_slot` gives back the one that was taken first. In
    between `write` may be told of bytes in it.
    """

    def __init__(self) -> None:
        shared = memoryview(mmap.mmap(-1, _SLOTS * SLOT + _WORDS))
        self.memory, self._words = shared[:-_WORDS], shared[-_WORDS:]
        self._next = 0  # slot to be taken
        self._files: list[int] = []
        self._jobs: list[bytes] = []
        self._pid = 0

    def __enter__(self) -> Writer:
        self._slots, freed = os.pipe()  # a byte for each slot that is free
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
        """Where a free slot begins, waited for. Raises BrokenPipeError when there will be none: see `failure`."""
        if not os.read(self._slots, 1):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        start = self._next
        self._next = (start + SLOT) % len(self.memory)
        return start

    def failure(self) -> Exception:
        """Why there will be no slot: what the process ended with."""
        return self._end() or BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def detach(self) -> None:
        """In another process that only fills slots: it must not keep this one from hearing of the end."""
        self._socket.close()

    def release_slot(self) -> None:
        """The slot that was taken first is free again when all that `write` was told of is written."""
        self._send(_FREE)

    def write_queued_here(self) -> None:
        """Write here what was not sent yet."""
        for file, job in zip(self._files, self._jobs, strict=True):
            self._write(file, *_JOB.unpack(job))
        self._done()

    def write(self, file: int, start: int, size: int, mtime: int, offset: int = 0) -> None:
        """Write these bytes of the memory to a file that is open, at an offset, set its time (ns) and close it.

        The pieces of a file may be written in any order: by the process, or by `write_queued_here` before those that
        were sent earlier.
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
            if error.errno != errno.ETOOMANYREFS:  # the process has ended: it says why
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
        """What the process ended with, which it does when it has done all."""
        self._socket.close()
        pid, self._pid = self._pid, 0
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else 0
        if code < 0:
            return OciError(f"the process that writes files was killed by signal {-code}")
        if code == _HAS_WORDS:
            (length,) = _LENGTH.unpack_from(self._words)
            return loaded(bytes(self._words[_LENGTH.size : _LENGTH.size + length]))
        return OSError(code, os.strerror(code)) if code else None

    def _run(self, jobs: socket, freed: int) -> None:
        """The process; its exit code is the errno that ended it. Other errors are put into the memory."""
        code = _HAS_WORDS
        try:
            self._socket.close()  # else there is no end of it
            os.close(self._slots)
            while message := self._receive(jobs):
                if message.endswith(_FREE) and len(message) % _JOB.size:
                    os.write(freed, _FREE)
            code = 0
        except OSError as error:
            code = error.errno or errno.EIO
        except BaseException as error:
            text = dumped(unexpected(error, "cannot write the files"))
            if len(text) > _WORDS - _LENGTH.size:
                text = dumped(OciError("cannot write the files"))
            self._words[: _LENGTH.size + len(text)] = _LENGTH.pack(len(text)) + text
        finally:
            os._exit(code)

    def _receive(self, jobs: socket) -> bytes:
        """A message, when its jobs are done; empty at the end."""
        message, ancillary, _, _ = jobs.recvmsg(_BATCH * _JOB.size + len(_FREE), CMSG_SPACE(_BATCH * 4))
        files = array("i")
        for _, _, data in ancillary:
            files.frombytes(data[: len(data) - len(data) % files.itemsize])
        if len(files) < len(message) // _JOB.size:  # recvmsg(2) leaves out what finds no room among the open files
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
    """Run `life` in a process beside the main one, which ends with it; return its pid. Raises OSError.

    It ignores the signals that the main one gets too: that one ends it when it has said what there is. They are held
    back until then, because an exception of a handler's would leave the new process by the main one's stack.
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
