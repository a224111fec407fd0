"""Hold a caller's settings, and config.json while they are applied to it (plan/settings.py). Pure."""

from __future__ import annotations

from rootless.errors import RootlessError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.kernel.host import Host
    from rootless.plan.volumes import MountEntry

NOTHING: tuple[object, ...] = (None, "", [], {}, False)  # values of settings that nobody has set
_NONE = ("no_new_privileges", "read_only", "user_ids")
_LISTS = (
    "annotations", "args", "cap_add", "cap_drop", "devices", "env", "group_add", "mounts", "publish", "security_opt",
    "tmpfs", "ulimits", "volumes",
)  # fmt: skip
_SWITCHES = ("gives_names", "mount_cwd", "mount_home", "no_host_loopback")
_SURROUNDINGS = ("base", "bundle", "gives_names", "home", "user_ids")  # settings that ask for nothing by themselves


class UserIds:
    """Hold the ids of `user`, looked up in the container's own passwd and group files."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], home: str = "") -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


class Settings:
    """Hold what a caller wants changed in config.json; a field that nobody has set changes nothing.

    base: the directory that relative volume sources count from, "" if it was removed; bundle: the directory of
    config.json, absolute; upper: the directory for the changes of a throw-away root, or `tmpfs[:size=SIZE]`; user_ids:
    `user` with its names looked up; home: the caller's home directory, for mount_home; args: the program and its
    arguments; gives_names: whether a container on the host's network gets the host's /etc/resolv.conf, /etc/hosts and
    /etc/hostname; config: a merge patch (RFC 7396) that comes last.
    """

    annotations: list[str]
    args: list[str]
    base: str
    bundle: str
    cap_add: list[str]
    cap_drop: list[str]
    config: dict[str, Any]
    cpus: str | float
    cpuset_cpus: str
    cwd: str
    devices: list[str]
    entrypoint: str
    env: list[str]
    group_add: list[str]
    gives_names: bool
    home: str
    hostname: str
    memory: str | int
    memory_swap: str | int
    mount_cwd: bool
    mount_home: bool
    mounts: list[str]
    network: str
    no_host_loopback: bool
    no_new_privileges: bool | None
    pids: str | int
    publish: list[str]
    read_only: bool | None
    root_emulation: str | bool | None
    seccomp: str | dict[str, Any]
    security_opt: list[str]
    shm_size: str | int
    tmpfs: list[str]
    ulimits: list[str] | dict[str, Any]
    upper: str
    user: str
    user_ids: UserIds | None
    volumes: list[str]

    __slots__ = (
        "annotations", "args", "base", "bundle", "cap_add", "cap_drop", "config", "cpus", "cpuset_cpus", "cwd",
        "devices", "entrypoint", "env", "gives_names", "group_add", "home", "hostname", "memory", "memory_swap",
        "mount_cwd", "mount_home", "mounts", "network", "no_host_loopback", "no_new_privileges", "pids", "publish",
        "read_only", "root_emulation", "seccomp", "security_opt", "shm_size", "tmpfs", "ulimits", "upper", "user",
        "user_ids", "volumes",
    )  # fmt: skip

    def __init__(self, **given: Any) -> None:
        for name in self.__slots__:
            value = given.pop(name, None)
            setattr(self, name, _default(name) if value is None else value)
        if given:
            raise TypeError(f"unknown setting: {', '.join(given)}")

    def __bool__(self) -> bool:
        """Return whether any setting asks for a change."""
        asked = (getattr(self, name) for name in self.__slots__ if name not in _SURROUNDINGS)
        either = self.no_new_privileges, self.read_only
        return either != (None, None) or any(value not in NOTHING for value in asked)


def _default(name: str) -> Any:
    """Return the value of a setting that nobody has set, which tells its type."""
    if name in _NONE:
        return None
    return [] if name in _LISTS else {} if name == "config" else False if name in _SWITCHES else ""


class Change:
    """Hold config.json while settings are applied to it."""

    def __init__(self, spec: dict[str, Any], settings: Settings, host: Host) -> None:
        self.spec = spec
        self.settings = settings
        self.host = host
        self.places: set[str] = set()  # where settings have mounted something

    def part(self, *names: str) -> dict[str, Any]:
        """Return an object of config.json, made if it is missing. Raises RootlessError for another type."""
        place = self.spec
        for name in names:
            place = place.setdefault(name, {})
            if type(place) is not dict:
                raise RootlessError("is not an object, so that no setting can be added to it", "/" + "/".join(names))
        return place

    def array(self, part: dict[str, Any], name: str) -> list[Any]:
        """Return an array of an object, made if it is missing. Raises RootlessError for another type."""
        array = part.get(name)
        if array is None:
            array = part[name] = []
        if type(array) is not list:
            raise RootlessError("is not an array, so that no setting can be added to it", name)
        return array

    def add_mount(self, flag: str, mount: MountEntry) -> None:
        """Add a mount, which replaces one of config.json on the same place. Raises RootlessError for a second one."""
        if mount["destination"] in self.places:
            raise wrong(
                flag, mount["destination"], "two mounts are asked for on the same place", "leave one of them out"
            )
        self.places.add(mount["destination"])
        mounts = self.array(self.spec, "mounts")
        same = [m for m in mounts if type(m) is dict and tidy(m.get("destination")) == tidy(mount["destination"])]
        for each in same:
            mounts.remove(each)
        mounts.append(mount)

    def set_env(self, entry: str) -> None:
        """Set one variable of the program's environment, NAME=VALUE."""
        process = self.part("process")
        name = entry.partition("=")[0] + "="
        kept = [e for e in self.array(process, "env") if not (type(e) is str and e.startswith(name))]
        process["env"] = [*kept, entry]


def wrong(flag: str, value: object, what: str, hint: str = "") -> RootlessError:
    """Return the error for the value of a setting: `what: --flag value; hint`."""
    return RootlessError(what, f"--{flag} {printable(value)}", hint=hint)


def merge_patch(target: Any, patch: Any) -> Any:
    """Return a JSON merge patch's result (RFC 7396): objects are merged, null removes, anything else replaces."""
    if type(patch) is not dict:
        return patch
    merged = dict(target) if type(target) is dict else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def copy(value: Any) -> Any:
    """Return a deep copy of JSON data."""
    if type(value) is dict:
        return {key: copy(each) for key, each in value.items()}
    return [copy(each) for each in value] if type(value) is list else value


def tidy(path: Any) -> str:
    return "/" + path.strip("/") if type(path) is str else ""
