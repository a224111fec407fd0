"""Keep spares: containers that the launcher sets up ahead, for settings that callers ask for again and again.

A spare waits for its call, as a warm container of a Sandbox does. A call gets it only if everything that its set-up has
found on the host is still the same. Otherwise the launcher sets up a container for this call alone. The set-up of a
spare makes nothing in the rootfs, because the caller may just be removing it.
"""

from __future__ import annotations

import select
import time
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socketpair

from rootless.api import clones, seen, wire
from rootless.startup import lean_os as os
from rootless.steps.binds import BindMount
from rootless.steps.mounts import Mount
from rootless.steps.root import AttachRootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from rootless.api.plans import Compiled
    from rootless.api.running import Own, Running

_OFTEN = 1.0  # seconds: after calls that follow each other faster, another one is expected
_CALLS = 3  # the launcher makes a spare after this number of them
_MOST = 4  # spares at a time, each for other settings


class Spare:
    """A container that waits for a call with the same settings.

    calls: the socket over which it gets the call; places: what its set-up has found at the host's paths; since: when it
    was made, in seconds of time.monotonic.
    """

    __slots__ = ("calls", "places", "running", "since")

    def __init__(self, running: Running, calls: socket, places: Places) -> None:
        self.running = running
        self.calls = calls
        self.places = places
        self.since = time.monotonic()


if TYPE_CHECKING:
    Places = list[tuple[int, ...]]  # (device, inode) of each path that is mounted from the host, and seen.py's


class Spares:
    """Make spares when the launcher has nothing else to do, give them away, and end those that nobody takes."""

    def __init__(self, own: Own) -> None:
        self.own = own
        self.waiting: dict[Compiled, Spare] = {}
        self.recent: dict[Compiled, list[float]] = {}  # the times of the last _CALLS calls
        self.number = 0
        self.mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self.changes = select.poll()  # reports an error when the host's mounts have changed (proc_pid_mountinfo(5))
        self.changes.register(self.mounts, select.POLLPRI)

    def take(self, compiled: Compiled, number: int, fds: list[int], words: Any) -> Running | None:
        """Pass a call on to a spare; return the spare's container, None if no spare fits.

        fds: as clones.clone_container takes them; words: the call, as wire.py sends it.
        """
        if clones.is_pid1(words) or not may_wait(compiled):
            return None
        self.count(compiled)
        spare = self.waiting.pop(compiled, None)
        if not spare:
            return None
        if self._is_outdated(compiled, spare):
            self._end(spare)
            return None
        try:
            wire.send(spare.calls, words, fds[1:], patience=0)
        except OSError:  # the spare has ended
            self._end(spare)
            return None
        spare.calls.close()
        spare.running.number = number
        spare.running.asked = os.dup(fds[0])
        return spare.running

    def count(self, compiled: Compiled) -> None:
        """Note a call, because a spare is made after some."""
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
        """Make one spare, for settings of frequent calls that have none. Return it, None if no settings need one."""
        now = time.monotonic()
        for compiled, calls in list(self.recent.items()):
            if now - calls[-1] > _OFTEN or compiled.closed:
                del self.recent[compiled]
            elif len(calls) == _CALLS and compiled not in self.waiting and len(self.waiting) < _MOST:
                return self._make(compiled)
        return None

    def _make(self, compiled: Compiled) -> Running | None:
        self.number -= 1
        sockets: list[socket] = []
        try:
            places = find_places(compiled)
            for _ in range(2):
                sockets += socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
            calls, its_calls, end, its_end = sockets
            fds = [its_end.fileno(), its_calls.fileno()]
            running = clones.clone_container(
                compiled, self.number, its_calls, fds, None, self.own, answers=end.fileno()
            )
        except BaseException:  # no descriptors, for example. The next call says why.
            for sock in sockets:
                sock.close()
            self.recent.pop(compiled, None)
            return None
        for sock in sockets[1:]:
            sock.close()
        running.compiled = compiled
        self.waiting[compiled] = Spare(running, calls, places)
        return running

    def seconds_left(self) -> float | None:
        """Return the seconds until the oldest spare has to end, None without a spare."""
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
        """Forget a spare that has ended by itself. Another one would probably end, too, so none is made for now."""
        for compiled, spare in list(self.waiting.items()):
            if spare.running is running:
                spare.calls.close()
                del self.waiting[compiled]
                self.recent.pop(compiled, None)


def may_wait(compiled: Compiled) -> bool:
    """Return whether a container of these settings may be set up before its call.

    During its set-up a container with a cgroup or with warnings sends messages to its caller, and a spare has none yet.
    The lower directory of an overlay must not change once it is mounted (overlayfs.rst, "Changes to underlying
    filesystems"), and a caller may change it before the call. The set-up of a spare keeps the rootfs as it is
    (RootBuilder.close_for_writing), which it cannot do if another mount lies on the root.
    """
    plan = compiled.plan
    return not (
        compiled.needs_runtime
        or compiled.limited
        or plan.warnings
        or any(isinstance(step, Mount) and (step.fstype == "overlay" or step.target == "/") for step in plan.prepare)
    )


def find_places(compiled: Compiled) -> Places:
    """Return what is at each path of the host that the plan mounts, and at those that it mounts something on."""
    found: Places = []
    for step in compiled.plan.prepare:
        path = step.path if isinstance(step, AttachRootfs) else step.source if isinstance(step, BindMount) else ""
        if path:
            try:
                status = os.stat(path)
                found.append((status.st_dev, status.st_ino))
            except OSError:
                found.append(())
    if compiled.points is None:
        compiled.points = seen.find_points(compiled.plan)
    for root, paths in compiled.points.items():
        found += seen.look(root, paths)
    return found
