"""A small init as pid 1: it reaps, passes signals on, and passes on the end of the one program that it is there for.

The kernel drops a signal without a handler for pid 1 and whatever pid 1 sends to itself (pid_namespaces(7)), so a plain
program as pid 1 would not end at SIGTERM, nor with -6 at abort(3).
"""

from __future__ import annotations

import errno
from _signal import SIG_SETMASK, pthread_sigmask, sigwaitinfo  # type: ignore[import-not-found]
from struct import pack

from rootless.kernel import caps
from rootless.kernel import syscalls as sc
from rootless.process.program import close_all_but
from rootless.startup import lean_os as os

_CHLD, _KILL = 17, 9
_LEFT = frozenset((9, 11, 7, 8, 4, 5, 19, 32, 33))  # they cannot be waited for, or tell of a fault of one's own
ALL = [number for number in range(1, 65) if number not in _LEFT]


def reap(program: int, status_fd: int) -> None:
    """Live pid 1's life beside its child `program`; the caller has blocked the signals of ALL before it was cloned.

    Every signal that arrives goes to the program. When that has ended, all that it left behind is killed and reaped,
    then its wait status goes to `status_fd` as `S` and an int, -1 for nobody. Return where pid 1 is to end.
    """
    close_all_but([status_fd] if status_fd >= 0 else [])
    for fd in (0, 1, 2):
        try:
            os.close(fd)
        except OSError:
            pass  # the caller has closed it already
    while True:
        info = sigwaitinfo(ALL)
        if info.si_signo != _CHLD:
            _pass_on(program, info.si_signo)
            continue
        status = _reap_ended(program)
        if status is not None:
            break
    _end_all()
    if status_fd >= 0:
        try:
            os.write(status_fd, b"S" + pack("i", status))
        except OSError:
            pass  # nobody is left to be told
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def block_all() -> set[int]:
    """Block what `reap` waits for; return the mask before. Called before the program is cloned: none may be lost."""
    before: set[int] = pthread_sigmask(SIG_SETMASK, ALL)
    return before


def _pass_on(program: int, signum: int) -> None:
    try:
        os.kill(program, signum)
    except ProcessLookupError:
        pass


def _reap_ended(program: int) -> int | None:
    """Reap all that have ended. Return the program's wait status once it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == program:
            found = status


def _end_all() -> None:
    """Kill and reap every other process of this pid namespace, so that none outlives the report."""
    try:
        os.kill(-1, _KILL)
    except OSError as error:
        if error.errno != errno.ESRCH:
            raise
        return
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def shut_out(sets: dict[str, int]) -> None:
    """Keep programs of the container from reading pid 1's memory, which is a copy of the runtime's (ptrace(2)).

    A capability that they can never have does it, and then the caller outside may still enter pid 1's namespaces. Where
    they may have every one, or CAP_SYS_PTRACE, pid 1 is closed to all.
    """
    dumpable = caps.keeps_out(sc.capget()[1], sets)
    sc.prctl(sc.PR_SET_DUMPABLE, 1 if dumpable else 0)
