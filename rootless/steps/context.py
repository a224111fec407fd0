"""Hold what executing a plan opens and learns: one class for each process. Nobody writes to the plan itself."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import Any, Protocol

    from rootless.cgroup.driver import Cgroup
    from rootless.kernel.host import Host, IdMap
    from rootless.kernel.namespaces import Namespaces
    from rootless.process.child_options import ChildOptions
    from rootless.process.report import Report
    from rootless.steps.builder import RootBuilder

    Filter = Callable[[socket], None]  # loads the seccomp filter, and sends a listener's fd over the socket

    class Runtime(Protocol):
        """Give steps what the runtime has while it creates a container (runtime/create.py)."""

        host: Host
        prepared: Prepared
        group: Cgroup
        pid: int

        @property
        def unmapped_pid(self) -> int:
            """The process in the new user namespace that has no id maps yet: init, or the joiner."""

        def clone_init(self, flags: int) -> None:
            """Make init, by clone3(2) or through a joiner."""

        def enter_resctrl_group(self, step: Any) -> None:
            """Put init into its groups of resctrl."""

        def move_net_devices(self, step: Any) -> None:
            """Move network devices of the host into init's network namespace."""

        def connect_network(self, step: Any) -> None:
            """Start the engine that connects init's network namespace."""


class Prepared:
    """Hold what the runtime has opened for a container, and what it has learned meanwhile.

    proc_fd: the host's /proc, checked; listener: the listening start socket; filter: loads the seccomp filter, None
    without one; emulation: loads the filter of root emulation; mount_fds: mounts that the runtime made, by their
    pointer; device_fds: mounts of device nodes, by path; hook_fds: files for the output of hooks that run in the
    container, by path; no_pivot, preserve_fds, keyring, foreground: as the caller asked; state: what hooks are told;
    setgroups: whether setgroups(2) works in the container, learned when the maps are written; last_cap: the highest
    capability of this kernel; notify_fd: the socket that NOTIFY_SOCKET names, -1 for none; oom_score_written: whether
    somebody else has written oom_score_adj already; reaper: whether init stays as a small one above the program
    (init/reaper.py); arguments: where the command's arguments begin and end in memory, which the small init hides;
    status_fd: where it reports the program's wait status, -1 for nowhere; options: what a caller in Python asks of the
    program's process, None for the command line.
    """

    __slots__ = (
        "arguments", "device_fds", "emulation", "filter", "foreground", "hook_fds", "keyring", "last_cap", "listener",
        "mount_fds", "no_pivot", "notify_fd", "oom_score_written", "options", "preserve_fds", "proc_fd", "reaper",
        "setgroups", "state", "status_fd",
    )  # fmt: skip

    def __init__(self, proc_fd: int, listener: socket, *, setgroups: bool) -> None:
        self.proc_fd = proc_fd
        self.listener = listener
        self.setgroups = setgroups
        self.filter: Filter | None = None
        self.emulation: Filter | None = None
        self.mount_fds: dict[str, int] = {}
        self.device_fds: dict[str, int] = {}
        self.hook_fds: dict[str, int] = {}
        self.no_pivot = False
        self.preserve_fds = 0
        self.keyring = ""
        self.notify_fd = -1
        self.last_cap = 0
        self.foreground = False
        self.oom_score_written = False
        self.reaper = False
        self.arguments = (0, 0)
        self.status_fd = -1
        self.options: ChildOptions | None = None
        self.state: Report = {}  # type: ignore[typeddict-item] # `create` sets it


class Joiner:
    """Hold what the joiner needs. proc_fd: the host's /proc; namespace_fds: {path: fd} of those it enters."""

    __slots__ = ("namespace_fds", "proc_fd")

    def __init__(self, proc_fd: int, namespace_fds: dict[str, int]) -> None:
        self.proc_fd = proc_fd
        self.namespace_fds = namespace_fds


class Init:
    """Hold what init needs for the steps up to the change of roots.

    sync: the socket to the runtime; gids: the group ids that exist in the container, [] for all; root: the root file
    system, once it is attached; console: the terminal's slave, -1 for none; keeps_rootfs: whether the set-up may make
    nothing in the rootfs, because nobody has asked for the container yet (api/spares.py).
    """

    __slots__ = ("console", "gids", "keeps_rootfs", "namespaces", "prepared", "root", "sync")

    def __init__(self, prepared: Prepared, namespaces: Namespaces, sync: socket) -> None:
        self.prepared = prepared
        self.namespaces = namespaces
        self.sync = sync
        self.gids: IdMap = namespaces.gids
        self.root: RootBuilder
        self.console = -1
        self.keeps_rootfs = False


class Becoming:
    """Hold what init, or the process that `exec` starts, needs on its way to the program.

    proc_fd: the host's /proc, -1 once it is closed; last_cap: the highest capability of this kernel; setgroups: whether
    setgroups(2) works here; filtered: whether a seccomp filter follows; guarded: whether it keeps a capability that no
    process of the container can get; lends: whether it is in a user namespace, so that the files of its standard
    streams are an ordinary user's (attributes.own_stdio); stays: whether it starts the program and goes on itself; env:
    the program's environment; in_cwd: whether the working directory is entered; left_groups: the supplementary groups
    that were given up; oom_score_written: as in Prepared.
    """

    __slots__ = (
        "env", "filtered", "guarded", "in_cwd", "last_cap", "left_groups", "lends", "oom_score_written", "proc_fd",
        "setgroups", "stays",
    )  # fmt: skip

    def __init__(
        self,
        proc_fd: int,
        last_cap: int,
        env: list[str],
        *,
        setgroups: bool,
        filtered: bool,
        guarded: bool = False,
        lends: bool = False,
        stays: bool = False,
    ) -> None:
        self.proc_fd = proc_fd
        self.last_cap = last_cap
        self.env = env
        self.setgroups = setgroups
        self.filtered = filtered
        self.guarded = guarded
        self.lends = lends
        self.stays = stays
        self.in_cwd = False
        self.left_groups: list[int] = []
        self.oom_score_written = False


class Ending:
    """Hold what the last steps need, which turn a process of ours into the program.

    verdict: the close-on-exec socket to whoever waits for it; path: the program's file; env: its environment as
    NAME=VALUE; filter: loads the seccomp filter, None without one; emulation: loads the filter of root emulation;
    preserve_fds: how many fds from 3 on it gets;
    labelled: whether SELinux was asked for a label while no_new_privs is set; options: as in Prepared.
    """

    __slots__ = ("emulation", "env", "environment", "filter", "labelled", "options", "path", "preserve_fds", "verdict")

    def __init__(
        self, verdict: socket, path: str, env: list[str], filter_: Filter | None, preserve_fds: int, *, labelled: bool
    ) -> None:
        self.verdict = verdict
        self.path = path
        self.env = env
        self.filter = filter_
        self.emulation: Filter | None = None
        self.preserve_fds = preserve_fds
        self.labelled = labelled
        self.options: ChildOptions | None = None
        self.environment: dict[bytes, bytes] = {}
