"""Count the OOM kills of a container (memory.events), and word messages that name the memory limit."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from rootless.errors import RootlessError

if TYPE_CHECKING:
    from rootless.cgroup.driver import Cgroup
    from rootless.cgroup.record import Record


class Watch:
    """Count the OOM kills of a cgroup from now on.

    fd: becomes ready with POLLPRI at each change, -1 without a memory controller; kills: the count at the last `look`.
    """

    def __init__(self, group: Cgroup) -> None:
        self.kills = 0
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
            if error.errno != errno.ENODEV:  # the cgroup is gone
                raise
            return 0
        return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)


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
