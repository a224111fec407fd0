"""Facts about the host and the user: each is read once, when first asked for, and changes nothing."""

from __future__ import annotations

from rootless.kernel import caps
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.kernel.cgroup_view import View

IdMap = list[tuple[int, int, int]]  # (container id, host id, size) of each range

_WHOLE = 2**32 - 1


class _Fact:
    """A property that is computed once (functools.cached_property without its imports)."""

    def __init__(self, function: Callable[[Host], Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, host: Host, owner: type) -> Any:
        value = host.__dict__[self.name] = self.function(host)
        return value


class Host:
    """The user, the user namespace, the subordinate ids and the cgroup view of this process.

    Tests set a fact by assigning to it: `Host(uid=1000, subuid=[(100000, 65536)])`.
    """

    uid: int
    gid: int
    uid_map: IdMap
    gid_map: IdMap
    in_userns: bool
    setgroups: bool
    privileged: bool
    subuid: list[tuple[int, int]]
    subgid: list[tuple[int, int]]
    groups: list[int]
    cgroup_view: View
    cgroup_mount: str
    own_cgroup: str
    all_capabilities: int
    grantable: int
    real_root: bool

    def __init__(self, **facts: Any) -> None:
        self.__dict__.update(facts)

    uid = _Fact(lambda _: os.geteuid())  # type: ignore[assignment]
    gid = _Fact(lambda _: os.getegid())  # type: ignore[assignment]
    groups = _Fact(lambda _: os.getgroups())  # type: ignore[assignment]
    uid_map = _Fact(lambda _: read_id_map("/proc/self/uid_map"))  # type: ignore[assignment]
    gid_map = _Fact(lambda _: read_id_map("/proc/self/gid_map"))  # type: ignore[assignment]
    # Whether this process is outside the initial user namespace (whose map is the whole range).
    in_userns = _Fact(lambda host: host.uid_map != [(0, 0, _WHOLE)])  # type: ignore[assignment]
    # Whether setgroups(2) is allowed here: user_namespaces(7).
    setgroups = _Fact(lambda host: not host.in_userns or read_setgroups())  # type: ignore[assignment]
    # Whether no user namespace is needed: root, with CAP_SYS_ADMIN in its own.
    privileged = _Fact(lambda host: host.uid == 0 and effective_capabilities() >> 21 & 1 == 1)  # type: ignore[assignment]
    subuid = _Fact(lambda host: read_subids("/etc/subuid", host.uid))  # type: ignore[assignment]
    subgid = _Fact(lambda host: read_subids("/etc/subgid", host.uid))  # type: ignore[assignment]
    cgroup_view = _Fact(lambda _: read_cgroup_view())  # type: ignore[assignment]
    cgroup_mount = _Fact(lambda host: host.cgroup_view.mount)  # type: ignore[assignment]
    own_cgroup = _Fact(lambda host: host.cgroup_view.own)  # type: ignore[assignment]
    # Masks of the capabilities that the first process of a new user namespace has, and that can be handed on without.
    all_capabilities = _Fact(lambda _: caps.all_capabilities())  # type: ignore[assignment]
    grantable = _Fact(lambda _: caps.grantable())  # type: ignore[assignment]
    # Root of the initial user namespace, who needs no other and may raise limits.
    real_root = _Fact(lambda host: host.privileged and not host.in_userns)  # type: ignore[assignment]


def read_id_map(path: str) -> IdMap:
    """The ranges of a uid_map or gid_map: user_namespaces(7)."""
    with open(path, "rb", buffering=0) as file:  # 340 lines at most, of 33 bytes
        return [(int(a), int(b), int(c)) for a, b, c in (line.split() for line in file.readall().splitlines())]


def read_setgroups(path: str = "/proc/self/setgroups") -> bool:
    """Whether that process's user namespace allows setgroups(2)."""
    with open(path, "rb", buffering=0) as file:
        return file.readall().strip() == b"allow"


def effective_capabilities() -> int:
    """CapEff of /proc/self/status as a bit mask."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapEff:"):
                return int(line.split()[1], 16)
    return 0


def read_subids(path: str, uid: int) -> list[tuple[int, int]]:
    """The (first id, count) ranges of a user in /etc/subuid or /etc/subgid: subuid(5)."""
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except (FileNotFoundError, PermissionError):
        return []
    names = {b"%d" % uid}
    if any(lines):
        from pwd import getpwuid

        try:
            names.add(os.fsencode(getpwuid(uid).pw_name))
        except KeyError:
            pass
    ranges = []
    for line in lines:
        fields = line.strip().split(b":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit():
            ranges.append((int(fields[1]), int(fields[2])))
    return [r for r in ranges if r[1] > 0]


def default_id_map(own: int, ranges: list[tuple[int, int]]) -> IdMap:
    """Container 0 is the user, 1 and up the subordinate ids in the order of their ranges."""
    id_map = [(0, own, 1)]
    following = 1
    for first, count in ranges:
        id_map.append((following, first, count))
        following += count
    return id_map


def read_cgroup_view() -> View:
    """Where cgroup v2 is mounted and where this process stands in it."""
    from rootless.kernel import cgroup_view as view

    return view.read()
