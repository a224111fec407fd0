"""I, the container's init: runs the plan's steps, waits for `start`, becomes the user's program.

It begins in a raw clone of R. Everything it needs is imported before the clone: after the pivot a module would come
from the container. No decision is left here; each step is one kernel topic's function.
"""

from __future__ import annotations

import errno
from _signal import SIG_SETMASK, pthread_sigmask, signal  # type: ignore[import-not-found]
from _stat import S_ISDIR, S_ISLNK

from rootless.errors import RootlessError
from rootless.kernel import caps, channel
from rootless.kernel import syscalls as sc
from rootless.kernel.files import write_at_once
from rootless.kernel.loopback import loopback_up
from rootless.plan.mounts import is_below
from rootless.process import attributes, console, hooks, program
from rootless.startup import lean_os as os
from rootless.steps import masks
from rootless.steps import mounting as mount
from rootless.steps import places as rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import Any

    from rootless.plan import Plan

    Step = tuple[Any, ...]

_HUP, _INT, _QUIT, _TERM = 1, 2, 3, 15


class Init:
    """What I got from R by being its clone.

    sync: the socket to R; listener: the listening start socket; proc_fd: the host's /proc, checked; options: what the
    command line asked for, with the state that hooks are told; leave: gives up what only the runtime needs.
    """

    def __init__(
        self,
        plan: Plan,
        sync: socket,
        listener: socket,
        proc_fd: int,
        options: dict[str, Any],
        leave: Callable[[], None],
    ) -> None:
        self.plan = plan
        self.sync = sync
        self.listener = listener
        self.proc_fd = proc_fd
        self.options = options
        self.leave = leave
        self.target: mount.Target
        self.last_cap = caps.last_cap()
        self.console_slave = -1


def run(init: Init) -> None:
    """Live init's whole life up to execve. Returns, or raises, only where it is over: see rootless/kernel/child.py."""
    step: Step = ("init", "")
    plan = init.plan
    try:
        pthread_sigmask(SIG_SETMASK, [])  # R holds some back
        init.leave()
        if init.options["foreground"]:
            attributes.die_with_parent()
        os.umask(0)
        os.setsid()
        if plan.namespaces.new & sc.CLONE_NEWNET:
            step = ("set lo up", "/linux/namespaces")
            loopback_up()  # while R writes the maps: the capabilities are there from the beginning
        step = ("init", "")
        _, groups, _ = channel.receive(init.sync, channel.MAPPED)
        init.options["setgroups"] = groups == b"1"
        if plan.namespaces.joins:
            sc.prctl(sc.PR_SET_DUMPABLE, 0)  # others are in there already: ptrace(2)
        step = ("become root in the container", "/linux/uidMappings")
        _become_root(init)
        if init.options["foreground"]:
            attributes.die_with_parent()
        if plan.namespaces.new & sc.CLONE_NEWCGROUP:
            sc.unshare(sc.CLONE_NEWCGROUP)
        for step in plan.prepare:
            _STEPS[step[0]](init, *step[2:])
        if plan.process["terminal"]:
            step = ("console", "/process/terminal")
            _make_console(init)
        step = ("init", "")
        channel.receive(init.sync, channel.SAVED)
        if plan.waits_for_runtime:
            channel.send(init.sync, channel.MOUNTED)
            channel.receive(init.sync, channel.HOOKED)
        step = ("createContainer hooks", "/hooks/createContainer")
        os.fchdir(init.target.root_fd)  # as with runc: where the hook's relative paths lead
        hooks.run(plan.hooks, "createContainer", init.options["state"], "creating")
        for step in plan.enter:
            _STEPS[step[0]](init, *step[2:])
        program.forget_imports()
        step = ("process", "/process")
        _settle(init)
        _dumpable_again(plan)
        step = ("args", "/process/args")
        args = plan.process["args"]
        path = program.look_up(args[0], plan.process) if args else ""
        program.check_cwd()
        # The first process of a pid namespace gets no signal that it has no handler for: pid_namespaces(7).
        for signum in (_HUP, _INT, _QUIT, _TERM):
            signal(signum, _leave)
    except BaseException as error:
        channel.send_failure(init.sync, error, str(step[0]), str(step[1]))
        return
    _wait_for_start(init, path)


def _become_root(init: Init) -> None:
    """Root of the user namespace where 0 is mapped; otherwise the capabilities serve with the ids as they are."""
    ns = init.plan.namespaces
    if any(flag == sc.CLONE_NEWUSER for flag, _, _ in ns.joins):
        _become_root_of_joined(init)
        return
    if not ns.uid_map:
        return
    if any(first == 0 for first, _, _ in ns.gid_map):
        sc.setresgid(0)
    if any(first == 0 for first, _, _ in ns.uid_map):
        sc.prctl(sc.PR_SET_KEEPCAPS, 1)
        sc.setresuid(0)


def _become_root_of_joined(init: Init) -> None:
    """The same in a user namespace that somebody else has mapped."""
    init.options["setgroups"] = _read_own(init, "setgroups") == ["allow"]
    numbers = [int(word) for word in _read_own(init, "gid_map")]
    init.plan.namespaces.gids = list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))
    sc.prctl(sc.PR_SET_KEEPCAPS, 1)
    for become in (sc.setresgid, sc.setresuid):
        try:
            become(0)
        except OSError as error:
            if error.errno != errno.EINVAL:  # 0 is not mapped
                raise


def _read_own(init: Init, name: str) -> list[str]:
    with open(os.open(f"self/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=init.proc_fd)) as file:
        return file.read().split()


def _make_console(init: Init) -> None:
    process = init.plan.process
    master, slave = console.open_pty(init.target.root_fd, process["size"])
    tree = sc.open_tree(slave, b"", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE)
    mount.attach_node(init.target, tree, "/dev/console")
    console.offer(init.sync, master, slave, process["uid"])
    init.console_slave = slave


# --- the steps


def _propagation(init: Init, flags: int) -> None:
    if init.options["no_pivot"] and flags & sc.MS_SHARED:
        flags = sc.MS_SLAVE | sc.MS_REC  # else what is moved onto the root would be moved onto the host's
    sc.mount(None, "/", None, flags)


def _rootfs(init: Init, path: str, *, on_host: bool = False) -> None:
    ns = init.plan.namespaces
    init.target = mount.Target(
        rootfs.attach_rootfs(path),
        init.proc_fd,
        own_netns=ns.has(sc.CLONE_NEWNET),
        own_cgroupns=ns.has(sc.CLONE_NEWCGROUP),
        own_pidns=bool(ns.new & sc.CLONE_NEWPID),
        shares_pids=not ns.has(sc.CLONE_NEWPID),
        gid_5=not ns.gids or any(first <= 5 < first + size for first, _, size in ns.gids),
        on_host=on_host,
    )


def _mount(init: Init, entry: dict[str, Any]) -> None:
    try:
        mount.apply_mount(init.target, entry)
    except OSError as error:
        name = error.filename
        if not isinstance(name, str) or not name.startswith("/") or is_below(entry["target"], name):
            error.filename = entry["target"]  # not the one component of it that could not be made
        raise


def _plain_directory(init: Init, path: str) -> None:
    """Where nothing is mounted over it: what a link of the image leads to is no place for device nodes."""
    try:
        found = os.stat(path[1:], dir_fd=init.target.root_fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if S_ISLNK(found.st_mode):
        raise OSError(errno.ENOTDIR, "it is a symbolic link", path)


def _device(
    init: Init, path: str, kind: int, major: int, minor: int, mode: int, uid: int, gid: int, mknod: bool
) -> None:
    """A node, made where that is allowed, else bound from the host."""
    if not mknod:
        mount.bind_device(init.target, host_path(path, kind, major, minor), path, os.makedev(major, minor))
        return
    parent, _, name = path.rpartition("/")
    directory = rootfs.make_directory(init.target.root_fd, parent or "/")
    try:
        os.mknod(name, kind | mode, os.makedev(major, minor) if kind != 0o010000 else 0, dir_fd=directory)
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
    except FileExistsError as error:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if found.st_mode & 0o170000 != kind or (kind != 0o010000 and found.st_rdev != os.makedev(major, minor)):
            raise rootfs.at_path(error, path) from None
    except OSError as error:
        raise rootfs.at_path(error, path) from None
    finally:
        os.close(directory)


def _outside_device(init: Init, path: str, *_: int) -> None:
    """A node that R has made, and what it is."""
    mount.attach_node(init.target, init.options["nodes"][path], path)


def host_path(path: str, kind: int, major: int, minor: int) -> str:
    """The host's node for a device: the same path if it is that device, else the one /sys knows by its numbers."""
    try:
        if os.stat(path).st_rdev == os.makedev(major, minor):
            return path
    except OSError:
        pass
    try:
        with open(f"/sys/dev/{'block' if kind == 0o060000 else 'char'}/{major}:{minor}/uevent") as file:
            for line in file:
                if line.startswith("DEVNAME="):
                    return f"/dev/{line[8:].rstrip()}"
    except OSError:
        pass
    return path


def _link(init: Init, path: str, target: str) -> None:
    parent, _, name = path.rpartition("/")
    directory = rootfs.make_directory(init.target.root_fd, parent)
    try:
        os.symlink(target, name, dir_fd=directory)
    except FileExistsError:
        # An image's own ptmx would open the wrong devpts.
        if name == "ptmx" and not S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=directory)
            os.symlink(target, name, dir_fd=directory)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise rootfs.at_path(error, path) from None
    finally:
        os.close(directory)


def _make_cwd(init: Init, path: str) -> None:
    try:
        os.close(rootfs.make_directory(init.target.root_fd, path))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS):  # chdir, as the user, has the last word
            raise


def _sysctl(init: Init, name: str, value: str) -> None:
    try:
        fd = sc.openat2(init.proc_fd, f"sys/{name}", os.O_WRONLY, resolve=sc.RESOLVE_BENEATH | sc.RESOLVE_NO_SYMLINKS)
        write_at_once(fd, value.encode())
        os.close(fd)
    except OSError as error:
        raise RootlessError.from_os(error, f"sysctl {name.replace('/', '.')}={value}", f"/proc/sys/{name}") from None


def _hide_bare_proc(init: Init) -> None:
    """Without pivot_root(2) the host's proc and sysfs stay below the root: in a user namespace of its own a program of
    the container could mount the like, without our masks. So they are taken away (as runc's msMoveRoot does)."""
    with open(os.open("self/mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=init.proc_fd), "rb") as file:
        lines = [line.split(b" ") for line in file]
    root = os.fsencode(os.readlink(f"self/fd/{init.target.root_fd}", dir_fd=init.proc_fd)).rstrip(b"/") + b"/"
    for fields in lines:
        path = fields[4].decode("unicode_escape").encode("latin-1")  # \040 for a blank: proc_pid_mountinfo(5)
        if fields[fields.index(b"-") + 1] not in (b"proc", b"sysfs") or path.startswith(root):
            continue
        try:
            sc.mount(None, path, None, sc.MS_SLAVE | sc.MS_REC)
            sc.umount2(path, sc.MNT_DETACH)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM):  # locked, as it came from another user namespace
                raise
            sc.mount("tmpfs", path, "tmpfs", sc.MS_RDONLY)


def _pivot_root(init: Init, propagation: int) -> None:
    mount.apply_late_readonly(init.target)
    os.fchdir(init.target.root_fd)
    if init.options["no_pivot"]:
        _hide_bare_proc(init)
        sc.mount(".", "/", None, sc.MS_MOVE)
        os.chroot(".")
    else:
        old_root = os.open("/", os.O_PATH | os.O_CLOEXEC) if propagation & sc.MS_SHARED else -1
        _exchange_roots()
        if old_root >= 0:
            os.fchdir(old_root)
            os.close(old_root)
            sc.mount(None, ".", None, sc.MS_SLAVE | sc.MS_REC)  # the host's peers keep what is unmounted here
        sc.umount2(".", sc.MNT_DETACH)
    os.chdir("/")
    os.close(init.target.root_fd)
    if propagation:
        sc.mount(None, "/", None, propagation)


def _exchange_roots() -> None:
    """Afterwards the old root lies on top of the new one: pivot_root(2), "."."""
    try:
        sc.pivot_root(".", ".")
    except OSError as error:
        hint = ""
        if error.errno == errno.EINVAL:  # pivot_root(2), NOTES: "the rootfs (initial ramfs) cannot be pivot_root()ed"
            hint = "the root here is the initramfs, which cannot be exchanged for another: --no-pivot"
        raise RootlessError.from_os(error, "pivot_root", "/root/path", hint) from None


def _chroot(init: Init, propagation: int) -> None:
    """Without a mount namespace there is no root to pivot from."""
    mount.apply_late_readonly(init.target)
    os.fchdir(init.target.root_fd)
    os.chroot(".")
    os.close(init.target.root_fd)
    if propagation:
        sc.mount(None, "/", None, propagation)


_STEPS: dict[str, Callable[..., None]] = {
    "propagation": _propagation,
    "rootfs": _rootfs,
    "private_parent": lambda _, path: rootfs.make_parent_private(path),
    "host_rootfs": lambda init, path: _rootfs(init, path, on_host=True),
    "mount": _mount,
    "device": _device,
    "outside_device": _outside_device,
    "plain_directory": _plain_directory,
    "link": _link,
    "make_cwd": _make_cwd,
    "hostname": lambda init, name: sc.sethostname(name),
    "domainname": lambda init, name: sc.setdomainname(name),
    "sysctl": _sysctl,
    "mask": lambda init, path, *context: masks.mask(init.target, path, *context),
    "readonly_path": lambda init, path: masks.make_readonly(init.target, path),
    "readonly_root": lambda init: sc.mount_setattr(init.target.root_fd, attr_set=sc.MOUNT_ATTR_RDONLY),
    "pivot_root": _pivot_root,
    "chroot": _chroot,
}


# --- the process's own attributes


def _settle(init: Init) -> None:
    plan = init.plan
    process = plan.process
    if init.console_slave >= 0:
        console.take_over(init.console_slave)
    if init.options["keyring"]:
        attributes.join_keyring(init.options["keyring"])
    attributes.apply_through_proc(process, init.proc_fd)
    # What follows looks up paths in the container: only sockets and what the caller passes on stay open.
    passed = program.passed_on(init.options["preserve_fds"])
    ours = [
        init.sync.fileno(),
        init.listener.fileno(),
        *([notify] if (notify := init.options["notify_fd"]) >= 0 else []),
    ]
    program.close_all_but([*ours, *passed])
    attributes.apply_process(
        process, init.last_cap, setgroups=init.options["setgroups"], filtered=bool(plan.seccomp), guarded=True
    )
    if init.options["foreground"]:
        attributes.die_with_parent()


def _dumpable_again(plan: Plan) -> None:
    """Hooks and clients open /proc/PID/ns/* of a created container; where others share the pid namespace, they
    might trace it (ptrace(2), PTRACE_MODE): there it stays closed until execve."""
    sc.prctl(sc.PR_SET_DUMPABLE, 1 if plan.namespaces.new & sc.CLONE_NEWPID else 0)


# --- start


def _leave(signum: int, _frame: Any) -> None:
    os._exit(128 + signum)


def _wait_for_start(init: Init, path: str) -> None:
    """Wait at the start socket, then run the program. Returns or raises only where that failed."""
    try:
        channel.send(init.sync, channel.CREATED)
    except OSError:  # the runtime was killed, maybe before `die_with_parent`
        return
    # From here on `create` has succeeded.
    try:
        init.sync.close()
    except OSError:
        pass  # it is closed all the same: close(2)
    fd, _ = init.listener._accept()  # type: ignore[attr-defined]
    verdict = type(init.listener)(fileno=fd)
    try:
        if init.options["notify_fd"] >= 0:
            channel.send(verdict, channel.NOTIFY, fds=(init.options["notify_fd"],))
            os.close(init.options["notify_fd"])
        channel.receive(verdict, channel.GO)
        process = init.plan.process
        hooks.run(init.plan.hooks, "startContainer", init.options["state"], "created", process["env"])
        program.execute(
            verdict,
            path,
            process,
            seccomp=init.options["seccomp"],
            preserve=init.options["preserve_fds"],
        )
    except BaseException as error:
        channel.send_failure(verdict, error, "start", "/process/args")
