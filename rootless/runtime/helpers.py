"""Note the processes that serve a container from outside: a network engine, the supervisor of root emulation.

Each is a dangling symbolic link in the state directory, `helper.KIND.PID`, whose text is "PID START_TIME". A helper
ends by itself with the container; `delete` ends those that do not.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from rootless.kernel import proc

if TYPE_CHECKING:
    from rootless.runtime.state import StateDir

PREFIX = "helper."


def note_helper(directory: StateDir, kind: str, pid: int, start_time: int) -> None:
    """Note a helper, so that `delete --force` finds it. Raises RootlessError."""
    directory.note(f"{pid} {start_time}", f"{PREFIX}{kind}.{pid}")


def end_helpers(directory: StateDir) -> None:
    """Kill the helpers that still run. The number of one that has ended may be another process's by now."""
    for name in os.listdir(directory.fd):
        if name.startswith(PREFIX):
            words = directory.noted(name).split()
            if len(words) == 2 and all(word.isdigit() for word in words):
                _kill(int(words[0]), int(words[1]))


def _kill(pid: int, started: int) -> None:
    pidfd = proc.open_pidfd(pid)
    if pidfd < 0:
        return
    try:
        if proc.alive(pid, started):  # the pidfd was opened before, so it is that process's
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has ended by itself
    finally:
        os.close(pidfd)
