"""`restore`: a container of the files that `checkpoint` wrote, by criu."""

from __future__ import annotations

import os

from rootless import cgroup, log
from rootless.cli.commands.checkpoint import (
    DESCRIPTORS,
    EXTERNAL,
    config_file,
    external_mounts,
    image_path,
    log_path,
    read_options,
)
from rootless.cli.commands.create import read_bundle
from rootless.cli.commands.delete import remove_after, remove_failed
from rootless.errors import RootlessError
from rootless.kernel import child, proc
from rootless.kernel import syscalls as sc
from rootless.kernel.host import Host
from rootless.plan.namespaces import NAMESPACES
from rootless.process import console, hooks
from rootless.runtime import criu
from rootless.runtime.container import Container, undo_all
from rootless.runtime.create import compile_plan, first_state, make_cgroup
from rootless.runtime.foreground import adopt, listen, wait
from rootless.runtime.state import StateDir
from rootless.startup.jsonlite import loads
from rootless.steps import mounting as mount
from rootless.steps import places as rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.cgroup.fs import Cgroup
    from rootless.cli.options import Options
    from rootless.plan import Plan

_ROOT = "criu-root"  # in the state directory


class Restored:
    """What criu tells on the way: pid of init, the terminal's master (-1 for none)."""

    def __init__(self, container: Container, made: Plan, console_socket: str) -> None:
        self.container = container
        self.made = made
        self.console_socket = console_socket
        self.pid = 0
        self.master = -1

    def notified(self, stage: str, pid: int, fds: list[int]) -> None:
        """One stage of criu's."""
        if stage == "setup-namespaces":
            hooks.run_outside(self.made.hooks, lambda status: {**self.container.report(status), "pid": pid})
        elif stage == "post-restore":
            self.pid = pid
            self.container.state.update(pid=pid, start_time=proc.start_time(pid))
            self.container.directory.note_init(pid, self.container.state["start_time"])
            self.container.save()
        elif stage == "orphan-pts-master" and fds:
            if self.console_socket:
                console.send_to(self.console_socket, fds[0])
            else:
                self.master = os.dup(fds[0])


def main(options: Options) -> int:
    """`rootless restore [--image-path DIR] [-b BUNDLE] [--detach] ID`, with runc's flags; the program's exit code."""
    path = criu.find(options.criu)
    request = read_bundle(options)
    made = compile_plan(request, Host())
    console.check_holder(made.process["terminal"], options.detach, request.console_socket)
    inherited = _inherited(options)
    asked = {**read_options(options, "restore.log"), **config_file(made), "inherit_fd": inherited}
    undo: list[Callable[[], None]] = []
    directory = StateDir.make(request.root, request.container_id, proc.own_identity())
    undo += [directory.close, directory.remove]
    try:
        directory.write("config.json", request.text)
        container = Container(directory, first_state(request, made))
        restored = Restored(container, made, request.console_socket)
        group = cgroup.open(made.cgroup)
        undo.append(group.remove)
        _restore(options, path, asked, restored, group)
        undo.append(lambda: proc.end(restored.pid, os.pidfd_open(restored.pid)))
        if request.pid_file:
            proc.write_pid_file(request.pid_file, restored.pid)
    except BaseException:
        undo_all(undo)
        raise
    if options.detach:
        container.close()
        return 0
    return _wait(container, restored)


def _restore(options: Options, path: str, asked: dict[str, Any], restored: Restored, group: Cgroup) -> None:
    """Let criu make the processes. The mounts it needs are in a namespace of this process alone."""
    made = restored.made
    _make_places(made)
    sc.unshare(sc.CLONE_NEWNS)
    sc.mount(None, "/", None, sc.MS_SLAVE | sc.MS_REC)
    directory = restored.container.directory
    os.mkdir(_ROOT, dir_fd=directory.fd)
    root = f"{os.path.realpath(directory.root)}/{directory.container_id}/{_ROOT}"
    sc.mount(made.rootfs, root, None, sc.MS_BIND | sc.MS_REC)  # criu wants a mount point, not hidden by another mount
    namespaces = [(flag, os.open(name, os.O_RDONLY | os.O_CLOEXEC)) for flag, name, _ in _external(made)]
    session = criu.Session(path, tuple(fd for _, fd in namespaces))
    session.log_path = log_path(options, "restore.log")
    try:
        make_cgroup(directory, group, session.pid)  # what it makes is there too
        asked |= _describe(options, made, root, session.pid)
        asked["inherit_fd"] += [[(1, EXTERNAL[flag]), (2, 4 + i)] for i, (flag, _) in enumerate(namespaces)]
        session.request(criu.RESTORE, asked, restored.notified)
    finally:
        session.close()
        sc.umount2(root, sc.MNT_DETACH)
        os.rmdir(_ROOT, dir_fd=directory.fd)
        for _, fd in namespaces:
            os.close(fd)


def _external(made: Plan) -> list[tuple[int, str, str]]:
    return [join for join in made.namespaces.joins if join[0] in EXTERNAL]


def _describe(options: Options, made: Plan, root: str, pid: int) -> dict[str, Any]:
    """What criu finds outside: mounts, pipes of the standard streams, namespaces, cgroups."""
    mounts = list(external_mounts(made))
    if any(step[0] == "mask" for step in made.enter):
        mounts.append(("/dev/null", "/dev/null"))
    names = {flag: name for flag, name in NAMESPACES.values()}
    joins = [[(1, names[flag]), (2, name)] for flag, name, _ in made.namespaces.joins if flag not in EXTERNAL]
    with open(f"/proc/{pid}/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    asked: dict[str, Any] = {
        "root": root,
        "rst_sibling": True,
        "evasive_devices": True,
        "ext_mnt": [[(1, key), (2, value)] for key, value in mounts],
        "join_ns": joins,
        "cg_root": [[(1, controllers), (2, place)] for _, controllers, place in lines],
    }
    for name in ("lsm_profile", "lsm_mount_context"):
        if getattr(options, name):
            asked[name] = getattr(options, name)
    return asked


def _inherited(options: Options) -> list[Any]:
    """The pipes that the standard streams were become those of this command."""
    path = f"{image_path(options)}/{DESCRIPTORS}"
    try:
        with open(path, "rb") as file:
            was = loads(file.read())
    except OSError as error:
        raise RootlessError.from_os(error, "there is no checkpoint", path, "--image-path names it") from None
    return [[(1, name), (2, number)] for number, name in enumerate(was) if "pipe:" in name]


def _make_places(made: Plan) -> None:
    """The places of the mounts in the rootfs, and in what is bound there: criu makes none. In a process of its own,
    whose mounts go with it."""
    pid, pidfd = child.clone(0, lambda: _make_places_in_child(made))
    os.close(pidfd)
    if os.waitpid(pid, 0)[1]:
        raise RootlessError("cannot make the places of the mounts", made.rootfs, hint="--debug says more")


def _make_places_in_child(made: Plan) -> None:
    try:
        sc.unshare(sc.CLONE_NEWNS)
        sc.mount(None, "/", None, sc.MS_PRIVATE | sc.MS_REC)
        root = rootfs.attach_rootfs(made.rootfs)
        target = mount.Target(
            root, proc.open_proc(), own_netns=True, own_cgroupns=True, own_pidns=True, gid_5=True, on_host=False
        )
        entries = [step[2] for step in made.prepare if step[0] == "mount" and step[2]["fstype"] != "cgroup"]
        tmpfs = [f"{entry['target']}/" for entry in entries if entry["fstype"] == "tmpfs"]
        for entry in entries:
            if entry["target"].startswith(tuple(tmpfs)):
                continue  # criu brings its content along
            if entry["bind"]:
                mount.apply_mount(target, entry)
            else:
                os.close(rootfs.make_directory(root, entry["target"]))
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
        remove_failed(container)
        raise
    remove_after(container)
    return code
