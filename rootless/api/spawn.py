"""Spawn the launcher's process. This module imports next to nothing, so that the first call can begin with it: not even
`__future__`, which takes a tenth of a millisecond.

While the launcher's interpreter starts on one processor, the caller's imports subprocess and the rest on another.

wait(2) of the caller's program must not return the launcher, so init adopts it. A small program starts it and ends: to
fork in the launcher would take longer, because the pages of an interpreter are copied then.
"""

import _socket
import os
import sys
from _thread import RLock

# bin/rootless starts from the same stored code.
_PROGRAM = """import gc, marshal, posix, sys
gc.disable()
package = sys.argv[1]
sys.path.append(package)
codecache = sys.modules["rootless.startup.codecache"] = type(sys)("rootless.startup.codecache")
codecache.__file__ = package + "/rootless/startup/codecache.py"
try:
    file = posix.open(package + "/rootless/__pycache__/launch.%s.code" % sys.implementation.cache_tag, posix.O_CLOEXEC)
    exec(marshal.loads(posix.read(file, 99999)), codecache.__dict__)
    posix.close(file)
    start = codecache.start_launcher
except Exception:  # there is none yet, or an older version's
    loader = sys.modules["_frozen_importlib_external"].SourceFileLoader
    exec(loader(codecache.__name__, codecache.__file__).get_code(codecache.__name__), codecache.__dict__)
    start = codecache.start_launcher
start()
from rootless.api.launcher import main
main(*sys.argv[2:])
"""
# spawn.S as an ELF file for x86-64: it executes its arguments in a child, and ends.
_STARTER = bytes.fromhex(
    "7f454c4602010100000000000000000002003e0001000000b000400000000000400000000000000000000000000000000000"
    "00004000380002000000000000000100000005000000000000000000000000004000000000000000400000000000e9000000"
    "00000000e900000000000000001000000000000051e574640600000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000000010000000000000006a00b83a0000000f0585c0781d7520488b7c2410488d7424"
    "10488b4c2408488d54cc18b83b0000000f05f7d88904248b3c24b8e70000000f05"
)
_MFD_EXEC = 0x10  # from Linux 6.3 on (memfd_create(2))


def _above_streams(fd: int) -> int:
    """Return the descriptor, moved if it has the number of a stream that the caller has closed."""
    if fd > 2:
        return fd
    import fcntl

    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved


def _open_starter() -> int:
    """Return an fd of the program that starts the launcher. Raises OSError."""
    try:
        fd = os.memfd_create("rootless-starter", os.MFD_CLOEXEC | _MFD_EXEC)
    except OSError:  # EINVAL: an older kernel, where every memfd may be executed
        fd = os.memfd_create("rootless-starter", os.MFD_CLOEXEC)
    try:
        if os.write(fd, _STARTER) < len(_STARTER):
            raise OSError  # a limit of file sizes (RLIMIT_FSIZE)
        return _above_streams(fd)
    except OSError:
        os.close(fd)
        raise


class Spawned:
    """Hold the process that starts the launcher and ends then, and the socket for requests.

    is_adopted: whether the launcher is not a child of this process. If not, it forks and becomes its own child.
    """

    __slots__ = ("is_adopted", "owner", "pid", "requests")

    def __init__(self) -> None:
        self.owner = os.getpid()
        kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        self.requests, theirs = _socket.socketpair(_socket.AF_UNIX, kind)
        theirs = _socket.socket(fileno=_above_streams(theirs.detach()))
        parent = _above_streams(os.pidfd_open(self.owner))
        try:
            self.pid, self.is_adopted = _spawn(theirs.fileno(), parent)
            # The kernel wakes a process that has waited for a vfork on the child's processor. It goes on there, and the
            # child waits until the next tick, up to 4 ms, even if another processor is idle.
            os.sched_yield()
        except BaseException:
            self.requests.close()
            raise
        finally:
            theirs.close()
            os.close(parent)

    def reap(self) -> None:
        """Wait for the process. The caller may have done so, by wait(2) or by ignoring SIGCHLD.

        Raises OSError if it could not execute Python.
        """
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            return
        error = os.waitstatus_to_exitcode(status)
        if self.is_adopted and error > 0:
            raise OSError(error, os.strerror(error), _python())


def _spawn(requests: int, parent: int) -> tuple[int, bool]:
    """Return (pid, whether it only starts the launcher). Raises OSError."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1),
        (os.POSIX_SPAWN_DUP2, 0, 2),
        # To its own number: execve(2) does not close it then (posix_spawn_file_actions_adddup2(3)).
        *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in (requests, parent)),
    ]
    if os.uname().machine == "x86_64":
        starter = -1
        try:
            starter = _open_starter()
            words = command_line(requests, parent, is_adopted=True)
            return os.posix_spawn(f"/proc/self/fd/{starter}", words, os.environ, file_actions=actions), True
        except OSError:  # this host executes no file in memory, or lacks /proc
            pass
        finally:
            if starter >= 0:
                os.close(starter)
    words = command_line(requests, parent, is_adopted=False)
    return os.posix_spawn(words[0], words, os.environ, file_actions=actions), False


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


def announce(settings: bytes) -> None:
    """Tell a launcher that nobody has taken yet the settings of its first container. Raises OSError."""
    from rootless.api import wire

    with _lock:
        if _early and _early.owner == os.getpid():
            wire.send(_early.requests, ("expect", 0, settings), [], patience=0)


def _forget() -> None:
    global _lock, _early
    _lock = RLock()
    if _early:
        _early.requests.close()  # the parent's
        _early = None


os.register_at_fork(after_in_child=_forget)


def _python() -> str:
    return sys.executable or f"{sys.base_exec_prefix}/bin/python3"  # a program with Python in it may leave it empty


def command_line(requests: int, parent: int, *, is_adopted: bool) -> list[str]:
    """Return the argv that starts the launcher of this very package."""
    package = __file__.rpartition("/rootless/api/")[0]
    return [_python(), "-IS", "-c", _PROGRAM, package, str(requests), str(parent), "adopted" if is_adopted else "child"]
