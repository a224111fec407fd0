"""Run the joiner of a new container: it enters the namespaces that config.json names by path, and clones init.

A joiner is needed because setns(2) and unshare(2) move only later children into a pid or time namespace. It clones with
CLONE_PARENT, so that init is a child of the runtime, which can wait for it.
"""

from __future__ import annotations

from fcntl import ioctl
from struct import unpack

from rootless.errors import RootlessError, SpecError
from rootless.kernel import channel, child
from rootless.kernel import syscalls as sc
from rootless.kernel.namespaces import KINDS, NAMESPACES
from rootless.process import attributes
from rootless.runtime.joiner import await_child
from rootless.startup import lean_os as os
from rootless.steps.context import Joiner
from rootless.steps.names import WriteSysctl
from rootless.steps.namespaces import join_steps, time_steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

    from rootless.kernel.host import Host
    from rootless.kernel.namespaces import Namespaces
    from rootless.plan.compiler import Plan
    from rootless.steps import Step
    from rootless.steps.context import Prepared

_NS_GET_NSTYPE, _NS_GET_OWNER_UID = 0xB703, 0xB704  # ioctl_ns(2)


def open_namespaces(namespaces: Namespaces, host: Host) -> dict[str, int]:
    """Open the namespaces that config.json names by path; return {path: fd}.

    Raises SpecError if a namespace is of another kind than config.json says, or belongs to another user.
    """
    opened: dict[str, int] = {}
    for step in namespaces.joins:
        flag, path, pointer = step.flag, step.path, step.pointer
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise SpecError(f"cannot open the {KINDS[flag]} namespace {path}", pointer, error.errno or 0) from None
        opened[path] = fd
        try:
            kind = ioctl(fd, _NS_GET_NSTYPE)
        except OSError:  # ENOTTY: not a namespace (nsfs) file
            kind = 0
        if kind != flag:
            hint = f"it is a {KINDS[kind]} namespace" if kind in KINDS else "it is not a namespace"
            raise SpecError(f"{path} is not a {KINDS[flag]} namespace", pointer, hint=hint)
        if flag == sc.CLONE_NEWUSER and not host.is_root_here:
            owner = unpack("I", ioctl(fd, _NS_GET_OWNER_UID, bytes(4)))[0]
            if owner != host.uid:
                raise SpecError(f"the user namespace {path} belongs to uid {owner}, not to you", pointer)
    return opened


def refuse_shared_sysctls(plan: Plan, fds: dict[str, int]) -> None:
    """Refuse a sysctl whose namespace is joined by path and is the caller's own, because it would change the host.

    This compares the opened namespace, not its path, like runc. Raises SpecError.
    """
    for step in plan.prepare:
        if not step.pointer.startswith("/linux/sysctl/"):
            continue
        kind = _SYSCTL_KINDS[step.name.partition("/")[0] if isinstance(step, WriteSysctl) else "uts"]
        flag, name = NAMESPACES[kind]
        for join in plan.namespaces.joins:
            if join.flag != flag:
                continue
            theirs, ours = os.fstat(fds[join.path]), os.stat(f"/proc/self/ns/{name}")
            if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino):
                raise SpecError(f"the {kind} namespace is the caller's own: it would change the host", step.pointer)


_SYSCTL_KINDS = {"net": "network", "user": "user", "kernel": "ipc", "fs": "ipc", "uts": "uts"}


class Joining:
    """Hold what the joiner of a new container needs.

    write_maps: called in the runtime with the joiner's pid, writes the maps of the user namespace that it has made;
    tell: sends a step to the runtime, which logs it, None without --debug.
    """

    def __init__(
        self, plan: Plan, prepared: Prepared, host: Host, cgroup_fd: int, write_maps: Callable[[int], None]
    ) -> None:
        self.plan = plan
        self.prepared = prepared
        self.host = host
        self.cgroup_fd = cgroup_fd
        self.write_maps = write_maps
        self.tell: Callable[[socket, Step], None] | None = None

    def execute(self, sync: socket, step: Step, joiner: Joiner) -> None:
        """Log a step with --debug, then execute it."""
        if self.tell:
            self.tell(sync, step)
        step.execute(joiner)


def clone_joined(joining: Joining, sync: socket, theirs: socket, life: Callable[[], None]) -> tuple[int, int]:
    """Clone init, a child of this process, in the joined and the new namespaces; return its (pid, pidfd).

    life: the function that init runs. Raises RootlessError and OSError.
    """
    fds = open_namespaces(joining.plan.namespaces, joining.host)

    def enter() -> None:
        try:
            sync.close()
        finally:
            _enter(joining, Joiner(joining.prepared.proc_fd, fds), theirs, life)

    try:
        refuse_shared_sysctls(joining.plan, fds)
        joiner, pidfd = child.clone(0, enter, cgroup_fd=joining.cgroup_fd)
        theirs.close()
        os.close(pidfd)
        result = await_child(joiner, sync, joining.write_maps)
        os.waitpid(joiner, 0)
        return result
    finally:
        for fd in fds.values():
            os.close(fd)


def _enter(joining: Joining, joiner: Joiner, sync: socket, life: Callable[[], None]) -> None:
    """Do the joiner's work, then in its child init's. Return only after a failure (kernel/child.py)."""
    sc.name_process(b"rootless:joiner")
    place = ("process", "/process")
    plan = joining.plan
    namespaces = plan.namespaces
    new = namespaces.new & ~(sc.CLONE_NEWCGROUP | sc.CLONE_NEWTIME)
    try:
        if plan.process.oom_score_adj is not None:  # root owns the file once a process is not dumpable: proc(5)
            attributes.write_oom_score(joiner.proc_fd, plan.process.oom_score_adj)
        # So it owns the files for maps and offsets, too. Without these, be undumpable from now on, because processes in
        # the joined namespaces could trace the joiner (ptrace(2)).
        if namespaces.joins and not new & sc.CLONE_NEWUSER and not namespaces.offsets:
            sc.prctl(sc.PR_SET_DUMPABLE, 0)
        for join in join_steps(namespaces):
            place = ("join the namespace", join.pointer)
            joining.execute(sync, join, joiner)
        if namespaces.new & sc.CLONE_NEWTIME:
            place = ("make a time namespace", "/linux/timeOffsets")
            if new & sc.CLONE_NEWUSER:  # it owns the time namespace
                _make(sc.CLONE_NEWUSER)
                new &= ~sc.CLONE_NEWUSER
                channel.send(sync, channel.UNMAPPED)
                channel.receive(sync, channel.JOINER_MAPPED)
            _make(sc.CLONE_NEWTIME)
            for step in time_steps(namespaces):
                joining.execute(sync, step, joiner)
        if namespaces.joins and not new & sc.CLONE_NEWUSER:
            sc.prctl(sc.PR_SET_DUMPABLE, 0)
        place = ("create the namespaces", "/linux/namespaces")
        try:
            pid, pidfd = sc.clone3(new | sc.CLONE_PARENT, exit_signal=0)
        except OSError as error:
            raise _refused(error) from None
        if pid:
            channel.send(sync, channel.PID, b"%d" % pid, (pidfd,))
            os._exit(0)
    except BaseException as error:
        channel.send_failure(sync, error, *place)
        return
    life()


def _make(flag: int) -> None:
    try:
        sc.unshare(flag)
    except OSError as error:
        raise _refused(error) from None


def _refused(error: OSError) -> RootlessError:
    from rootless.userns.hints import clone_error

    return clone_error(error)
