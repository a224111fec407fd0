"""Take away a container and all that it used."""

from __future__ import annotations

import select

from rootless import log
from rootless.errors import NoSuchContainer, RootlessError, unexpected
from rootless.kernel import proc
from rootless.runtime.container import CREATING_SOCKET, Container
from rootless.runtime.kill import kill_all, send
from rootless.runtime.state import StateDir
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cgroup.record import Record
    from rootless.runtime.container import State
    from rootless.steps.hooks import RunHook

_PATIENCE = 30  # seconds for a killed process to end
_HOOK_LIMIT = 30  # seconds for a poststop hook without a limit, so that `delete --force` comes to its end


def delete(container: Container, *, force: bool = False) -> None:
    """Delete a stopped or created container, with `force` any. The caller has its lock. Raises RootlessError."""
    status = container.status()
    if status not in ("stopped", "created") and not force:
        raise RootlessError(
            f"cannot delete container {container.container_id} that is not stopped: {status}",
            hint=f"rootless kill {container.container_id} KILL, or delete --force",
        )
    if status == "stopped":
        if not container.pid and container.state.get("creating"):
            container.state = _complete(container.directory, container.state)
        _let_end(container)
    remove(container, hook_limit=_HOOK_LIMIT if force else 0)


def load_by_force(root: str, container_id: str) -> Container:
    """Take the container from whoever has it. Where its state is lost, what was noted of it serves."""
    directory = StateDir.open(root, container_id)
    try:
        directory.lock.take_by_force(directory.noted_init())
        try:
            state = directory.read("state.json")
        except RootlessError as error:
            log.debug(str(error))
            state = None
        return Container(directory, _complete(directory, {"creating": True}) if state is None else state)
    except BaseException:
        directory.close()
        raise


def _complete(directory: StateDir, state: State) -> State:
    """Return the state of a container whose creation was killed, with what was noted outside of it."""
    pid, start_time = directory.noted_init()
    return {**state, "pid": pid, "start_time": start_time, "cgroup": state.get("cgroup") or _noted_cgroup(directory)}


def _noted_cgroup(directory: StateDir) -> Record:
    """The record of the cgroup that `create` has noted; {} where none was made. Nothing is guessed from the config: in
    the cgroup that it names another container may run by now."""
    path, new, inode = directory.noted_cgroup()
    parts = path.split("/")
    directories = ["/".join(parts[: len(parts) - up]) for up in range(new)]
    if not inode:  # `create` was ended before it could note more: no process of the container's has been in there
        from rootless.cgroup.tree import remove_directories

        remove_directories(directories)
        return {}
    return {"manager": "cgroupfs", "path": path, "files": [], "devices": [], "created": directories, "inode": inode}


def remove(container: Container, *, hook_limit: int = 0) -> None:
    """End what still runs, remove the cgroup and the state directory, then run the poststop hooks.

    hook_limit: seconds for a hook that sets no time limit itself, 0 for any time.
    """
    if container.alive():
        end(container)
    container.cgroup().remove()  # what is left in there is killed
    _give_back(container)
    hooks = _poststop_hooks(container)
    report = container.report("stopped")
    container.directory.remove()
    if hooks:
        from rootless.kernel.signals import end_on_signals
        from rootless.runtime.hooks import run_poststop

        end_on_signals()  # a hook may hang, and there is nothing left that has to be done
        run_poststop([hook.limited(hook_limit) for hook in hooks], report)
    container.close()


def remove_after(container: Container) -> None:
    """Do the same for a container that was waited for, without its lock: another `delete` may have been quicker.

    Raises RootlessError, which names what takes away the rest.
    """
    try:
        try:
            container.directory.lock.take(proc.own_identity())
        except NoSuchContainer:
            return
        remove(container)
    except (OSError, RootlessError) as error:
        told = unexpected(error)
        way = f"rootless delete --force {container.container_id}"
        if way not in told.hint:
            told.hint = f"{told.hint}; {way}" if told.hint else way
        raise told from error


def remove_failed(container: Container) -> None:
    """The same where waiting for it has failed: first of all it ends, whatever becomes of the lock."""
    try:
        if container.alive():
            end(container)
    finally:
        remove_after(container)


def _give_back(container: Container) -> None:
    """What `create` did outside of the container that does not end with its processes."""
    if container.state.get("intel_rdt"):
        from rootless.outside.resctrl import remove_intel_rdt

        remove_intel_rdt(container.state["intel_rdt"])
    if container.state.get("rootfs_before"):
        from rootless.steps.places import detach_rootfs

        detach_rootfs(container.state["rootfs"], container.state["rootfs_before"])
    upper = container.directory.noted("upper")
    if upper:
        from rootless.runtime.upper import remove_upper

        remove_upper(upper)


def _poststop_hooks(container: Container) -> list[RunHook]:
    """None for a container that was never created; a config that is damaged by now is only warned of."""
    state = container.state
    if state.get("creating") or not state.get("created") or container.directory.has(CREATING_SOCKET):
        return []
    try:
        return container.hooks("poststop")
    except RootlessError as error:
        log.warn(str(error))
        return []


def end(container: Container) -> None:
    """Kill init and wait for its end, by its pidfd. Raises RootlessError where it does not end."""
    pidfd = proc.open_pidfd(container.pid) if container.pid else -1
    try:
        if container.cgroup_path and container.cgroup().procs():
            kill_all(container, 9)
        if pidfd < 0 or not container.alive():
            return
        send(container, 9)
        # No event says that init has given up all and only waits for others to be reaped (rootless/kernel/proc.py).
        for _ in range(_PATIENCE):
            if select.select([pidfd], [], [], 1)[0] or not container.alive():
                return
        raise RootlessError(
            f"process {container.pid} does not end within {_PATIENCE} seconds after SIGKILL: it hangs in the kernel",
            f'"{container.container_id}"',
        )
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def _let_end(container: Container) -> None:
    """Wait for an init that kills and reaps what it leaves behind, a matter of milliseconds; but not for long, for what
    `exec` has started is its caller's to reap."""
    pid = container.pid
    if not pid or proc.start_time(pid, ending=True) != int(container.state.get("start_time", 0)):
        return
    pidfd = proc.open_pidfd(pid)
    if pidfd >= 0:
        select.select([pidfd], [], [], 0.5)
        os.close(pidfd)
