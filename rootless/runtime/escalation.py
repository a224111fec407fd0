"""Kill a program that does not end when the user asks for it with Ctrl-C or `kill`.

Without this those would have no effect on many programs, because pid 1 of a pid namespace does not get a signal that it
has no handler for (pid_namespaces(7)).
"""

from __future__ import annotations

import select
import time
from _signal import pidfd_send_signal  # type: ignore[import-not-found]

from rootless import log

_INT, _KILL, _TERM = 2, 9, 15
_PATIENCE = 10.0  # seconds
_ONCE_MORE = "the program still runs: Ctrl-C once more kills it"


class Escalation:
    """Count the INT and TERM signals for a program without a terminal, and kill it in the end.

    The third INT kills it, if each came within ten seconds of the one before. Single INTs do not count, because a
    program may handle them, such as an interpreter's prompt. After two TERMs the program has ten seconds, counted from
    the first. It is then killed only if it has no handler for TERM, because a handler may still be at work.
    """

    __slots__ = ("deadline", "first_term", "interrupted", "interrupts", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.interrupts = 0
        self.interrupted = 0.0  # when the last INT came; all times are time.monotonic()'s
        self.first_term = 0.0  # 0: none came
        self.deadline = 0.0  # 0: no deadline

    def note(self, signum: int) -> None:
        """Count a signal that was forwarded to the program."""
        now = time.monotonic()
        if signum == _INT:
            self.interrupts = self.interrupts + 1 if now - self.interrupted < _PATIENCE else 1
            self.interrupted = now
            if self.interrupts == 2:
                _tell(_ONCE_MORE)
            elif self.interrupts > 2:
                self._kill()
        elif signum == _TERM:
            if self.first_term:
                self.deadline = self.deadline or max(now, self.first_term + _PATIENCE)
            else:
                self.first_term = now

    def timeout(self) -> float | None:
        """Return the milliseconds that poll(2) may wait until `look` has to be called, None for any time."""
        return max(0.0, self.deadline - time.monotonic()) * 1000 if self.deadline else None

    def look(self) -> None:
        """Kill the program if its deadline has passed and it has no handler for TERM."""
        if self.deadline and time.monotonic() >= self.deadline:
            self.deadline = 0.0
            if not notices(self.pid, _TERM):
                _tell("the program has no handler for TERM: killing it")
                self._kill()

    def _kill(self) -> None:
        try:
            pidfd_send_signal(self.pidfd, _KILL)
        except ProcessLookupError:
            pass


def notices(pid: int, signum: int) -> bool:
    """Return whether a process has a handler for a signal or blocks it, True if that cannot be read.

    A program that waits with sigwait(3) or signalfd(2) blocks the signal. Source: SigCgt and SigBlk of
    /proc/PID/status (proc(5)).
    """
    return _is_in_masks(pid, signum, (b"SigCgt:", b"SigBlk:"))


def ends_by_default(pid: int, signum: int) -> bool:
    """Return whether a process neither handles, blocks nor ignores a signal, so that the default action ends it.

    Return False if that cannot be read.
    """
    return not _is_in_masks(pid, signum, (b"SigCgt:", b"SigBlk:", b"SigIgn:"))


def _is_in_masks(pid: int, signum: int, names: tuple[bytes, ...]) -> bool:
    """Return whether one of these masks of a process has a signal, True if they cannot be read (proc_pid_status(5))."""
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            status = file.read(8192) or b""
    except OSError:
        return True
    masks = [line.split()[1] for line in status.split(b"\n") if line.startswith(names)]
    return not masks or any(int(mask, 16) & 1 << (signum - 1) for mask in masks)


def _tell(text: str) -> None:
    """Write a line on standard error if that does not block, because a process that blocks forwards no signals."""
    poller = select.poll()
    poller.register(2, select.POLLOUT)
    if any(events & select.POLLOUT for _, events in poller.poll(0)):
        log.notice(text)
