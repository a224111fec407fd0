"""Delete a container and everything that was created for it."""

from __future__ import annotations

from rootless import log
from rootless.errors import NoSuchContainer, RootlessError, unexpected
from rootless.kernel import proc
from rootless.kernel.signals import SIGNALS
from rootless.kernel.waiting import wait_for
from rootless.runtime.container import CREATING_SOCKET, MOUNTED, Container
from rootless.runtime.kill import kill_all, send
from rootless.runtime.state import StateDir
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cgroup.record import Record
    from rootless.runtime.container import State
    from rootless.steps.hooks import RunHook

_PATIENCE = 30  # seconds that a killed process has to end
_HOOK_LIMIT = 30  # seconds for a poststop hook without a timeout, so that `delete --force` always ends


def delete(container: Container, *, force: bool = False) -> None:
    """Delete a stopped or created container, any other only with `force`. The caller holds its lock.

    Raises RootlessError.
    """
    status = container.status()
    if status not in ("stopped", "created") and not force:
        raise RootlessError(
            f"cannot delete container {container.container_id} that is not stopped: {status}",
            hint=f"rootless kill {container.container_id} KILL, or delete --force",
        )
    if status == "stopped":
        if not container.pid and container.state.get("creating"):
            container.state = _complete(container.directory, container.state)
        _await_ending(container)
    remove(container, hook_limit=_HOOK_LIMIT if force else 0)


def load_by_force(root: str, container_id: str) -> Container:
    """Return the container with its lock, even if another command holds that. Raises NoSuchContainer, RootlessError.

    If state.json is missing or damaged, the state is made from the notes of `create` in the state directory.
    """
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
    whole: State = {**state, "pid": pid, "start_time": start_time}
    whole["cgroup"] = state.get("cgroup") or _noted_cgroup(directory)
    rootfs, before = noted_mounts(directory)
    if rootfs and "rootfs_before" not in state:
        whole["rootfs"], whole["rootfs_before"] = rootfs, before
    return whole


def noted_mounts(directory: StateDir) -> tuple[str, list[str | int]]:
    """Return the rootfs on which a container without a mount namespace mounts, and what steps/places.py noted of it.

    ("", []) for every other container.
    """
    words = directory.noted(MOUNTED).split(" ", 2)
    return (words[2], [words[0], int(words[1])]) if len(words) == 3 and words[1].isdigit() else ("", [])


def _noted_cgroup(directory: StateDir) -> Record:
    """Return the record of the cgroup that `create` has noted, {} if none was made.

    The cgroup's path in config.json is not used, because another container may use the same path by now.
    """
    path, new, inode = directory.noted_cgroup()
    parts = path.split("/")
    directories = ["/".join(parts[: len(parts) - up]) for up in range(new)]
    if not inode:  # `create` was killed before it noted the inode, so no process of the container was in this cgroup
        from rootless.cgroup.tree import remove_directories

        remove_directories(directories)
        return {}
    return {"manager": "cgroupfs", "path": path, "files": [], "devices": [], "created": directories, "inode": inode}


def remove(container: Container, *, hook_limit: int = 0) -> None:
    """End what still runs, remove the cgroup and the state directory, then run the poststop hooks.

    hook_limit: seconds for a hook without a timeout of its own, 0 for no limit. Raises RootlessError.
    """
    if container.alive():
        end(container)
    container.cgroup().remove()  # kills all processes that are still in it
    _undo_host_side_effects(container)
    hooks = _poststop_hooks(container)
    report = container.report("stopped")
    container.directory.remove()
    if hooks:
        from rootless.kernel.signals import ENDING, end_on_signals, unblock
        from rootless.runtime.hooks import run_poststop

        end_on_signals()  # a hook may hang, and no other work remains
        try:
            unblock(ENDING)  # TakingBack has blocked them
        finally:
            run_poststop([hook.limited(hook_limit) for hook in hooks], report)
    container.close()


def remove_after(container: Container) -> None:
    """Remove a container that has ended, after taking its lock. Do nothing if another `delete` was faster.

    Raises RootlessError; its hint names the command that removes the rest.
    """
    try:
        try:
            container.directory.lock.take(proc.own_identity())
        except NoSuchContainer:
            return
        remove(container)
    except (OSError, RootlessError) as error:
        failure = unexpected(error)
        command = f"rootless delete --force {container.container_id}"
        if command not in failure.hint:
            failure.hint = f"{failure.hint}; {command}" if failure.hint else command
        raise failure from error


def remove_failed(container: Container) -> None:
    """Remove a container after an error while waiting for it. It is ended first, even if its lock cannot be had."""
    try:
        if container.alive():
            end(container)
    finally:
        remove_after(container)


def _undo_host_side_effects(container: Container) -> None:
    """Undo what `create` did on the host and what does not end with the container's processes."""
    if container.state.get("intel_rdt"):
        from rootless.outside.resctrl import remove_intel_rdt

        remove_intel_rdt(container.state["intel_rdt"])
    if container.state.get("rootfs_before"):
        from rootless.steps.places import detach_rootfs

        detach_rootfs(container.state["rootfs"], container.state["rootfs_before"])
    if any(name.startswith("helper.") for name in container.directory.names()):
        from rootless.runtime.helpers import end_helpers

        end_helpers(container.directory)
    upper = container.directory.noted("upper")
    if upper:
        from rootless.runtime.upper import remove_upper

        remove_upper(upper)


def _poststop_hooks(container: Container) -> list[RunHook]:
    """Return the poststop hooks, [] for a container that was never created. A damaged config is only a warning."""
    state = container.state
    if state.get("creating") or not state.get("created") or container.directory.has(CREATING_SOCKET):
        return []
    try:
        return container.hooks("poststop")
    except RootlessError as error:
        log.warn(str(error))
        return []


def end(container: Container) -> None:
    """Kill the container's processes and wait until init has ended. Raises RootlessError if it does not end in time."""
    pidfd = proc.open_pidfd(container.pid) if container.pid else -1
    try:
        if container.cgroup_path and container.cgroup().procs():
            kill_all(container, SIGNALS["KILL"])
        if pidfd < 0 or not container.alive():
            return
        send(container, SIGNALS["KILL"])
        # Poll every second: there is no event for an init that has ended and waits for its children (kernel/proc.py).
        for _ in range(_PATIENCE):
            if wait_for(pidfd, 1) or not container.alive():
                return
        raise RootlessError(
            f"process {container.pid} does not end within {_PATIENCE} seconds after SIGKILL: it hangs in the kernel",
            f'"{container.container_id}"',
        )
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def _await_ending(container: Container) -> None:
    """Wait for an init that is ending: the kernel kills and reaps the rest of its pid namespace, in milliseconds.

    Do not wait longer than half a second, because a process of `exec` must be reaped by the command that started it.
    """
    pid = container.pid
    if not pid or proc.start_time(pid, ending=True) != int(container.state.get("start_time", 0)):
        return
    pidfd = proc.open_pidfd(pid)
    if pidfd >= 0:
        wait_for(pidfd, 0.5)
        os.close(pidfd)
