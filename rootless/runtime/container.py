"""A container: its state directory, its status, and what is known of it (runtime.md#state)."""

from __future__ import annotations

from rootless import log
from rootless.errors import RootlessError
from rootless.kernel import proc
from rootless.runtime.state import StateDir, check_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    from rootless.cgroup.driver import Cgroup
    from rootless.cgroup.oom import Watch
    from rootless.cgroup.record import Record
    from rootless.steps.hooks import RunHook

    class State(TypedDict, total=False):
        """What state.json holds: the specification's state, and what the runtime has to remember.

        pid, start_time: init, 0 before there is one; hooks: the moments that have any; creating: whether `create` has
        not come to its end; shared_pids: whether the container has no pid namespace of its own; listener: path and
        metadata of the agent of a seccomp filter; rootfs_before, intel_rdt: what `delete` takes back on the host;
        resources: linux.resources as `update` left them.
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
        rootfs_before: list[str | int]
        intel_rdt: list[str]
        resources: dict[str, Any]


START_SOCKET = "start.sock"  # in the state directory of a created container; `start` connects and unlinks it
CREATING_SOCKET = "creating.sock"  # the same until the container is created


class Container:
    """One container that has a state directory.

    state: what state.json holds; config: the config.json as `create` read it (read when first asked for).
    """

    def __init__(self, directory: StateDir, state: State) -> None:
        self.directory = directory
        self.state = state
        self._config: dict[str, Any] | None = None

    @property
    def container_id(self) -> str:
        """Its id."""
        return self.directory.container_id

    @property
    def pid(self) -> int:
        """The pid of its init, as the caller sees it; 0 before there is one."""
        return int(self.state.get("pid", 0))

    @property
    def config(self) -> dict[str, Any]:
        """The config as it was when the container was created."""
        if self._config is None:
            self._config = self.directory.read("config.json") or {}
        return self._config

    @property
    def cgroup_path(self) -> str:
        """The directory of its cgroup, "" where it has none."""
        return str((self.state.get("cgroup") or {}).get("path", ""))

    def hooks(self, moment: str) -> list[RunHook]:
        """Return that moment's hooks. config.json is parsed only where there are any."""
        if moment not in self.state.get("hooks", ()):
            return []
        from rootless.node import Node
        from rootless.plan.hooks import compile_hooks

        return compile_hooks(Node(self.config)).get(moment, [])

    def watch_oom(self) -> Watch | None:
        """A watch over the kills that its memory limit causes; None without a limit, and then nothing is loaded."""
        record = self.state.get("cgroup") or {}
        if not record.get("path") or not any(entry[0] == "memory.max" for entry in record["files"]):
            return None
        from rootless.cgroup.oom import Watch

        return Watch(self.cgroup())

    def describe_oom(self, kills: int) -> str:
        """One line on so many kills, with the limit; "" for none."""
        if not kills:
            return ""
        from rootless.cgroup import oom

        return oom.describe(kills, oom.memory_limit(self.cgroup_record))

    def oom_hint(self) -> str:
        """The same for all kills since the container was created."""
        return self.describe_oom(self.cgroup().oom_kills()) if self.cgroup_path else ""

    def alive(self) -> bool:
        """Whether its init runs: the same pid with the same start time."""
        return proc.alive(self.pid, int(self.state.get("start_time", 0)))

    def status(self) -> str:
        """creating, created, running, paused or stopped (runtime.md#state).

        `create` holds the lock to its end: one that is not complete and not locked was killed, and creates no more.
        """
        if not self.alive():
            incomplete = not self.pid and self.state.get("creating")
            return "creating" if incomplete and self.directory.lock.is_held_by_another() else "stopped"
        if self.directory.has(CREATING_SOCKET):
            return "creating"
        if self.cgroup_path:
            from rootless.cgroup.freezer import is_frozen

            if is_frozen(self.cgroup()):  # a created one too: `start` would wait for it forever
                return "paused"
        return "created" if self.directory.has(START_SOCKET) else "running"

    @property
    def cgroup_record(self) -> Record:
        """What the state keeps of its cgroup."""
        none: Record = {"manager": "disabled", "path": "", "files": []}
        return self.state.get("cgroup") or none

    def cgroup(self) -> Cgroup:
        """The driver of its cgroup."""
        from rootless import cgroup

        return cgroup.open(self.cgroup_record)

    def require(self, *statuses: str, action: str) -> str:
        """The status, if it is one of those. Raises RootlessError in words that clients know."""
        status = self.status()
        if status not in statuses:
            if status == "stopped":
                what = f"cannot {action} a container that has stopped: container not running"
            else:
                what = f"cannot {action} a container in the {status} state"
            raise RootlessError(what, f'"{self.container_id}"')
        return status

    def report(self, status: str = "") -> dict[str, Any]:
        """The state as runtime.md#state gives it, with what runc adds."""
        status = status or self.status()
        state = self.state
        report: dict[str, Any] = {
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
        """Give the lock up."""
        self.directory.close()

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(root: str, container_id: str, *, lock: bool = False) -> Container:
    """Return a container of a state root. Raises NoSuchContainer."""
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
    """Take back what was made, the last first. What cannot be is named, and the state directory then stays, because
    `delete --force` finds the rest by it."""
    remains = ""
    while undo:
        step = undo.pop()
        if remains and step == directory.remove:
            continue
        try:
            step()
        except Exception as error:  # an import that fails, too
            remains = str(error)
            log.debug(f"undo: {error}")
    if remains:
        _name_remains(directory.container_id, remains)


class TakingBack:
    """A block that takes back, after an error, what a command has done. Where the block fails, it names what remains,
    and the first error is still the one that is raised.

    The import of what takes it back belongs into the block, because descriptors or memory may be short.
    """

    def __init__(self, container: Container) -> None:
        self.container_id = container.container_id

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        if not isinstance(error, Exception):
            return False
        _name_remains(self.container_id, str(error))
        return True


def _name_remains(container_id: str, why: str) -> None:
    log.warn(f"not all could be taken back: {why}; hint: rootless delete --force {container_id}")
