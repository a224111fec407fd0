"""A process in an existing container: R clones J, J enters the namespaces and clones the process as R's child.

J is needed because setns(2) puts only children into a pid namespace; CLONE_PARENT makes its child R's, so that R (or
whoever adopts R's children) waits for it.
"""

from __future__ import annotations

import os
import sys

from rootless import caps, channel, console, init, proc, program
from rootless import syscalls as sc
from rootless.errors import RootlessError
from rootless.host import read_id_map
from rootless.plan.namespaces import NAMESPACES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from rootless.container import Container
    from rootless.host import IdMap


class Target:
    """A container's init, held by its pidfd, and what must be known of it to join it.

    flags: CLONE_NEW* of the namespaces that are not ours already, without the cgroup's, which is cgroup_ns (an fd, -1
    for ours); uid_map, gid_map: its maps as seen from here; setgroups: whether setgroups(2) works in it.
    """

    def __init__(self, container: Container) -> None:
        pid = container.pid
        self.proc_fd = proc.open_proc()
        self.flags = 0
        self.cgroup_ns = -1
        try:
            self.pidfd = os.pidfd_open(pid)
            for flag, name in NAMESPACES.values():
                if self._differs(pid, name):
                    self.flags |= flag
            if self.flags & sc.CLONE_NEWCGROUP:
                self.flags &= ~sc.CLONE_NEWCGROUP
                self.cgroup_ns = os.open(f"{pid}/ns/cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc_fd)
            here = f"/proc/self/fd/{self.proc_fd}/{pid}"
            self.uid_map: IdMap = read_id_map(f"{here}/uid_map")
            self.gid_map: IdMap = read_id_map(f"{here}/gid_map")
            with open(f"{here}/setgroups") as file:
                self.setgroups = file.read().strip() == "allow"
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
    keyring's name; preserve: how many fds from 3 on it inherits.
    """

    def __init__(self, process: dict[str, Any], *, seccomp: Any, keyring: str, preserve: int) -> None:
        self.process = process
        self.seccomp = seccomp
        self.keyring = keyring
        self.preserve = preserve
        self.last_cap = caps.last_cap()


def spawn(target: Target, task: Task, cgroup_fd: int) -> tuple[int, int, socket]:
    """(pid, pidfd, socket) of a process in the target's namespaces and that cgroup (-1: ours), a child of this one.

    It waits for GO on the socket, then sends CONSOLE if it has a terminal, EXECUTING, and the end: as `start` sees
    it. Raises RootlessError.
    """
    sync, theirs = channel.pair()
    try:
        joiner, pidfd = sc.clone3(0, cgroup_fd=cgroup_fd)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot start a process in the container's cgroup") from None
    if joiner == 0:
        sync.close()
        _join(target, task, theirs)
    theirs.close()
    os.close(pidfd)
    try:
        _, number, (pidfd,) = channel.receive(sync, channel.PID)
    except EOFError:
        raise RootlessError("the process that joins the container was killed") from None
    finally:
        os.waitpid(joiner, 0)
    return int(number), pidfd, sync


def _join(target: Target, task: Task, sync: socket) -> None:
    """J. Never returns."""
    try:
        sys.path.clear()  # a module from now on would be the container's
        process = task.process
        if process["oom_score_adj"] is not None:
            # Before the next line: the file is root's when the process is not dumpable, proc(5).
            init.write_oom_score(target.proc_fd, process["oom_score_adj"])
            process["oom_score_adj"] = None
        # A process of the container could otherwise trace this one, and open what it has open: ptrace(2).
        sc.prctl(sc.PR_SET_DUMPABLE, 0)
        if target.flags:
            sc.setns(target.pidfd, target.flags)
        pid, pidfd = sc.clone3(sc.CLONE_PARENT, exit_signal=0)  # the signal is J's: EINVAL for another
        if pid:
            channel.send(sync, channel.PID, b"%d" % pid, (pidfd,))
            os._exit(0)
    except BaseException as error:
        channel.send_failure(sync, error, "cannot join the container's namespaces")
        os._exit(1)
    _become(target, task, sync)


def _become(target: Target, task: Task, sync: socket) -> None:
    """J's child, up to execve. Never returns."""
    process = task.process
    slave = -1
    step = "set up the process"
    try:
        channel.receive(sync, channel.GO)
        os.setsid()
        if target.cgroup_ns >= 0:
            # After the cgroup was entered: a process outside of its namespace's root may not be moved in (nsdelegate).
            sc.setns(target.cgroup_ns, sc.CLONE_NEWCGROUP)
        if process["terminal"]:
            slave = _open_terminal(process, sync)
        if task.keyring:
            init.join_keyring(task.keyring)
        init.apply_process(
            process, target.proc_fd, task.last_cap, setgroups=target.setgroups, filtered=bool(task.seccomp)
        )
        path = program.look_up(process["args"][0], process["env"])
        program.check_cwd()
        program.execute(sync, path, process, seccomp=task.seccomp, preserve=task.preserve, stdio=slave)
    except BaseException as error:
        channel.send_failure(sync, error, step, process["pointer"])
    os._exit(1)


def _open_terminal(process: dict[str, Any], sync: socket) -> int:
    """A pty of the container's devpts; the master goes to R."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    master, slave = console.open_pty(root, process["size"])
    os.close(root)
    os.fchown(slave, process["uid"], -1)
    channel.send(sync, channel.CONSOLE, fds=(master,))
    os.close(master)
    console.become_controlling(slave)
    return slave
