"""The kinds of namespaces (namespaces(7)) under the names that config.json gives them."""

from __future__ import annotations

from rootless.kernel import syscalls as sc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import IdMap

# config name: (clone flag, name below /proc/PID/ns). The order is the one in which existing ones are joined: the
# user namespace first, because it owns the others; the mount namespace last, because paths are looked up in it.
NAMESPACES = {
    "user": (sc.CLONE_NEWUSER, "user"),
    "ipc": (sc.CLONE_NEWIPC, "ipc"),
    "uts": (sc.CLONE_NEWUTS, "uts"),
    "network": (sc.CLONE_NEWNET, "net"),
    "pid": (sc.CLONE_NEWPID, "pid"),
    "cgroup": (sc.CLONE_NEWCGROUP, "cgroup"),
    "time": (sc.CLONE_NEWTIME, "time"),
    "mount": (sc.CLONE_NEWNS, "mnt"),
}
KINDS = {flag: kind for kind, (flag, _) in NAMESPACES.items()}  # clone flag: config name


class Join:
    """An existing namespace to enter: its CLONE_NEW* flag, its path, and the JSON pointer that names it."""

    __slots__ = ("flag", "path", "pointer")

    def __init__(self, flag: int, path: str, pointer: str) -> None:
        self.flag = flag
        self.path = path
        self.pointer = pointer


class Namespaces:
    """What to create and what to join.

    new: CLONE_NEW* flags; joins: in the order of joining; uid_map, gid_map: [] where no user namespace is created;
    uids, gids: the ids that exist in the container, [] where all do or where only the joined namespace knows;
    map_is_default: whether config.json names no mappings; offsets: [(clock, seconds, nanoseconds)] of a new time
    namespace; setgroups: whether setgroups(2) works where no maps are written.
    """

    __slots__ = ("gid_map", "gids", "joins", "map_is_default", "new", "offsets", "setgroups", "uid_map", "uids")

    def __init__(self) -> None:
        self.new = 0
        self.joins: list[Join] = []
        self.uid_map: IdMap = []
        self.gid_map: IdMap = []
        self.uids: IdMap = []
        self.gids: IdMap = []
        self.map_is_default = False
        self.offsets: list[tuple[str, int, int]] = []
        self.setgroups = True

    def has(self, flag: int) -> bool:
        """Return whether the container has a namespace of that kind of its own, new or joined."""
        return bool(self.new & flag) or self.joins_one(flag)

    def joins_one(self, flag: int) -> bool:
        """Return whether the container joins a namespace of that kind."""
        return any(join.flag == flag for join in self.joins)

    @property
    def needs_joiner(self) -> bool:
        """Whether init is cloned by a process in between: setns(2) and time namespaces concern only children."""
        return bool(self.joins) or bool(self.new & sc.CLONE_NEWTIME)
