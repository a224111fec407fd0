"""Keep one container ahead: the launcher sets it up for settings that are asked for again and again.

A spare is a fresh container that waits for its call, as a warm one of a Sandbox does. A call takes it if nothing that
its set-up has looked at can be another by now; otherwise the call gets a container that is set up for it alone.
"""

from __future__ import annotations

import select
import time
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socketpair

from rootless.api import clones, wire
from rootless.startup import lean_os as os
from rootless.steps.binds import BindMount
from rootless.steps.root import AttachRootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from rootless.api.plans import Compiled
    from rootless.api.running import Own, Running

_OFTEN = 1.0  # seconds: calls that follow each other faster are expected to go on
_CALLS = 3  # so many of them, until a spare is made
_MOST = 4  # spares at once, each for settings of its own


class Spare:
    """A container that waits for any call with the same settings.

    calls: the socket for its call; places: what its set-up has found at the paths of the host; since: when it was made.
    """

    __slots__ = ("calls", "places", "running", "since")

    def __init__(self, running: Running, calls: socket, places: Places) -> None:
        self.running = running
        self.calls = calls
        self.places = places
        self.since = time.monotonic()


if TYPE_CHECKING:
    Places = list[tuple[int, int]]  # (device, inode) of each path that is mounted from the host


class Spares:
    """Make spares when the launcher has nothing else to do, give them away, and end those that nobody takes."""

    def __init__(self, own: Own) -> None:
        self.own = own
        self.waiting: dict[Compiled, Spare] = {}
        self.recent: dict[Compiled, list[float]] = {}  # when the last calls came
        self.number = 0
        self.mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self.changes = select.poll()  # reports an error when the host's mounts have changed (proc_pid_mountinfo(5))
        self.changes.register(self.mounts, select.POLLPRI)

    def take(self, compiled: Compiled, number: int, fds: list[int], words: Any) -> Running | None:
        """Give a call to a spare. Return the container, None if there is none or the call cannot use it."""
        if clones.is_pid1(words) or not may_wait(compiled):
            return None
        self._count(compiled)
        spare = self.waiting.pop(compiled, None)
        if not spare:
            return None
        if self._is_outdated(compiled, spare):
            self._end(spare)
            return None
        try:
            wire.send(spare.calls, words, fds[1:])
        except OSError:  # it has ended
            self._end(spare)
            return None
        spare.calls.close()
        spare.running.number = number
        spare.running.asked = os.dup(fds[0])
        return spare.running

    def _count(self, compiled: Compiled) -> None:
        now = time.monotonic()
        calls = self.recent.setdefault(compiled, [])
        if calls and now - calls[-1] > _OFTEN:
            calls.clear()
        calls.append(now)
        del calls[:-_CALLS]

    def _is_outdated(self, compiled: Compiled, spare: Spare) -> bool:
        if self.changes.poll(0):
            self.end_all()
            return True
        return find_places(compiled) != spare.places

    def refill(self) -> Running | None:
        """Make one spare for settings that were asked for often of late; None if there are none without a spare."""
        now = time.monotonic()
        for compiled, calls in list(self.recent.items()):
            if now - calls[-1] > _OFTEN or compiled.closed:
                del self.recent[compiled]
            elif len(calls) == _CALLS and compiled not in self.waiting and len(self.waiting) < _MOST:
                return self._make(compiled)
        return None

    def _make(self, compiled: Compiled) -> Running | None:
        self.number -= 1
        kind = SOCK_SEQPACKET | SOCK_CLOEXEC
        calls, its_calls = socketpair(AF_UNIX, kind)
        end, its_end = socketpair(AF_UNIX, kind)
        try:
            places = find_places(compiled)
            fds = [its_end.fileno(), its_calls.fileno()]
            running = clones.clone_container(
                compiled, self.number, its_calls, fds, None, self.own, answers=end.fileno()
            )
        except BaseException:  # the next call says why
            calls.close()
            self.recent.pop(compiled, None)
            return None
        finally:
            for sock in (its_calls, end, its_end):
                sock.close()
        running.compiled = compiled
        self.waiting[compiled] = Spare(running, calls, places)
        return running

    def left(self) -> float | None:
        """Return the seconds until the next spare is too old, None without one."""
        if not self.waiting:
            return None
        oldest = min(spare.since for spare in self.waiting.values())
        return max(0.0, oldest + _OFTEN - time.monotonic())

    def end_old(self) -> None:
        """End the spares that nobody has taken in time."""
        now = time.monotonic()
        for compiled, spare in list(self.waiting.items()):
            if now - spare.since >= _OFTEN:
                del self.waiting[compiled]
                self._end(spare)

    def end_all(self) -> None:
        """End every spare."""
        while self.waiting:
            self._end(self.waiting.popitem()[1])

    def _end(self, spare: Spare) -> None:
        spare.calls.close()
        spare.running.kill()

    def forget(self, running: Running) -> None:
        """Forget a spare that has ended by itself."""
        for compiled, spare in list(self.waiting.items()):
            if spare.running is running:
                spare.calls.close()
                del self.waiting[compiled]


def may_wait(compiled: Compiled) -> bool:
    """Return whether a container of these settings may be set up before its call.

    One with a cgroup or with warnings has something to say to its caller while it is set up. An overlay must not see
    its lower directory change (overlayfs.rst, "Changes to underlying filesystems").
    """
    plan = compiled.plan
    return not (
        compiled.needs_runtime
        or compiled.limited
        or plan.warnings
        or any(getattr(step, "fstype", "") == "overlay" for step in plan.prepare)
    )


def find_places(compiled: Compiled) -> Places:
    """Return what is at each path of the host that the plan mounts, (0, 0) for nothing."""
    found = []
    for step in compiled.plan.prepare:
        path = step.path if isinstance(step, AttachRootfs) else step.source if isinstance(step, BindMount) else ""
        if path:
            try:
                status = os.stat(path)
                found.append((status.st_dev, status.st_ino))
            except OSError:
                found.append((0, 0))
    return found
