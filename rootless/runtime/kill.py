"""Send a signal to a container's init, or to all its processes."""

from __future__ import annotations

from _signal import pidfd_send_signal  # type: ignore[import-not-found]

from rootless.errors import RootlessError
from rootless.kernel import proc
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.runtime.container import Container


def kill(container: Container, signum: int) -> None:
    """Send a signal to a container like `runc kill` does. Raises RootlessError if it has stopped."""
    if signum == 9 and container.state.get("shared_pids") and container.cgroup().procs():
        kill_all(container, signum)  # like runc, because without a pid namespace the other processes would outlive init
        return
    container.require("creating", "created", "running", "paused", action="kill")
    if not send(container, signum):
        raise RootlessError(
            "cannot kill a container that has stopped: container not running", f'"{container.container_id}"'
        )


def send(container: Container, signum: int) -> bool:
    """Send a signal to init. Return False if init is gone. Raises RootlessError.

    The start time is checked after the pidfd is open, because the pid may have been reused before.
    """
    pidfd = proc.open_pidfd(container.pid) if container.pid else -1
    if pidfd < 0:
        return False
    try:
        if not container.alive():
            return False
        pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise RootlessError.from_os(error, f"cannot send signal {signum}", f'"{container.container_id}"') from None
    finally:
        os.close(pidfd)
    return True


def kill_all(container: Container, signum: int) -> None:
    """Send a signal to every process in the container's cgroup; without a cgroup, only to init.

    If KILL ends init, the kernel kills the other processes of its pid namespace (pid_namespaces(7)).
    """
    if container.cgroup_path:
        group = container.cgroup()
        if signum == 9:
            group.kill()
            return
        for pid in group.procs():
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                continue
        return
    send(container, signum)
