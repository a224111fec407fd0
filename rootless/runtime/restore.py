"""Make a container from the files that `checkpoint` wrote, with criu."""

from __future__ import annotations

import os
from socket import socket
from typing import TYPE_CHECKING

from rootless import cgroup, log
from rootless.errors import RootlessError
from rootless.kernel import child, proc
from rootless.kernel import syscalls as sc
from rootless.kernel.host import Host
from rootless.kernel.namespaces import NAMESPACES
from rootless.kernel.signals import ENDING, block, unblock
from rootless.process import console
from rootless.process.hooks import HookContext
from rootless.runtime import criu
from rootless.runtime.checkpoint import (
    DESCRIPTORS,
    EXTERNAL,
    config_file,
    external_mounts,
    image_path,
    log_path,
    read_options,
)
from rootless.runtime.container import Container, TakingBack, undo_all
from rootless.runtime.create import compile_plan, first_state, note_made_cgroup, note_planned_cgroup
from rootless.runtime.delete import remove_after, remove_failed
from rootless.runtime.foreground import adopt, listen, wait
from rootless.runtime.hooks import run_hooks
from rootless.runtime.state import StateDir
from rootless.startup.jsonlite import loads
from rootless.steps.binds import BindMount
from rootless.steps.context import Init, Prepared
from rootless.steps.masks import MaskPath
from rootless.steps.places import make_directory
from rootless.steps.root import AttachRootfs

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.cgroup.driver import Cgroup
    from rootless.kernel.namespaces import Join
    from rootless.plan.compiler import Plan
    from rootless.runtime.bundle import CreateRequest
    from rootless.runtime.checkpoint import ImageRequest

_ROOT = "criu-root"  # in the state directory


class Restored:
    """Handle criu's notifications; keep init's pid and the terminal's master (-1 for none)."""

    def __init__(self, container: Container, plan: Plan, console_socket: str) -> None:
        self.container = container
        self.plan = plan
        self.console_socket = console_socket
        self.pid = 0
        self.master = -1

    def notified(self, stage: str, pid: int, fds: list[int]) -> None:
        """Handle one stage of the restore: run hooks, note init, receive the terminal. Raises RootlessError."""
        if stage == "setup-namespaces":
            for moment, status in (("prestart", "created"), ("createRuntime", "creating")):
                state = self.container.report(status)
                state["pid"] = pid
                run_hooks(self.plan.hooks, moment, HookContext(state, status))
        elif stage == "post-restore":
            self.pid = pid
            self.container.state["pid"] = pid
            self.container.state["start_time"] = proc.start_time(pid)
            self.container.directory.note_init(pid, self.container.state["start_time"])
            self.container.save()
        elif stage == "orphan-pts-master" and fds:
            if self.console_socket:
                console.send_to(self.console_socket, fds[0])
            else:
                self.master = os.dup(fds[0])


def restore(create_request: CreateRequest, request: ImageRequest) -> int:
    """Make a container from images; return the program's exit code, 0 when detached. Raises RootlessError."""
    path = criu.find(request.criu)
    plan = compile_plan(create_request, Host())
    console.check_holder(plan.process.terminal, request.detach, create_request.console_socket)
    inherited = _inherited(request)
    asked = read_options(request, "restore.log") | config_file(plan)
    asked["inherit_fd"] = inherited
    undo: list[Callable[[], None]] = []
    directory = StateDir.make(create_request.root, create_request.container_id, proc.own_identity())
    undo += [directory.close, directory.remove]
    try:
        directory.write("config.json", create_request.text)
        record = plan.cgroup.record.copy()
        container = Container(directory, first_state(create_request, plan, record))
        restored = Restored(container, plan, create_request.console_socket)
        group = cgroup.open(record)
        undo.append(group.remove)
        _restore(request, path, asked, restored, group)
        undo.append(lambda: proc.end(restored.pid, os.pidfd_open(restored.pid)))
        if create_request.pid_file:
            proc.write_pid_file(create_request.pid_file, restored.pid)
    except BaseException:
        block(ENDING)  # a second Ctrl-C would leave the rest
        undo_all(undo, directory)
        unblock(ENDING)
        raise
    if request.detach:
        container.close()
        return 0
    return _wait(container, restored)


def _restore(request: ImageRequest, path: str, asked: criu.Options, restored: Restored, group: Cgroup) -> None:
    """Let criu make the processes. The mounts that criu needs are in a private mount namespace of this process."""
    plan = restored.plan
    _make_mount_points(plan)
    sc.unshare(sc.CLONE_NEWNS)
    sc.mount(None, "/", None, sc.MS_SLAVE | sc.MS_REC)
    directory = restored.container.directory
    os.mkdir(_ROOT, dir_fd=directory.fd)
    root = f"{os.path.realpath(directory.root)}/{directory.container_id}/{_ROOT}"
    sc.mount(plan.rootfs, root, None, sc.MS_BIND | sc.MS_REC)  # criu needs a mount point that no other mount hides
    namespaces = [(join.flag, os.open(join.path, os.O_RDONLY | os.O_CLOEXEC)) for join in _external(plan)]
    session = criu.Session(path, tuple(fd for _, fd in namespaces))
    session.log_path = log_path(request, "restore.log")
    try:
        note_planned_cgroup(directory, group)
        group.create(pid=session.pid)  # before criu makes processes, so that they are in the cgroup
        note_made_cgroup(directory, group)
        asked |= _describe(request, plan, root, session.pid)
        asked["inherit_fd"] += [[(1, EXTERNAL[flag]), (2, 4 + i)] for i, (flag, _) in enumerate(namespaces)]
        session.request(criu.RESTORE, asked, restored.notified)
    finally:
        session.close()
        sc.umount2(root, sc.MNT_DETACH)
        os.rmdir(_ROOT, dir_fd=directory.fd)
        for _, fd in namespaces:
            os.close(fd)


def _external(plan: Plan) -> list[Join]:
    return [join for join in plan.namespaces.joins if join.flag in EXTERNAL]


def _describe(request: ImageRequest, plan: Plan, root: str, pid: int) -> criu.Options:
    """Return the options that tell criu what it gets from outside: mounts, joined namespaces and cgroups."""
    mounts = list(external_mounts(plan))
    if any(isinstance(step, MaskPath) for step in plan.enter):
        mounts.append(("/dev/null", "/dev/null"))
    names = {flag: name for flag, name in NAMESPACES.values()}
    others = [join for join in plan.namespaces.joins if join.flag not in EXTERNAL]
    joins: list[criu.Message] = [[(1, names[join.flag]), (2, join.path)] for join in others]
    with open(f"/proc/{pid}/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    asked: criu.Options = {
        "root": root,
        "rst_sibling": True,
        "evasive_devices": True,
        "ext_mnt": [[(1, key), (2, value)] for key, value in mounts],
        "join_ns": joins,
        "cg_root": [[(1, controllers), (2, place)] for _, controllers, place in lines],
    }
    if request.lsm_profile:
        asked["lsm_profile"] = request.lsm_profile
    if request.lsm_mount_context:
        asked["lsm_mount_context"] = request.lsm_mount_context
    return asked


def _inherited(request: ImageRequest) -> list[criu.Message]:
    """Return the option that replaces the pipes of the old standard streams by the streams of this command."""
    path = f"{image_path(request)}/{DESCRIPTORS}"
    try:
        with open(path, "rb") as file:
            was = loads(file.read())
    except OSError as error:
        raise RootlessError.from_os(error, "no checkpoint", path, "--image-path names its directory") from None
    return [[(1, name), (2, number)] for number, name in enumerate(was) if "pipe:" in name]


def _make_mount_points(plan: Plan) -> None:
    """Make the missing mount points in the rootfs, because criu does not. Raises RootlessError.

    A child does it in its own mount namespace, so that its mounts end with it.
    """
    pid, pidfd = child.clone(0, lambda: _make_mount_points_in_child(plan))
    os.close(pidfd)
    if os.waitpid(pid, 0)[1]:
        raise RootlessError("cannot make the mount points", plan.rootfs, hint="--debug says more")


def _make_mount_points_in_child(plan: Plan) -> None:
    try:
        sc.unshare(sc.CLONE_NEWNS)
        sc.mount(None, "/", None, sc.MS_PRIVATE | sc.MS_REC)
        prepared = Prepared(proc.open_proc(), socket(), setgroups=True)
        sync = socket()
        init = Init(prepared, plan.namespaces, sync)
        AttachRootfs("/root/path", plan.rootfs).execute(init)
        mounts = [mount for mount in plan.mounts() if mount.fstype != "cgroup"]
        tmpfs = [f"{mount.target}/" for mount in mounts if mount.fstype == "tmpfs"]
        for mount in mounts:
            if mount.target.startswith(tuple(tmpfs)):
                continue  # criu restores the content of a tmpfs
            if isinstance(mount, BindMount):
                mount.execute(init)
            else:
                os.close(make_directory(init.root.fd, mount.target))
        os._exit(0)
    except BaseException as error:
        log.debug(f"restore: {error}")


def _wait(container: Container, restored: Restored) -> int:
    try:
        reader = listen()
        pidfd = os.pidfd_open(restored.pid)
        if restored.master >= 0:
            adopt(restored.master)
        container.directory.lock.give_up()
        code = wait(restored.pid, pidfd, reader, restored.master)
    except BaseException:
        with TakingBack(container):
            remove_failed(container)
        raise
    remove_after(container)
    return code
