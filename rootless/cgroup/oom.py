"""Count the OOM kills of a container (memory.events), and word messages that name the memory limit."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from rootless.errors import RootlessError

if TYPE_CHECKING:
    from rootless.cgroup.driver import Cgroup
    from rootless.cgroup.record import Record


_RECENT = 1.0  # seconds
_KILLED = 128 + 9  # the exit code after SIGKILL


class Watch:
    """Count the OOM kills of a cgroup from now on.

    fd: becomes ready with POLLPRI at each change, -1 without a memory controller; kills: the count at the last `look`.
    """

    def __init__(self, group: Cgroup) -> None:
        self.kills = 0
        self._gone = False  # whether the cgroup is
        self._hits = 0  # how often the memory limit was reached,
        self._hit_at = -_RECENT  # and when that was last seen, by time.monotonic
        try:
            self.fd = os.open("memory.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=group.fd) if group.path else -1
        except (OSError, RootlessError) as error:
            # There is no memory controller, the container has removed our permission, or the cgroup is gone.
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EACCES, errno.EPERM):
                raise
            self.fd = -1
        self._before = self._count()

    def look(self) -> int:
        """Count again; return how many kills are new: 0 if systemd has removed the cgroup, and the count with it."""
        before = self.kills
        self.kills = max(before, self._count() - self._before)
        return self.kills - before

    def is_probable(self, exit_code: int) -> bool:
        """Return whether an OOM kill has probably ended the program, although none could be counted.

        exit_code: the program's. systemd removes the cgroup of an empty scope, and the count with it. The kernel tells
        of a change of memory.events at most once in 10 ms (kernel/cgroup/cgroup.c, CGROUP_FILE_NOTIFY_MIN_INTV): of the
        limit that was reached, but not always of the kill right after it.
        """
        is_recent = time.monotonic() - self._hit_at < _RECENT
        return not self.kills and self._gone and is_recent and exit_code == _KILLED

    def close(self) -> None:
        """Close the fd."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _count(self) -> int:
        if self.fd < 0:
            return 0
        try:
            text = os.pread(self.fd, 4096, 0).decode()
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            self._gone = True
            return 0
        counts = {name: int(count) for name, count in map(str.split, text.splitlines())}
        if counts.get("max", 0) > self._hits:
            self._hits, self._hit_at = counts["max"], time.monotonic()
        return counts.get("oom_kill", 0)


def memory_limit(record: Record) -> tuple[str, str]:
    """Return (bytes, JSON pointer) of the memory limit in a container's record, ("", "") for none."""
    entries = (entry for entry in record.get("files", ()) if entry[0] == "memory.max")
    return next(((value, pointer) for _, value, pointer in entries), ("", ""))


def describe(kills: int, limit: tuple[str, str]) -> str:
    """Return one line about OOM kills."""
    value, pointer = limit
    processes = "a process" if kills == 1 else f"{kills} processes"
    because = f": memory.max is {value} bytes: {pointer}" if value else ""
    return f"out of memory: the kernel killed {processes} of the container{because}"


def probable(limit: tuple[str, str]) -> str:
    """Return a hint for a killed process whose cgroup is gone, so that nothing can be counted; "" without a limit."""
    value, pointer = limit
    return f"probably out of memory: memory.max is {value} bytes: {pointer}" if value else ""


def too_small(limit: tuple[str, str]) -> str:
    """Return a hint for a step that failed with ENOMEM, "" without a limit."""
    return f"memory.max is {limit[0]} bytes, too small for the set-up: {limit[1]}"
