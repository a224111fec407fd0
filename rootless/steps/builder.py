"""Hold the state that the steps share while they build the container's root."""

from __future__ import annotations

from rootless.kernel import syscalls as sc
from rootless.startup import lean_os as os

_ST_RDONLY = 1  # statvfs(3)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.namespaces import Namespaces


class RootBuilder:
    """The container's root while steps fill it.

    fd: its root directory; proc_fd: the host's /proc, checked; gids: the group ids that the container has, [] for all;
    on_host: whether it is built in the caller's mount namespace; dev_null: the host's null device; empty: the tmpfs
    that all masked directories share, -1 before the first; late_readonly: fds of mounts that become read-only after
    everything below them is mounted; has_procfs: whether a new procfs was mounted on /proc, and nothing over it;
    closed: whether `close_for_writing` has made the root read-only.
    """

    __slots__ = (
        "_status", "closed", "dev_null", "empty", "fd", "gids", "has_procfs", "late_readonly", "namespaces",
        "on_host", "proc_fd",
    )  # fmt: skip

    def __init__(
        self, fd: int, proc_fd: int, namespaces: Namespaces, gids: list[tuple[int, int, int]], *, on_host: bool
    ) -> None:
        self.fd = fd
        self.proc_fd = proc_fd
        self.namespaces = namespaces
        self.gids = gids
        self.on_host = on_host
        self.dev_null = -1
        self.empty = -1
        self.late_readonly: list[int] = []
        self.has_procfs = False
        self.closed = False
        self._status: os.stat_result | None = None  # of the root, once it was compared

    @property
    def own_netns(self) -> bool:
        """Whether the container has a network namespace of its own."""
        return self.namespaces.has(sc.CLONE_NEWNET)

    @property
    def own_cgroupns(self) -> bool:
        """Whether the container has a cgroup namespace of its own."""
        return self.namespaces.has(sc.CLONE_NEWCGROUP)

    @property
    def new_ipcns(self) -> bool:
        """Whether the container's ipc namespace is new."""
        return bool(self.namespaces.new & sc.CLONE_NEWIPC)

    @property
    def new_pidns(self) -> bool:
        """Whether the container's pid namespace is new."""
        return bool(self.namespaces.new & sc.CLONE_NEWPID)

    @property
    def shares_pids(self) -> bool:
        """Whether the container has the caller's pid namespace."""
        return not self.namespaces.has(sc.CLONE_NEWPID)

    @property
    def tty_group_mapped(self) -> bool:
        """Whether group 5, tty, exists in the container: devpts(5) refuses an unmapped gid with EINVAL."""
        return not self.gids or any(first <= 5 < first + size for first, _, size in self.gids)

    def make_private(self, tree: int) -> None:
        """Make a mount private if it is built in the host's mount namespace, so that nothing below it propagates."""
        if self.on_host:
            sc.mount_setattr(tree, propagation=sc.MS_PRIVATE, recursive=True)

    def enter(self, tree: int) -> None:
        """Use a mount that was put on top of the root as the root from now on."""
        os.close(self.fd)
        self.fd = os.dup(tree)
        self._status = None

    def is_at(self, fd: int) -> bool:
        """Return whether an fd is the root directory, maybe of another mount of its file system."""
        if not self._status:
            self._status = os.fstat(self.fd)
        return is_same_file(os.fstat(fd), self._status)

    def close_for_writing(self) -> None:
        """Make the root read-only until `open_for_writing`, so that the set-up can make nothing in it."""
        if not os.fstatvfs(self.fd).f_flag & _ST_RDONLY:
            sc.mount_setattr(self.fd, attr_set=sc.MOUNT_ATTR_RDONLY)
            self.closed = True

    def open_for_writing(self) -> None:
        """Undo `close_for_writing`."""
        if self.closed:
            sc.mount_setattr(self.fd, attr_clr=sc.MOUNT_ATTR_RDONLY)
            self.closed = False

    def apply_late_readonly(self) -> None:
        """Make the late_readonly mounts read-only."""
        for tree in self.late_readonly:
            sc.mount_setattr(tree, attr_set=sc.MOUNT_ATTR_RDONLY)
            os.close(tree)
        self.late_readonly = []


def is_same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Return whether both are of the same file."""
    return one.st_ino == other.st_ino and one.st_dev == other.st_dev
