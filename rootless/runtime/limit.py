"""A program's time limit: TERM at its end, KILL when that does not help, and an exit code that says so."""

from __future__ import annotations

import time
from _signal import pidfd_send_signal  # type: ignore[import-not-found]

from rootless.runtime.escalation import ends_by_default

EXIT_TIMEOUT = 124  # timeout(1)
GRACE = 10.0  # seconds from TERM to KILL
_KILL, _TERM = 9, 15


class TimeLimit:
    """Seconds that a program may run. over: whether they have passed while it ran."""

    __slots__ = ("grace", "next", "over", "pid", "pidfd")

    def __init__(self, seconds: float, pid: int, pidfd: int, grace: float = GRACE) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.grace = grace
        self.next = time.monotonic() + seconds  # 0: nothing is left to do
        self.over = False

    def timeout(self) -> float | None:
        """Return the milliseconds until `look` has to be called, None for never."""
        return max(0.0, self.next - time.monotonic()) * 1000 if self.next else None

    def look(self) -> None:
        """Send TERM when the time has passed, and KILL when the program has had its grace.

        Pid 1 of a pid namespace does not get a TERM that it has no handler for (pid_namespaces(7)). Such a program
        would end by it anywhere else, so it is killed at once.
        """
        if not self.next or time.monotonic() < self.next:
            return
        if self.over or ends_by_default(self.pid, _TERM):
            self.over, self.next = True, 0.0
            self._send(_KILL)
            return
        self.over, self.next = True, time.monotonic() + self.grace
        self._send(_TERM)

    def _send(self, signum: int) -> None:
        try:
            pidfd_send_signal(self.pidfd, signum)
        except ProcessLookupError:
            self.next = 0.0
