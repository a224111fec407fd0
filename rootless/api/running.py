"""Hold what the launcher knows of a container that runs, and of itself."""

from __future__ import annotations

from _signal import pidfd_send_signal  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from select import epoll

    from rootless.api.plans import Compiled
    from rootless.cgroup.driver import Cgroup

_KILL, _TERM = 9, 15


class Own:
    """Hold what belongs to the launcher itself: its pidfd, the socket for requests, and what it polls."""

    __slots__ = ("pidfd", "poller", "requests")

    def __init__(self, pidfd: int, requests: socket, poller: epoll) -> None:
        self.pidfd = pidfd
        self.requests = requests
        self.poller = poller

    def leave(self) -> None:
        """Close what a copy of the launcher has no part in: called in the copy."""
        self.requests.close()
        self.poller.close()


class Running:
    """A container that runs: its init, the socket that waits for its end, and its cgroup (None without one).

    asked: of a spare that has a call, the socket on which the caller waits until the program runs, else -1. Its end
    without a message tells the caller to ask again.
    """

    __slots__ = ("asked", "compiled", "container_id", "end", "group", "named", "number", "pid", "pidfd")

    def __init__(self, number: int, pid: int, pidfd: int, end: int) -> None:
        self.number = number
        self.pid = pid
        self.pidfd = pidfd
        self.end = end
        self.asked = -1
        self.group: Cgroup | None = None
        self.container_id = ""  # of one with a runtime: its state directory's name
        self.named = False  # its process is the runtime of a named container, or of an `exec`
        self.compiled: Compiled | None = None

    def kill(self) -> None:
        """Kill the container. One with a runtime is killed by that, which then removes it (api/named.py)."""
        has_runtime = self.compiled and self.compiled.needs_runtime
        try:
            pidfd_send_signal(self.pidfd, _TERM if has_runtime else _KILL)
        except ProcessLookupError:
            pass
