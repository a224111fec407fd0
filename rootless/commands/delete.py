"""`delete`: take away a stopped (or created, or with --force any) container and all that it used."""

from __future__ import annotations

import select
from fcntl import LOCK_EX, flock

from rootless import lean_os as os
from rootless import log, proc
from rootless.commands.kill import kill_all, send
from rootless.container import CREATING_SOCKET, Container, each_match, load
from rootless.errors import NoSuchContainer, RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.options import Options
    from rootless.state import StateDir


def main(options: Options) -> int:
    """`rootless delete [--force] ID`."""
    if options.regex:
        return each_match(options, main)
    try:
        container = _load(options)
    except NoSuchContainer:
        if options.force:
            return 0
        raise
    status = container.status()
    if status not in ("stopped", "created") and not options.force:
        raise RootlessError(
            f"cannot delete container {container.container_id} that is not stopped: {status}",
            hint=f"rootless kill {container.container_id} KILL, or delete --force",
        )
    if status == "stopped":
        _let_end(container)
    remove(container)
    return 0


def _load(options: Options) -> Container:
    if not options.force:
        return load(options, lock=True)
    from rootless.container import name_of, state_root
    from rootless.state import StateDir

    directory = StateDir.open(state_root(options), name_of(options.container_id), lock=True)
    try:
        state = directory.read("state.json")
    except RootlessError as error:
        log.debug(str(error))
        state = None
    if state is None:
        pid, start_time = directory.noted_init()
        state = {"creating": True, "pid": pid, "start_time": start_time, "cgroup": _cgroup_of(directory)}
    return Container(directory, state)


def _cgroup_of(directory: StateDir) -> dict[str, Any]:
    """Where the cgroup must be, of a container whose state is lost: what `create` made of the config it kept."""
    from rootless import cgroup
    from rootless.host import Host
    from rootless.node import Node

    try:
        linux = Node(directory.read("config.json"))["linux"]
        record = cgroup.compile(linux, container_id=directory.container_id, manager="", host=Host())
        record["files"] = []
        cgroup.open(record)
    except RootlessError as error:
        log.debug(str(error))
        return {}
    return record if record["path"] and os.path.isdir(record["path"]) else {}


def remove(container: Container) -> None:
    """End what still runs, remove the cgroup and the state directory, then run the poststop hooks."""
    if container.alive():
        end(container)
    container.cgroup().remove()  # what is left in there is killed
    _give_back(container)
    hooks = _poststop_hooks(container)
    report = container.report("stopped")
    container.directory.remove()
    if hooks:
        from rootless.hooks import run_poststop
        from rootless.signals import end_on_signals

        end_on_signals()  # a hook may hang, and there is nothing left that has to be done
        run_poststop(hooks, report)
    container.close()


def remove_after(container: Container) -> None:
    """The same for a container that was waited for, without its lock: another `delete` may have been quicker."""
    flock(container.directory.fd, LOCK_EX)
    if os.fstat(container.directory.fd).st_nlink:
        remove(container)


def _give_back(container: Container) -> None:
    """What `create` did outside of the container that does not end with its processes."""
    if container.state.get("intel_rdt"):
        from rootless.rdt import remove_intel_rdt

        remove_intel_rdt(container.state["intel_rdt"])
    if container.state.get("rootfs_before"):
        from rootless.rootfs import detach_rootfs

        detach_rootfs(container.state["rootfs"], container.state["rootfs_before"])


def _poststop_hooks(container: Container) -> list[dict[str, Any]]:
    """None for a container that was never created; a config that is damaged by now is only warned of."""
    state = container.state
    if state.get("creating") or not state.get("created") or container.directory.has(CREATING_SOCKET):
        return []
    try:
        return container.hooks("poststop").get("poststop", [])
    except RootlessError as error:
        log.warn(str(error))
        return []


def end(container: Container) -> None:
    """Kill init and wait for its end, by its pidfd."""
    try:
        pidfd = os.pidfd_open(container.pid) if container.pid else -1
    except OSError:
        pidfd = -1
    if container.cgroup_path and container.cgroup().procs():
        kill_all(container, 9)
    if pidfd < 0:
        return
    if container.alive():
        send(container, 9)
        # No event says that init has given up all and only waits for others to be reaped (rootless/proc.py).
        while not select.select([pidfd], [], [], 1)[0] and container.alive():
            pass
    os.close(pidfd)


def _let_end(container: Container) -> None:
    """Wait for an init that kills and reaps what it leaves behind, a matter of milliseconds; but not for long, for what
    `exec` has started is its caller's to reap."""
    pid = container.pid
    if not pid or proc.start_time(pid, ending=True) != int(container.state.get("start_time", 0)):
        return
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    select.select([pidfd], [], [], 0.5)
    os.close(pidfd)
