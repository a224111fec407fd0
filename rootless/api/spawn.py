"""Spawn the launcher's process. This module imports next to nothing, so that the first call can begin with it: not even
`__future__`, which takes a tenth of a millisecond.

While the launcher's interpreter starts on one processor, the caller's imports subprocess and the rest on another.
"""

import _socket
import os
import sys
from _thread import RLock

_PROGRAM = (
    "import gc, sys; gc.disable(); sys.path.append(sys.argv[1]); from rootless.startup import codecache; "
    "codecache.load_for('launcher'); from rootless.api.launcher import main; main(*sys.argv[2:])"
)


def _above_streams(fd: int) -> int:
    """Return the descriptor, moved if it has the number of a stream that the caller has closed."""
    if fd > 2:
        return fd
    import fcntl

    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved


class Spawned:
    """Hold a launcher's first process, which ends when the launcher is one of its own, and the socket for requests."""

    __slots__ = ("owner", "pid", "requests")

    def __init__(self) -> None:
        self.owner = os.getpid()
        kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        self.requests, theirs = _socket.socketpair(_socket.AF_UNIX, kind)
        parent = os.pidfd_open(self.owner)
        theirs = _socket.socket(fileno=_above_streams(theirs.detach()))
        parent = _above_streams(parent)
        words = command_line(theirs.fileno(), parent)
        try:
            self.pid = os.posix_spawn(
                words[0],
                words,
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
                    (os.POSIX_SPAWN_DUP2, 0, 1),
                    (os.POSIX_SPAWN_DUP2, 0, 2),
                    # To its own number: execve(2) does not close it then (posix_spawn_file_actions_adddup2(3)).
                    *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in (theirs.fileno(), parent)),
                ],
            )
        except BaseException:
            self.requests.close()
            raise
        finally:
            theirs.close()
            os.close(parent)

    def reap(self) -> None:
        """Wait for the first process. The caller may have done so, by wait(2) or by ignoring SIGCHLD."""
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass


_lock = RLock()
_early: Spawned | None = None
_begun = 0  # the process that has spawned a launcher, because a thread may come here after another has taken it


def begin() -> None:
    """Spawn a launcher that `take` returns later. An error is left to `take`, which tries again."""
    global _early, _begun
    with _lock:
        if _begun != os.getpid():
            _begun = os.getpid()
            try:
                _early = Spawned()
            except OSError:
                _early = None


def take() -> Spawned:
    """Return the launcher that `begin` has spawned, else a new one. Raises OSError."""
    global _early, _begun
    with _lock:
        _begun = os.getpid()
        early, _early = _early, None
        if early and early.owner == os.getpid():
            return early
    return Spawned()


def _forget() -> None:
    global _lock, _early
    _lock = RLock()
    if _early:
        _early.requests.close()  # the parent's
        _early = None


os.register_at_fork(after_in_child=_forget)


def command_line(requests: int, parent: int) -> list[str]:
    """Return the argv that starts the launcher of this very package."""
    package = __file__.rpartition("/rootless/api/")[0]
    python = sys.executable or f"{sys.base_exec_prefix}/bin/python3"  # a program with Python in it may leave it empty
    return [python, "-IS", "-c", _PROGRAM, package, str(requests), str(parent)]
