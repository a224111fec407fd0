"""Define the class Container: its state directory, its config, its status and its report (runtime.md#state)."""

from __future__ import annotations

from rootless import log
from rootless.errors import RootlessError
from rootless.kernel import proc, signals
from rootless.runtime.state import StateDir, check_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    from rootless.cgroup.driver import Cgroup
    from rootless.cgroup.oom import Watch
    from rootless.cgroup.record import Record
    from rootless.process.report import Report
    from rootless.steps.hooks import RunHook

    class State(TypedDict, total=False):
        """Declare what state.json holds: the state of the specification, and what the runtime has to remember.

        pid, start_time: those of init, 0 before it exists; hooks: the moments that have hooks; creating: whether
        `create` has not finished; shared_pids: whether the container has no pid namespace of its own; listener: path
        and metadata of the agent of a seccomp filter; root_emulation: its mode; rootfs_before, intel_rdt: what `delete`
        undoes on the host; resources: linux.resources as `update` left them; time_limit: the seconds after `start` at
        which the monitor ends the program; exit_code, finished, oom_kills: what the monitor recorded at the end.
        """

        ociVersion: str
        id: str
        pid: int
        start_time: int
        bundle: str
        rootfs: str
        annotations: dict[str, str]
        cgroup: Record
        hooks: list[str]
        created: str
        creating: bool
        no_new_keyring: bool
        shared_pids: bool
        without_process: bool
        notify: bool
        listener: list[str]
        root_emulation: str
        rootfs_before: list[str | int]
        intel_rdt: list[str]
        resources: dict[str, Any]
        time_limit: float
        exit_code: int
        finished: str
        oom_kills: int


START_SOCKET = "start.sock"  # in the state directory of a created container; `start` connects to it and unlinks it
MOUNTED = "mounted"  # a note of `create`: "NAMESPACE ID ROOTFS", which `delete` needs if state.json is lost
CREATING_SOCKET = "creating.sock"  # its name until the container is created


class Container:
    """Hold one container that has a state directory.

    state: what state.json holds; config: the config.json that `create` copied, parsed when it is first used.
    """

    def __init__(self, directory: StateDir, state: State) -> None:
        self.directory = directory
        self.state = state
        self._config: dict[str, Any] | None = None

    @property
    def container_id(self) -> str:
        """Return the container's ID."""
        return self.directory.container_id

    @property
    def pid(self) -> int:
        """Return the pid of init in the caller's pid namespace, 0 before init exists."""
        return int(self.state.get("pid", 0))

    @property
    def config(self) -> dict[str, Any]:
        """Return the config as it was when the container was created."""
        if self._config is None:
            self._config = self.directory.read("config.json") or {}
        return self._config

    @property
    def cgroup_path(self) -> str:
        """Return the directory of the container's cgroup, "" if it has none."""
        return str((self.state.get("cgroup") or {}).get("path", ""))

    def hooks(self, moment: str) -> list[RunHook]:
        """Return the hooks of a moment. config.json is parsed only if there are any."""
        if moment not in self.state.get("hooks", ()):
            return []
        from rootless.config_node import Node
        from rootless.plan.hooks import compile_hooks

        return compile_hooks(Node(self.config)).get(moment, [])

    def watch_oom(self) -> Watch | None:
        """Return a watch that counts the OOM kills, None without a memory limit. Then no module is imported."""
        record = self.state.get("cgroup") or {}
        if not record.get("path") or not any(entry[0] == "memory.max" for entry in record["files"]):
            return None
        from rootless.cgroup.oom import Watch

        return Watch(self.cgroup())

    def describe_oom(self, kills: int) -> str:
        """Return a sentence about a number of OOM kills, with the memory limit; "" for 0."""
        if not kills:
            return ""
        from rootless.cgroup import oom

        return oom.describe(kills, oom.memory_limit(self.cgroup_record))

    def describe_end(self, watch: Watch, code: int) -> str:
        """Return a sentence about the OOM kills while the program ran, "" for none. code: the program's exit code."""
        from rootless.cgroup import oom

        if watch.is_probable(code):
            return oom.probable(oom.memory_limit(self.cgroup_record))
        return self.describe_oom(watch.kills)

    def oom_hint(self) -> str:
        """Return the sentence about all OOM kills since the container was created, "" for none."""
        return self.describe_oom(self.cgroup().oom_kills()) if self.cgroup_path else ""

    def alive(self) -> bool:
        """Return whether init runs: a process with its pid and its start time, because a pid can be reused."""
        return proc.alive(self.pid, int(self.state.get("start_time", 0)))

    def status(self) -> str:
        """Return creating, created, running, paused or stopped (runtime.md#state).

        `create` holds the lock until it ends. A container that is incomplete and not locked is stopped, because its
        `create` was killed.
        """
        if not self.alive():
            incomplete = not self.pid and self.state.get("creating")
            return "creating" if incomplete and self.directory.lock.is_held_by_another() else "stopped"
        if self.directory.has(CREATING_SOCKET):
            return "creating"
        if self.cgroup_path:
            from rootless.cgroup.freezer import is_frozen

            if is_frozen(self.cgroup()):  # also a created container, because `start` would wait for it forever
                return "paused"
        return "created" if self.directory.has(START_SOCKET) else "running"

    @property
    def cgroup_record(self) -> Record:
        """Return the record of the cgroup in the state."""
        none: Record = {"manager": "disabled", "path": "", "files": []}
        return self.state.get("cgroup") or none

    def cgroup(self) -> Cgroup:
        """Return the driver of the cgroup."""
        from rootless import cgroup

        return cgroup.open(self.cgroup_record)

    def require(self, *statuses: str, action: str) -> str:
        """Return the status if it is one of those. Raises RootlessError in words that clients match.

        action: the verb for the error, such as "pause".
        """
        status = self.status()
        if status not in statuses:
            if status == "stopped":
                what = f"cannot {action} a container that has stopped: container not running"
            else:
                what = f"cannot {action} a container in the {status} state"
            raise RootlessError(what, f'"{self.container_id}"')
        return status

    def report(self, status: str = "") -> Report:
        """Return the state object of runtime.md#state, with the members that runc adds.

        status: the status to report, "" for the current one.
        """
        status = status or self.status()
        state = self.state
        report: Report = {
            "ociVersion": state.get("ociVersion", "1.0.0"),
            "id": self.container_id,
            "pid": self.pid if status != "stopped" else 0,
            "status": status,
            "bundle": state.get("bundle", ""),
            "rootfs": state.get("rootfs", ""),
            "created": state.get("created", ""),
        }
        if state.get("annotations"):
            report["annotations"] = state["annotations"]
        return report

    def save(self) -> None:
        """Write state.json."""
        from rootless.startup.jsonlite import dumps

        self.directory.write("state.json", dumps(self.state).encode())

    def close(self) -> None:
        """Close the state directory and release the lock."""
        self.directory.close()

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(root: str, container_id: str, *, lock: bool = False) -> Container:
    """Return a container of a state root; with `lock`, wait for its lock. Raises NoSuchContainer and RootlessError."""
    directory = StateDir.open(root, check_id(container_id), lock=lock)
    try:
        state = directory.read("state.json")
    except RootlessError:
        directory.close()
        raise
    if state is None:
        state = {"creating": True}
    return Container(directory, state)


def undo_all(undo: list[Any], directory: StateDir) -> None:
    """Call the undo functions, the last one first. A failure is logged as a warning, and the others still run.

    After a failure the state directory stays, because `delete --force` needs it to find what remains.
    """
    remains = ""
    while undo:
        step = undo.pop()
        if remains and step == directory.remove:
            continue
        try:
            step()
        except Exception as error:  # not only OSError, because an import in the function may fail
            remains = str(error)
            log.debug(f"undo: {error}")
    if remains:
        _name_remains(directory.container_id, remains)


class TakingBack:
    """Guard a block that undoes a command's work after an error.

    If the block fails, too, a warning names what remains, and the first error is the one that is raised. Import what
    the block needs inside of it, because the import may fail when no descriptors or memory are left. A signal that
    would end the command waits for the end of the block.
    """

    def __init__(self, container: Container) -> None:
        self.container_id = container.container_id

    def __enter__(self) -> None:
        signals.block(signals.ENDING)

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        try:
            if isinstance(error, Exception):
                _name_remains(self.container_id, str(error))
        finally:
            signals.unblock(signals.ENDING)
        return isinstance(error, Exception)


def _name_remains(container_id: str, why: str) -> None:
    """Warn that something remains of a container, and name the command that removes it."""
    log.warn(f"not everything could be undone: {why}; hint: rootless delete --force {container_id}")
