"""End a program after a time limit: with TERM, then with KILL, and with an exit code that says so."""

from __future__ import annotations

import time
from _signal import pidfd_send_signal  # type: ignore[import-not-found]

from rootless.kernel.waiting import milliseconds
from rootless.runtime.escalation import ends_by_default

EXIT_TIMEOUT = 124  # the exit code of timeout(1)
GRACE = 10.0  # seconds from TERM to KILL
_KILL, _TERM = 9, 15


class TimeLimit:
    """Hold the time limit of a program. over: whether the time has passed while the program ran."""

    __slots__ = ("grace", "next", "over", "pid", "pidfd")

    def __init__(self, seconds: float, pid: int, pidfd: int, grace: float = GRACE) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.grace = grace
        self.next = time.monotonic() + seconds  # when to act next; 0: never
        self.over = False

    def timeout(self) -> float | None:
        """Return how many milliseconds poll(2) may wait until `look` is called, None for any time."""
        return milliseconds(self.next - time.monotonic()) if self.next else None

    def look(self) -> None:
        """Send TERM when the time has passed, and KILL when the program has not ended in its grace time.

        Pid 1 of a pid namespace does not get a TERM that it has no handler for (pid_namespaces(7)). Elsewhere TERM
        would end such a program at once, so it gets KILL at once.
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
