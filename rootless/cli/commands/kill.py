"""`kill`: send a signal to a container's init, or to all that is in it."""

from __future__ import annotations

from _signal import pidfd_send_signal  # type: ignore[import-not-found]

from rootless.errors import RootlessError
from rootless.kernel import proc
from rootless.kernel.signals import parse_signal
from rootless.runtime.container import Container, each_match, load
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """`rootless kill [--all] ID [SIGNAL]`."""
    signum = parse_signal(options.signal or "TERM")
    if options.regex:
        return each_match(options, main)
    container = load(options)
    if options.all:
        kill_all(container, signum)
        return 0
    if signum == 9 and container.state.get("shared_pids") and container.cgroup().procs():
        kill_all(container, signum)  # as runc: without a pid namespace of its own the others outlive init
        return 0
    container.require("creating", "created", "running", "paused", action="kill")
    if not send(container, signum):
        raise RootlessError(
            "cannot kill a container that has stopped: container not running", f'"{options.container_id}"'
        )
    return 0


def send(container: Container, signum: int) -> bool:
    """Signal the init, and it alone: by a pidfd whose process is checked after it is open. False if it is gone."""
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
    """Every process: by the cgroup where there is one, else init (a pid namespace ends with it: pid_namespaces(7))."""
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
