"""Name the kinds of namespaces as config.json does, and describe those of a container (namespaces(7))."""

from __future__ import annotations

from rootless.kernel import syscalls as sc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import IdMap

# config name: (clone flag, name below /proc/PID/ns). Existing namespaces are joined in this order: the user namespace
# first, because it owns the others; the mount namespace last, because paths are looked up in it.
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
    """Hold which namespaces to create and which to join.

    new: CLONE_NEW* flags; joins: in the order of joining; uid_map, gid_map: [] if no user namespace is created; uids,
    gids: the ids that exist in the container, [] if all do, or if only the joined namespace knows; map_is_default:
    whether config.json has no mappings; offsets: [(clock, seconds, nanoseconds)] of a new time namespace; setgroups:
    whether setgroups(2) works if no maps are written.
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
        """Return whether the container has another namespace of that kind than the caller: a new or a joined one."""
        return bool(self.new & flag) or self.joins_one(flag)

    def joins_one(self, flag: int) -> bool:
        """Return whether the container joins a namespace of that kind."""
        return any(join.flag == flag for join in self.joins)

    @property
    def needs_joiner(self) -> bool:
        """Whether a joiner clones init, because setns(2) of some kinds and time namespaces affect only children."""
        return bool(self.joins) or bool(self.new & sc.CLONE_NEWTIME)
