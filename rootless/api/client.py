"""Start the launcher on first use, and again if it is gone; send requests to it, and receive the answers.

Every container has sockets of its own for its answers (api/wire.py), so threads share nothing but the socket for
requests, on which one sendmsg(2) is one request. A forked child of the Python process gets a launcher of its own.
"""

from __future__ import annotations

import _socket
import atexit
import errno
import itertools
import os
import select
import struct
import subprocess
import sys
import threading
import time
import warnings

from rootless.api import spawn, wire
from rootless.errors import LauncherError, RootlessError, advice
from rootless.kernel import channel
from rootless.kernel.waiting import milliseconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PIDFD_NUMBER = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))
_numbers = itertools.count(1)


class Launcher:
    """A launcher that was started: the socket for its requests."""

    def __init__(self) -> None:
        try:
            self.spawned: spawn.Spawned | None = spawn.take()
        except OSError as error:
            raise RootlessError.from_os(error, "cannot start the launcher") from None
        self.owner = self.spawned.owner
        self.requests = self.spawned.requests
        self.inode = os.fstat(self.requests.fileno()).st_ino
        self.pid = 0

    def send(self, message: tuple[Any, ...], fds: list[int]) -> None:
        """Send a request. Raises OSError if the launcher is gone, RootlessError if it could not be started."""
        if not self._is_open():
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        try:
            wire.send(self.requests, message, fds)
        finally:
            self._reap()

    def _reap(self) -> None:
        """Wait for the process that has started the launcher, which ends at once."""
        spawned, self.spawned = self.spawned, None
        try:
            if spawned:
                spawned.reap()
        except OSError as error:
            raise RootlessError.from_os(error, "cannot start the launcher") from None

    def close(self) -> None:
        """Close the socket. The launcher ends as soon as it has no container any more."""
        if self._is_open():
            self.requests.close()
        else:
            self.requests.detach()

    def _is_open(self) -> bool:
        """Return whether the socket's number is still the socket's: os.closerange(3, ...) may have closed it."""
        try:
            return os.fstat(self.requests.fileno()).st_ino == self.inode
        except OSError:
            return False


_lock = threading.RLock()  # a signal's handler may make a call while this thread sends a request
_launcher: Launcher | None = None


_asking: set[Answers] = set()  # those whose other ends the launcher has no copies of yet


def _forget() -> None:
    """Forget the launcher in a forked child, because it belongs to the parent.

    A thread of the parent may be in the middle of a call. It waits until the program's execve(2) has closed the last
    copy of the verdict's other end, so this process must not keep one as long as it lives.
    """
    global _launcher, _lock
    _lock = threading.RLock()
    for answers in list(_asking):
        answers.close_other_ends()
    if _launcher:
        _launcher.close()
    _launcher = None


os.register_at_fork(after_in_child=_forget)


def request(message: tuple[Any, ...], fds: list[int]) -> None:
    """Send a request to the launcher. Start one first if none runs."""
    global _launcher
    for attempt in (0, 1):
        with _lock:
            if _launcher is None or _launcher.owner != os.getpid():
                _launcher = Launcher()
            current = _launcher
            try:
                current.send(message, fds)
                return
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN) or attempt:
                    raise
                current.close()
                _launcher = None


def _leave() -> None:
    """Close the socket at the interpreter's end. A handler of atexit(3) that runs later gets a launcher of its own."""
    global _launcher
    if _launcher and _launcher.owner == os.getpid():
        _launcher.close()
        _launcher = None


atexit.register(_leave)


def launcher_pid() -> int:
    """Return the pid of this process's launcher, 0 if none was started yet."""
    with _lock:
        current = _launcher
    if not current:
        return 0
    if not current.pid:
        call = Answers()
        try:
            request(("ping", call.number), call.request_fds([]))
            current.pid = call.await_verdict()[0]
        finally:
            call.close()
    return current.pid


class Answers:
    """The two sockets on which the launcher and the container answer one request."""

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.owner = os.getpid()
        kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        self.end, self._their_end = _socket.socketpair(_socket.AF_UNIX, kind)
        self.verdict, self._their_verdict = _socket.socketpair(_socket.AF_UNIX, kind)
        self.verdict.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
        self.status: int | None = None
        self.kills = 0
        self.finished = False  # whether the launcher has sent END, its last message
        _asking.add(self)

    def request_fds(self, fds: list[int]) -> list[int]:
        """Return the fds of a request: the other ends of the two sockets, then those of the program."""
        return [self._their_end.fileno(), self._their_verdict.fileno(), *fds]

    def close_other_ends(self) -> None:
        """Close the other ends, of which the launcher has its own copies now."""
        self._their_end.close()
        self._their_verdict.close()
        _asking.discard(self)

    def close(self) -> None:
        """Close everything."""
        self.close_other_ends()
        self.end.close()
        self.verdict.close()

    def abandon(self, patience: float = 0.0) -> None:
        """End a container that nobody will wait for, and close everything.

        patience: how many seconds to wait at most until it is gone.
        """
        try:
            self.ask_to_kill()
            if patience:
                self.wait(patience)
        except LauncherError:
            pass  # it has ended with its launcher
        finally:
            self.close()

    def ask_to_kill(self) -> None:
        """Let the launcher kill the container, also one that it has not begun to make."""
        answers = Answers()
        try:
            request(("kill", answers.number, self.number), answers.request_fds([]))
        except (OSError, RootlessError):
            pass  # the launcher is gone, and its containers with it
        finally:
            answers.close()

    def call(self, words: Any, fds: list[int]) -> None:
        """Give a warm container its call. Raises OSError if the container has ended."""
        wire.send(self.verdict, words, fds)

    def await_verdict(self) -> tuple[int, int]:
        """Wait until the program runs. Return (its pid, its pidfd, -1 for none).

        Raises the RootlessError that says why it does not, LauncherError if the launcher was killed.
        """
        self.close_other_ends()
        pid, pidfd, _ = self._receive_verdict()
        self.verdict.close()
        if pid:
            return pid, pidfd
        status = self.wait(None)  # EXECUTING never came, so the exit status has to explain it
        if status is None or not self.finished:
            raise LauncherError("the launcher was killed while the container was set up")
        raise _died(status, self.kills)

    def await_answer(self) -> str:
        """Wait until something was done to a container. Return the answer; raises RootlessError."""
        self.close_other_ends()
        pid, _, payload = self._receive_verdict()
        if not pid:
            raise LauncherError("the launcher was killed meanwhile")
        return payload.decode()

    def _receive_verdict(self) -> tuple[int, int, bytes]:
        """Return (pid, pidfd, payload of EXECUTING) when the program runs; pid is 0 if it does not.

        After EXECUTING execve closes the other side. STARTED comes when it has succeeded.
        Raises the RootlessError that was sent.
        """
        pid, pidfd, payload = 0, -1, b""
        space = _socket.CMSG_SPACE(_PIDFD_NUMBER.size) + _socket.CMSG_SPACE(8)
        while True:
            try:
                data, ancillary, _, _ = self.verdict.recvmsg(65536, space, _socket.MSG_CMSG_CLOEXEC)
            except ConnectionResetError:
                continue
            for level, kind, raw in ancillary:
                if level == _socket.SOL_SOCKET and kind == _socket.SCM_CREDENTIALS:
                    sender = _PIDFD_NUMBER.unpack(raw)[0]
                    pid = sender if data[:1] in (channel.EXECUTING, channel.STARTED) else pid
                elif level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                    (pidfd, *end) = struct.unpack(f"{len(raw) // 4}i", raw)
                    if end:
                        self._move_to(*end)
            if data[:1] == channel.STEP:
                warnings.warn(data[1:].decode("utf-8", "replace"), RuntimeWarning, stacklevel=_level_of_caller())
                continue
            if data[:1] == channel.FAILED:
                if pidfd >= 0:
                    os.close(pidfd)
                from rootless.api.keyword_errors import name_keywords

                raise name_keywords(channel.read_failure(data[1:]))
            if data[:1] != channel.EXECUTING:  # STARTED, or nothing because the other side is closed
                return pid, pidfd, payload
            payload = data[1:]
            if payload.isdigit():  # the sender is the program's parent, and names the program's pid
                pid = int(payload)

    def _move_to(self, end: int) -> None:
        """Wait for the end of a container that was made before the call (api/spares.py) on its own socket."""
        self.end.close()
        self.end = _socket.socket(fileno=end)

    def wait(self, timeout: float | None, *, complete: bool = False) -> int | None:
        """Return the program's wait status, None if the time is over first. Raises LauncherError.

        complete: wait for the launcher's last message, which has the number of OOM kills.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not (self.finished or (self.status is not None and not complete)):
            if until is not None:
                poller = select.poll()
                poller.register(self.end, select.POLLIN)
                if not poller.poll(milliseconds(until - time.monotonic())):
                    if time.monotonic() < until:
                        continue
                    return None
            try:
                data = self.end.recv(64)
            except ConnectionResetError:
                data = b""
            if not data:
                if self.status is not None:
                    self.finished = True
                    break
                raise LauncherError(
                    "the launcher was killed, and its containers with it", hint="the next call starts a new one"
                )
            kind, status, kills = wire.unpack_end(data)
            if kind == wire.END:
                self.finished = True
                self.kills = kills
                self.status = status if self.status is None else self.status
            else:
                self.status = status
        return self.status


def _level_of_caller() -> int:
    """Return the `stacklevel` for warnings.warn of the first frame that is neither ours nor subprocess's."""
    own = (__file__.rpartition("/api/")[0] + "/", subprocess.__file__)
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(own):
        level, frame = level + 1, frame.f_back
    return level


def _died(status: int, kills: int) -> RootlessError:
    code = os.waitstatus_to_exitcode(status)
    how = f"signal {-code}" if code < 0 else f"exit status {code}"
    hint = advice("memory-limit-reached") if kills else ""
    return RootlessError(f"the container's init ended during set-up: {how}", hint=hint)
