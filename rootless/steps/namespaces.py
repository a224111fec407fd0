"""Make and join namespaces, and write id maps. The runtime and the joiner execute these steps (namespaces(7))."""

from __future__ import annotations

import errno

from rootless.errors import RootlessError, advice
from rootless.kernel import syscalls as sc
from rootless.kernel.files import write_at
from rootless.kernel.namespaces import KINDS, Namespaces
from rootless.steps import RUNTIME, Step
from rootless.userns.idmap import write_maps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import IdMap
    from rootless.steps import Words
    from rootless.steps.context import Joiner, Runtime


def namespace_steps(namespaces: Namespaces) -> list[Step]:
    """Return the steps that make a container's new namespaces."""
    steps: list[Step] = [CloneNamespaces(namespaces.new)]
    if namespaces.uid_map:
        steps.append(WriteIdMaps(namespaces.uid_map, namespaces.gid_map, is_default=namespaces.map_is_default))
    return [*steps, *time_steps(namespaces)]


def join_steps(namespaces: Namespaces) -> list[JoinNamespace]:
    """Return the steps that enter existing namespaces, in the order of joining."""
    return [JoinNamespace(join.pointer, join.flag, join.path) for join in namespaces.joins]


def time_steps(namespaces: Namespaces) -> list[Step]:
    """Return the step that sets the clocks of a new time namespace, [] if config.json sets none."""
    return [SetTimeOffsets(namespaces.offsets)] if namespaces.offsets else []


def make_cgroup_namespace() -> None:
    """Make init's cgroup namespace. Raises RootlessError, which names the limit if that is the reason."""
    try:
        sc.unshare(sc.CLONE_NEWCGROUP)
    except OSError as error:
        hint = advice("namespace-limit", kind="cgroup") if error.errno == errno.ENOSPC else ""
        raise RootlessError.from_os(error, "cannot create the namespaces", "/linux/namespaces", hint) from None


class JoinNamespace(Step):
    """Enter an existing namespace. The joiner does it (runtime/enter.py)."""

    __slots__ = ("flag", "path")
    where = RUNTIME

    def __init__(self, pointer: str, flag: int, path: str) -> None:
        super().__init__(pointer)
        self.flag = flag
        self.path = path

    def words(self) -> Words:
        return "join", KINDS[self.flag], self.path

    def execute(self, context: Joiner) -> None:
        """Call setns(2) with the fd that the runtime opened and checked. Raises OSError, RootlessError."""
        try:
            sc.setns(context.namespace_fds[self.path], self.flag)
        except PermissionError as error:
            hint = "it belongs to another user namespace: join that, too, or run both below one `rootless unshare`"
            raise RootlessError.from_os(error, "join the namespace: setns", self.pointer, hint) from None


class CloneNamespaces(Step):
    """Make init and the new namespaces in one clone3(2): the kernel makes the user namespace first."""

    __slots__ = ("flags",)
    where = RUNTIME

    def __init__(self, flags: int) -> None:
        super().__init__("/linux/namespaces")
        self.flags = flags

    def words(self) -> Words:
        return "clone3", *(kind for flag, kind in KINDS.items() if self.flags & flag)

    def execute(self, context: Runtime) -> None:
        # Init makes the cgroup namespace later, because with clone3 its root would be the runtime's own cgroup
        # (cgroup_namespaces(7)). The joiner makes the time namespace, because only its children enter it.
        context.clone_init(self.flags & ~(sc.CLONE_NEWCGROUP | sc.CLONE_NEWTIME))


class WriteIdMaps(Step):
    """Write uid_map and gid_map of the new user namespace, directly or by newuidmap (userns/idmap.py)."""

    __slots__ = ("gid_map", "is_default", "uid_map")
    where = RUNTIME

    def __init__(self, uid_map: IdMap, gid_map: IdMap, *, is_default: bool) -> None:
        super().__init__("/linux/uidMappings")
        self.uid_map = uid_map
        self.gid_map = gid_map
        self.is_default = is_default

    def words(self) -> Words:
        return "uid_map", *_numbers(self.uid_map), "gid_map", *_numbers(self.gid_map)

    def lines(self) -> list[str]:
        return [
            f"{name} {' '.join(map(str, entry))} [/linux/{name[:3]}Mappings]"
            for name, id_map in (("uid_map", self.uid_map), ("gid_map", self.gid_map))
            for entry in id_map
        ]

    def execute(self, context: Runtime) -> None:
        prepared = context.prepared
        prepared.setgroups = write_maps(
            prepared.proc_fd, context.unmapped_pid, self.uid_map, self.gid_map, context.host, is_default=self.is_default
        )


def _numbers(id_map: IdMap) -> list[str]:
    return [str(number) for entry in id_map for number in entry]


class SetTimeOffsets(Step):
    """Set the clocks of a new time namespace before anyone is in it (time_namespaces(7)). The joiner does it."""

    __slots__ = ("offsets",)
    where = RUNTIME

    def __init__(self, offsets: list[tuple[str, int, int]]) -> None:
        super().__init__("/linux/timeOffsets")
        self.offsets = offsets

    def words(self) -> Words:
        return "time_offset", *(str(word) for offset in self.offsets for word in offset)

    def lines(self) -> list[str]:
        return [f"time_offset {' '.join(map(str, offset))} [/linux/timeOffsets/{offset[0]}]" for offset in self.offsets]

    def execute(self, context: Joiner) -> None:
        text = "".join(f"{clock} {seconds} {nanoseconds}\n" for clock, seconds, nanoseconds in self.offsets)
        write_at(context.proc_fd, "self/timens_offsets", text.encode())
