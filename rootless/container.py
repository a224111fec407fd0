"""A container: its state directory, its status, and the moves between creating, created, running, paused, stopped."""

from __future__ import annotations

import os

from rootless import log, proc
from rootless.errors import RootlessError
from rootless.state import StateDir, check_id, default_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cgroup.fs import Cgroup
    from rootless.options import Options

START_SOCKET = "start.sock"


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

    def alive(self) -> bool:
        """Whether its init runs: the same pid with the same start time."""
        return proc.alive(self.pid, int(self.state.get("start_time", 0)))

    def status(self) -> str:
        """creating, created, running, paused or stopped (runtime.md#state)."""
        if not self.alive():
            return "creating" if not self.pid and self.state.get("creating") else "stopped"
        if self.directory.has(START_SOCKET):
            return "created" if self.state.get("created") else "creating"
        if self.state.get("cgroup", {}).get("path") and self.cgroup().frozen():
            return "paused"
        return "running"

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
        from rootless.jsonlite import dumps

        self.directory.write("state.json", dumps(self.state).encode())

    def close(self) -> None:
        """Give the lock up."""
        self.directory.close()

    def lock(self) -> _Lock:
        """A context in which the container is locked (it is already, if it was loaded so)."""
        return _Lock(self)


class _Lock:
    def __init__(self, container: Container) -> None:
        self.container = container

    def __enter__(self) -> Container:
        from fcntl import LOCK_EX, flock

        flock(self.container.directory.fd, LOCK_EX)
        return self.container

    def __exit__(self, *_: object) -> None:
        from fcntl import LOCK_UN, flock

        flock(self.container.directory.fd, LOCK_UN)


def state_root(options: Options) -> str:
    """The root of all states for this command line."""
    if options.root:
        return os.path.abspath(options.root)
    from rootless.host import Host

    host = Host()
    return default_root(host.uid, host.uid == 0 and host.in_userns)


def name_of(argument: str) -> str:
    """The id that an argument means: itself, or, with a `/` or as a directory with config.json, the bundle's name."""
    if "/" in argument and os.path.isfile(f"{argument}/config.json"):
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


def matching(options: Options) -> list[str]:
    """The ids that the regular expression options.container_id finds, for --regex. Raises RootlessError."""
    import re

    from rootless.state import ids

    try:
        pattern = re.compile(options.container_id)
    except re.error as error:
        raise RootlessError(f"no regular expression: {error}", options.container_id) from None
    return [container_id for container_id in ids(state_root(options)) if pattern.search(container_id)]


def undo_all(undo: list[Any]) -> None:
    """Take back what was made, the last first; what fails is only told, so that the rest is taken back too."""
    while undo:
        step = undo.pop()
        try:
            step()
        except (OSError, RootlessError) as error:
            log.debug(f"undo: {error}")
