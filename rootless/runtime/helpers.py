"""Note the processes that serve a container from outside, and end them: a network engine, a supervisor.

Each is a dangling symbolic link in the state directory, `helper.KIND.PID`, whose text is "PID START_TIME". Whoever
waits for the container's end ends them, and so does `delete`.
"""

from __future__ import annotations

from _signal import SIGKILL, pidfd_send_signal  # type: ignore[import-not-found]

from rootless.kernel import proc
from rootless.kernel.waiting import wait_for
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.runtime.state import StateDir

PREFIX = "helper."
_PATIENCE = 10  # seconds that a killed process has to end


def note_helper(directory: StateDir, kind: str, pid: int, start_time: int) -> None:
    """Note a helper, so that `delete --force` finds it. Raises RootlessError."""
    directory.note(f"{pid} {start_time}", f"{PREFIX}{kind}.{pid}")


def end_helpers(directory: StateDir) -> None:
    """Kill the helpers that still run, and wait for their ends. Raises OSError and RootlessError.

    A pid may be another process's by now, so only one with the noted start time is killed.
    """
    for name in directory.names():
        if not name.startswith(PREFIX):
            continue
        words = directory.noted(name).split()
        if len(words) != 2 or not all(word.isdigit() for word in words):
            continue
        pid, started = int(words[0]), int(words[1])
        pidfd = proc.open_pidfd(pid)
        if pidfd < 0:
            continue
        try:
            if proc.alive(pid, started):
                pidfd_send_signal(pidfd, SIGKILL)
                wait_for(pidfd, _PATIENCE)
            os.waitpid(pid, os.WNOHANG)  # `run` is its parent, and process 1 of a container may reap nobody
        except (ProcessLookupError, ChildProcessError):
            pass  # it has ended by itself, or is another process's child
        finally:
            os.close(pidfd)
