"""Run a small init as pid 1: it reaps processes, forwards signals to one program, and reports the program's end.

The kernel drops a signal to pid 1 that pid 1 has no handler for, even one that pid 1 sends to itself
(pid_namespaces(7)). So an ordinary program as pid 1 would not end at SIGTERM, nor with -6 at abort(3).
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
_NAME = b"rootless:init"
_LEFT = frozenset((9, 11, 7, 8, 4, 5, 19, 32, 33))  # those that sigwaitinfo(2) cannot take, and faults of this process
ALL = [number for number in range(1, 65) if number not in _LEFT]


def reap(program: int, status_fd: int) -> None:
    """Do the work of pid 1 until its child `program` has ended, then exit. block_all was called before the clone.

    Every signal is forwarded to the program. After its end all other processes are killed and reaped. Then the wait
    status is written to status_fd as `S` and an int; -1 for none.
    """
    close_all_but([status_fd] if status_fd >= 0 else [])
    for fd in (0, 1, 2):
        try:
            os.close(fd)
        except OSError:
            pass  # the caller has started the container with this stream closed
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
            pass  # nobody reads it any more
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def hide_arguments(place: tuple[int, int], name: bytes = _NAME) -> None:
    """Replace the arguments of this process by its name, because every program of the container reads /proc/1/cmdline.

    They hold paths of the host. place: what proc.own_arguments returned.
    """
    first, last = place
    if last - first > len(name):
        sc.write_memory(first, name.ljust(last - first, b"\0"))


def block_all() -> set[int]:
    """Block the signals that `reap` waits for; return the old mask. Call it before the clone, so that none is lost."""
    before: set[int] = pthread_sigmask(SIG_SETMASK, ALL)
    return before


def _pass_on(program: int, signum: int) -> None:
    try:
        os.kill(program, signum)
    except ProcessLookupError:
        pass


def _reap_ended(program: int) -> int | None:
    """Reap all processes that have ended. Return the program's wait status if it is one of them, else None."""
    program_status = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return program_status
        if pid == 0:
            return program_status
        if pid == program:
            program_status = status


def _end_all() -> None:
    """Kill and reap every other process of this pid namespace, so that none outlives the report.

    A container without a pid namespace of its own is in the host's, or in one that others are in, too. There -1 means
    all processes of this user (kill(2)).
    """
    if os.getpid() != 1:
        return
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

    A capability that pid 1 has and the programs can never get is enough, and the caller outside may still enter pid 1's
    namespaces. If the programs can get all of pid 1's capabilities, or CAP_SYS_PTRACE, pid 1 is made undumpable.
    """
    dumpable = caps.keeps_out(sc.capget()[1], sets)
    sc.prctl(sc.PR_SET_DUMPABLE, 1 if dumpable else 0)
