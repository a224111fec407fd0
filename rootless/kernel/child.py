"""Processes that begin as a copy of this one: whatever happens in the copy, it ends there.

A copy has the whole stack of its parent. An exception that left it by the way it came would be handled a second time:
it would print the parent's error, take back what the parent has made, and end with the parent's exit code.
"""

from __future__ import annotations

from _signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask  # type: ignore[import-not-found]

from rootless.kernel import proc
from rootless.kernel import syscalls as sc
from rootless.kernel.signals import ENDING
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def clone(flags: int, life: Callable[[], None], *, cgroup_fd: int = -1) -> tuple[int, int]:
    """Call clone3(2); the child runs `life` and ends with it. Return the child's (pid, pidfd).

    `life` leaves by execve or os._exit, or says itself what went wrong: the child ends with 1 where it returns or
    raises. Raises OSError where there is no child.
    """
    # A signal's handler may raise (signals.py). It must not do so in the child before the `try` knows that it is one,
    # nor here before the caller knows the pid.
    before = pthread_sigmask(SIG_BLOCK, ENDING)
    pid = pidfd = -1
    try:
        pid, pidfd = sc.clone3(flags, cgroup_fd=cgroup_fd)
        if pid == 0:
            pthread_sigmask(SIG_SETMASK, before)
            life()
    finally:
        if pid == 0:
            os._exit(1)
        _unblock(before, pid, pidfd)
    return pid, pidfd


def _unblock(before: set[int], pid: int, pidfd: int) -> None:
    try:
        pthread_sigmask(SIG_SETMASK, before)
    except BaseException:  # a signal that came meanwhile: nobody will know of the child
        if pid > 0:
            proc.end(pid, pidfd)
        raise
