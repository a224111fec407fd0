"""Start child processes as copies of this one, and make sure that an exception in a copy ends the copy.

A copy has the whole stack of its parent. An exception that unwound this stack would reach the parent's handlers: the
copy would print the parent's error, undo what the parent has made, and end with the parent's exit code.
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

    life: must report its errors itself. If it returns or raises, instead of calling execve or os._exit, the child ends
    with exit code 1. Raises OSError if no child could be made.
    """
    # A signal handler may raise (signals.py). It must not raise in the child before the `try`, and in the parent not
    # before the caller knows the pid.
    before = pthread_sigmask(SIG_BLOCK, ENDING)
    pid = pidfd = -1
    try:
        # A sibling has the exit signal of its parent's leader (clone(2), CLONE_PARENT).
        pid, pidfd = sc.clone3(flags, exit_signal=0 if flags & sc.CLONE_PARENT else 17, cgroup_fd=cgroup_fd)
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
    except BaseException:  # a signal that came meanwhile: end the child, because the caller never learns its pid
        if pid > 0:
            proc.end(pid, pidfd)
        raise
