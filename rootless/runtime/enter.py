"""Joining namespaces that exist: R clones J, J enters them and clones the process, `exec`'s or I, as R's child.

J is needed because setns(2) and unshare(2) put only children into a pid or time namespace; CLONE_PARENT makes its child
R's, so that R (or whoever adopts R's children) waits for it.
"""

from __future__ import annotations

from fcntl import ioctl
from struct import unpack

from rootless.errors import RootlessError, SpecError
from rootless.kernel import caps, channel, child, proc
from rootless.kernel import syscalls as sc
from rootless.kernel.files import write_at_once
from rootless.kernel.host import read_id_map, read_setgroups
from rootless.plan.namespaces import NAMESPACES
from rootless.process import attributes, console, program
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import Any

    from rootless.kernel.host import Host, IdMap
    from rootless.plan import Plan
    from rootless.plan.namespaces import Namespaces
    from rootless.runtime.container import Container

    Join = tuple[int, int, str]  # CLONE_NEW* flag, fd, JSON pointer

_NS_GET_NSTYPE, _NS_GET_OWNER_UID = 0xB703, 0xB704  # ioctl_ns(2)


class Target:
    """A container's init, held by its pidfd, and what must be known of it to join it.

    flags: CLONE_NEW* of the namespaces that are not ours already, without the cgroup's, which is cgroup_ns (an fd, -1
    for ours); root: its root where that is not its mount namespace's (-1); uid_map, gid_map: its maps as seen from
    here; setgroups: whether setgroups(2) works in it.
    """

    def __init__(self, container: Container) -> None:
        pid = container.pid
        self.proc_fd = proc.open_proc()
        self.flags = 0
        self.cgroup_ns = -1
        self.root = -1
        try:
            self.pidfd = os.pidfd_open(pid)
            for flag, name in NAMESPACES.values():
                if self._differs(pid, name):
                    self.flags |= flag
            if self.flags & sc.CLONE_NEWCGROUP:
                self.flags &= ~sc.CLONE_NEWCGROUP
                self.cgroup_ns = os.open(f"{pid}/ns/cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc_fd)
            if container.state.get("rootfs_before"):
                self.root = os.open(f"{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.proc_fd)
            here = f"/proc/self/fd/{self.proc_fd}/{pid}"
            self.uid_map: IdMap = read_id_map(f"{here}/uid_map")
            self.gid_map: IdMap = read_id_map(f"{here}/gid_map")
            self.setgroups = read_setgroups(f"{here}/setgroups")
        except (FileNotFoundError, ProcessLookupError):  # it has ended, or gave up its namespaces on the way
            raise RootlessError("cannot exec in a stopped container") from None
        except OSError as error:
            raise RootlessError.from_os(error, "cannot look at the container's init", f"/proc/{pid}") from None
        # Only now: the number meant the same process all the while, for the pidfd holds it.
        if not container.alive():
            raise RootlessError("cannot exec in a stopped container")

    def _differs(self, pid: int, name: str) -> bool:
        try:
            theirs = os.stat(f"{pid}/ns/{name}", dir_fd=self.proc_fd)
            ours = os.stat(f"self/ns/{name}", dir_fd=self.proc_fd)
        except FileNotFoundError:
            if os.path.exists(f"/proc/self/ns/{name}"):
                raise
            return False  # a kernel without that kind
        return (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino)


class Task:
    """The process to start in a target.

    process: as rootless.plan.process gives it; seccomp: what loads the filter, or None; keyring: the session
    keyring's name; preserve: how many fds from 3 on it inherits; foreground: whether it ends with the runtime.
    """

    def __init__(self, process: dict[str, Any], *, seccomp: Any, keyring: str, preserve: int, foreground: bool) -> None:
        self.process = process
        self.seccomp = seccomp
        self.keyring = keyring
        self.preserve = preserve
        self.foreground = foreground
        self.last_cap = caps.last_cap()


class Spawned:
    """A process that `spawn` has started: its pid and pidfd, the socket to it, and J, which `reap` waits for."""

    def __init__(self, pid: int, pidfd: int, sync: socket, joiner: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.sync = sync
        self.joiner = joiner

    def reap(self) -> None:
        """J has ended, or is about to: nothing has to wait for it before."""
        os.waitpid(self.joiner, 0)


def spawn(target: Target, task: Task, cgroup_fd: int) -> Spawned:
    """A process in the target's namespaces and that cgroup (-1: ours), a child of this one.

    It sets itself up and waits for GO on the socket before it says anything; with a terminal it then sends CONSOLE and
    waits for GO again. It sends EXECUTING, and the end: as `start` sees it. Raises RootlessError.
    """
    sync, theirs = channel.pair()
    later = -1  # the cgroup that only J's child can enter

    def join() -> None:
        try:
            sync.close()
        finally:
            _join(target, task, theirs, later)

    try:
        try:
            joiner, pidfd = child.clone(0, join, cgroup_fd=cgroup_fd)
        except PermissionError:  # it belongs to a subordinate id: root of the container's user namespace may
            later = cgroup_fd
            joiner, pidfd = child.clone(0, join)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot start a process in the container's cgroup") from None
    theirs.close()
    os.close(pidfd)
    return Spawned(*_await_child(joiner, sync), sync, joiner)


def _await_child(joiner: int, sync: socket, write_maps: Callable[[int], None] | None = None) -> tuple[int, int]:
    """(pid, pidfd) of what J cloned. Raises RootlessError, then the socket is closed and J reaped."""
    try:
        tag, number, fds = channel.receive(sync, channel.PID, channel.UNMAPPED)
        if tag == channel.UNMAPPED and write_maps:
            write_maps(joiner)
            channel.send(sync, channel.MAPPED)
            _, number, fds = channel.receive(sync, channel.PID)
        return int(number), fds[0]
    except BaseException as error:
        sync.close()  # J may wait for an answer
        os.waitpid(joiner, 0)
        if isinstance(error, (EOFError, BrokenPipeError)):
            raise RootlessError("the process that joins the namespaces was killed") from None
        raise


def _join(target: Target, task: Task, sync: socket, cgroup_fd: int) -> None:
    """J, whose child starts in the cgroup where there is one. Returns only where it failed: see rootless/kernel/child.py."""
    try:
        program.forget_imports()
        _adjust_oom_score(task.process, target.proc_fd)
        # A process of the container could otherwise trace this one, and open what it has open: ptrace(2).
        sc.prctl(sc.PR_SET_DUMPABLE, 0)
        if target.flags:
            sc.setns(target.pidfd, target.flags)
        if target.root >= 0:
            os.fchdir(target.root)
            os.chroot(".")
        # The signal is J's: EINVAL for another.
        pid, pidfd = sc.clone3(sc.CLONE_PARENT, cgroup_fd=cgroup_fd, exit_signal=0)
        if pid:
            channel.send(sync, channel.PID, b"%d" % pid, (pidfd,))
            os._exit(0)
    except BaseException as error:
        channel.send_failure(sync, error, "cannot join the container's namespaces")
        return
    _become(target, task, sync)


def _adjust_oom_score(process: dict[str, Any], proc_fd: int) -> None:
    """In J already: the file is root's when a process is not dumpable, proc(5)."""
    if process["oom_score_adj"] is not None:
        attributes.write_oom_score(proc_fd, process["oom_score_adj"])
        process["oom_score_adj"] = None


def _become(target: Target, task: Task, sync: socket) -> None:
    """J's child, up to execve. Returns only where it failed."""
    process = task.process
    step = "set up the process"
    gate = _Gate(sync)
    try:
        os.setsid()
        if target.cgroup_ns >= 0:
            # After the cgroup was entered: a process outside of its namespace's root may not be moved in (nsdelegate).
            sc.setns(target.cgroup_ns, sc.CLONE_NEWCGROUP)
        if process["terminal"]:
            gate.wait()
            _open_terminal(process, sync)
        if task.keyring:
            attributes.join_keyring(task.keyring)
        attributes.apply_through_proc(process, target.proc_fd)
        # What follows looks up paths of the container's: with a directory of the host still open, a link of its to
        # /proc/self/fd/N/.. would lead to the host (CVE-2024-21626).
        program.close_all_but([sync.fileno(), *program.passed_on(task.preserve)])
        attributes.apply_process(process, task.last_cap, setgroups=target.setgroups, filtered=bool(task.seccomp))
        if task.foreground:
            attributes.die_with_parent()  # were the runtime gone already, the socket would say so next
        path = program.look_up(process["args"][0], process)
        program.check_cwd()
        gate.wait()
        program.execute(sync, path, process, seccomp=task.seccomp, preserve=task.preserve)
    except BaseException as error:
        _say(gate, error, step, process["pointer"])


class _Gate:
    """R's first GO: J has said by then whose pid this is, and what this process says itself must not come before."""

    def __init__(self, sync: socket) -> None:
        self.sync = sync
        self.open = False

    def wait(self) -> None:
        """Until it is open. Raises EOFError where R is gone."""
        if not self.open:
            channel.receive(self.sync, channel.GO)
            self.open = True


def _say(gate: _Gate, error: BaseException, step: str, pointer: str) -> None:
    try:
        gate.wait()
    except (EOFError, OSError):
        return  # nobody is left to be told
    channel.send_failure(gate.sync, error, step, pointer)


def _open_terminal(process: dict[str, Any], sync: socket) -> None:
    """A pty of the container's devpts; the master goes to R, which gives it its size before the program looks."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    master, slave = console.open_pty(root, process["size"])
    os.close(root)
    console.offer(sync, master, slave, process["uid"])
    channel.receive(sync, channel.GO)
    console.take_over(slave)
    os.close(slave)


# --- namespaces by path, and time namespaces, for a new container


def open_namespaces(ns: Namespaces, host: Host) -> list[Join]:
    """Open the namespaces that config.json names by path, each checked to be of its kind. Raises SpecError."""
    opened: list[Join] = []
    kinds = {flag: kind for kind, (flag, _) in NAMESPACES.items()}
    for flag, path, pointer in ns.joins:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise SpecError(f"cannot open the {kinds[flag]} namespace {path}", pointer, error.errno or 0) from None
        opened.append((flag, fd, pointer))
        try:
            kind = ioctl(fd, _NS_GET_NSTYPE)
        except OSError:  # ENOTTY: no file of nsfs
            kind = 0
        if kind != flag:
            found = f"it is a {kinds[kind]} namespace" if kind in kinds else "it is no namespace"
            raise SpecError(f"{path} is no {kinds[flag]} namespace", pointer, hint=found)
        if flag == sc.CLONE_NEWUSER and not host.privileged:
            owner = unpack("I", ioctl(fd, _NS_GET_OWNER_UID, bytes(4)))[0]
            if owner != host.uid:
                raise SpecError(f"the user namespace {path} belongs to uid {owner}, not to you", pointer)
    return opened


def refuse_shared_sysctls(plan: Plan, joins: list[Join]) -> None:
    """Refuse a sysctl of a namespace that is joined by path and is the caller's own: it would change the host.

    Raises SpecError. What counts is the namespace that was opened, not its path (as in runc).
    """
    for operation, pointer, *arguments in plan.prepare:
        if not pointer.startswith("/linux/sysctl/"):
            continue
        kind = SYSCTL_KINDS["uts" if operation != "sysctl" else arguments[0].partition("/")[0]]
        flag, name = NAMESPACES[kind]
        for joined, fd, _ in joins:
            if joined != flag:
                continue
            theirs, ours = os.fstat(fd), os.stat(f"/proc/self/ns/{name}")
            if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino):
                raise SpecError(f"the {kind} namespace is the caller's own: it would change the host", pointer)


SYSCTL_KINDS = {"net": "network", "user": "user", "kernel": "ipc", "fs": "ipc", "uts": "uts"}


def clone(
    plan: Plan,
    joins: list[Join],
    proc_fd: int,
    socks: tuple[socket, socket],
    cgroup_fd: int,
    life: Callable[[], None],
    write_maps: Callable[[int], None],
) -> tuple[int, int]:
    """(pid, pidfd) of I, a child of this process in those namespaces and the new ones; it runs `life`.

    write_maps(pid) is called where a new user namespace has to be mapped before I exists: a time namespace's offsets
    are written before anyone is in it (time_namespaces(7)). Raises RootlessError and OSError.
    """
    sync, theirs = socks

    def enter() -> None:
        try:
            sync.close()
        finally:
            _enter(plan, joins, proc_fd, theirs, life)

    joiner, pidfd = child.clone(0, enter, cgroup_fd=cgroup_fd)
    theirs.close()
    os.close(pidfd)
    found = _await_child(joiner, sync, write_maps)
    os.waitpid(joiner, 0)
    return found


def _enter(plan: Plan, joins: list[Join], proc_fd: int, sync: socket, life: Callable[[], None]) -> None:
    """J for I. Returns only where one of the two has failed: see rootless/kernel/child.py."""
    step = ("process", "/process")
    ns = plan.namespaces
    new = ns.new & ~(sc.CLONE_NEWCGROUP | sc.CLONE_NEWTIME)
    try:
        _adjust_oom_score(plan.process, proc_fd)
        # The files of /proc/self that the maps and offsets go to are root's when the process is not dumpable.
        if joins and not new & sc.CLONE_NEWUSER and not ns.offsets:
            sc.prctl(sc.PR_SET_DUMPABLE, 0)
        for flag, fd, pointer in joins:
            step = ("join the namespace", pointer)
            sc.setns(fd, flag)
        if ns.new & sc.CLONE_NEWTIME:
            step = ("make a time namespace", "/linux/timeOffsets")
            if new & sc.CLONE_NEWUSER:  # it owns the time namespace
                sc.unshare(sc.CLONE_NEWUSER)
                new &= ~sc.CLONE_NEWUSER
                channel.send(sync, channel.UNMAPPED)
                channel.receive(sync, channel.MAPPED)
            sc.unshare(sc.CLONE_NEWTIME)
            _write_offsets(ns, proc_fd)
        if joins and not new & sc.CLONE_NEWUSER:
            sc.prctl(sc.PR_SET_DUMPABLE, 0)
        step = ("create the namespaces", "/linux/namespaces")
        pid, pidfd = sc.clone3(new | sc.CLONE_PARENT, exit_signal=0)
        if pid:
            channel.send(sync, channel.PID, b"%d" % pid, (pidfd,))
            os._exit(0)
    except BaseException as error:
        channel.send_failure(sync, error, *step)
        return
    life()


def _write_offsets(ns: Namespaces, proc_fd: int) -> None:
    if ns.offsets:
        fd = os.open("self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc_fd)
        write_at_once(fd, "".join(f"{clock} {seconds} {nanos}\n" for clock, seconds, nanos in ns.offsets).encode())
        os.close(fd)
