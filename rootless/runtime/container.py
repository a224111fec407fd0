"""A container: its state directory, its status, and the moves between creating, created, running, paused, stopped."""

from __future__ import annotations

from rootless import log
from rootless.errors import RootlessError
from rootless.kernel import proc
from rootless.runtime.state import StateDir, check_id, default_root, open_root
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.cgroup.fs import Cgroup
    from rootless.cgroup.oom import Watch
    from rootless.cli.options import Options

START_SOCKET = "start.sock"  # in the state directory of a created container; `start` connects and unlinks it
CREATING_SOCKET = "creating.sock"  # the same until the container is created


class Container:
    """One container that has a state directory.

    state: what state.json holds; config: the config.json as `create` read it (read when first asked for).
    """

    def __init__(self, directory: StateDir, state: dict[str, Any]) -> None:
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

    def hooks(self, moment: str) -> dict[str, list[dict[str, Any]]]:
        """That moment's hooks, as rootless.hooks.run takes them; config.json is parsed only where there are any."""
        if moment not in self.state.get("hooks", ()):
            return {}
        from rootless.node import Node
        from rootless.plan import read_hooks

        return {moment: read_hooks(Node(self.config)).get(moment, [])}

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

        return oom.describe(kills, oom.memory_limit(self.state.get("cgroup") or {}))

    def oom_hint(self) -> str:
        """The same for all kills since the container was created."""
        return self.describe_oom(self.cgroup().oom_kills()) if self.cgroup_path else ""

    def alive(self) -> bool:
        """Whether its init runs: the same pid with the same start time."""
        return proc.alive(self.pid, int(self.state.get("start_time", 0)))

    def status(self) -> str:
        """creating, created, running, paused or stopped (runtime.md#state)."""
        if not self.alive():
            return "creating" if not self.pid and self.state.get("creating") else "stopped"
        if self.directory.has(CREATING_SOCKET):
            return "creating"
        if self.cgroup_path and self.cgroup().frozen():  # a created one too: `start` would wait for it forever
            return "paused"
        return "created" if self.directory.has(START_SOCKET) else "running"

    def cgroup(self) -> Cgroup:
        """The driver of its cgroup."""
        from rootless import cgroup

        return cgroup.open(self.state.get("cgroup") or {"manager": "disabled", "path": "", "files": []})

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
        found: dict[str, Any] = {
            "ociVersion": state.get("ociVersion", "1.0.0"),
            "id": self.container_id,
            "pid": self.pid if status != "stopped" else 0,
            "status": status,
            "bundle": state.get("bundle", ""),
            "rootfs": state.get("rootfs", ""),
            "created": state.get("created", ""),
        }
        if state.get("annotations"):
            found["annotations"] = state["annotations"]
        return found

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


def state_root(options: Options) -> str:
    """Return the root of all states for this command line."""
    if options.root:
        return os.path.abspath(options.root)
    from rootless.kernel.host import Host

    host = Host()
    return default_root(host.uid, host.uid == 0 and host.in_userns)


def enter_state_root(options: Options) -> None:
    """Judge the state root before a command reads anything: root goes on as the user whose states they are.

    The command finds the same root from now on, whoever this process is. A umask that takes permissions from the owner
    would make files that this user could not read again: that part of it is dropped. Raises RootlessError.
    """
    os.umask(os.umask(0o077) & 0o077)
    root = state_root(options)
    fd = open_root(root)
    if fd >= 0:
        os.close(fd)
        options.root = root


def name_of(argument: str) -> str:
    """The id that an argument means: itself, or the name of the bundle to which a path leads (`./b`, `.`)."""
    if ("/" in argument or argument in (".", "..")) and os.path.isfile(f"{argument}/config.json"):
        return os.path.basename(os.path.abspath(argument))
    return argument


def load(options: Options, *, lock: bool = False) -> Container:
    """The container that options.container_id names. Raises NoSuchContainer."""
    container_id = check_id(name_of(options.container_id))
    directory = StateDir.open(state_root(options), container_id, lock=lock)
    try:
        state = directory.read("state.json")
    except RootlessError:
        directory.close()
        raise
    if state is None:
        state = {"creating": True}
    return Container(directory, state)


def each_match(options: Options, command: Callable[[Options], int]) -> int:
    """--regex: run the command on every id that the regular expression options.container_id finds."""
    import re

    from rootless.runtime.state import ids

    try:
        pattern = re.compile(options.container_id)
    except re.error as error:
        raise RootlessError(f"no regular expression: {error}", options.container_id) from None
    options.regex = False
    for container_id in ids(state_root(options)):
        if pattern.search(container_id):
            options.container_id = container_id
            command(options)
    return 0


def undo_all(undo: list[Any]) -> None:
    """Take back what was made, the last first; what fails is only told, so that the rest is taken back too."""
    while undo:
        step = undo.pop()
        try:
            step()
        except (OSError, RootlessError) as error:
            log.debug(f"undo: {error}")
