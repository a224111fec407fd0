"""Compile the filter of root emulation, and start the supervisor that answers its notifications."""

from __future__ import annotations

import errno
import gc
import os
import signal
from typing import TYPE_CHECKING

from rootless import log
from rootless.errors import RootlessError
from rootless.kernel import channel, child, proc
from rootless.kernel import syscalls as sc
from rootless.process import program

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.process.seccomp_names import Profile

_HINT = "--no-root-emulation"
_NAMESPACES = ("user", "mnt")  # names below /proc/PID/ns


def prepare(profile: Profile, ids: tuple[int, int], *, is_asked: bool) -> Callable[[Any], None] | None:
    """Compile the filter; return what loads it, and sends its listener over the socket as channel.EMULATED.

    ids: (uid, gid) of the program. Without libseccomp return None unless the caller has asked for the emulation. Raises
    RootlessError.
    """
    from rootless.process.seccomp import compile_profile, load_flags

    try:
        bpf = compile_profile(profile)
    except RootlessError as error:
        if is_asked:
            error.what = f"root emulation: {error.what}"
            error.hint = f"{error.hint}; or {_HINT}" if error.hint else _HINT
            raise
        log.debug(f"no root emulation: {error}")
        return None
    flags = load_flags(profile)

    def load(waiting: Any) -> None:
        try:
            fd = sc.seccomp_load(bpf, flags)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            hint = f"--root-emulation=errno, or {_HINT}"
            what = "another supervisor listens to this process already"
            raise RootlessError(what, "root emulation", hint=hint) from None
        if profile["notify"]:
            channel.send(waiting, channel.EMULATED, b"%d %d" % ids, fds=(fd,))
            os.close(fd)  # so only the supervisor has it: if that is killed, calls fail in place of waiting for ever

    return load


def start_supervisor(listener: int, pid: int, ids: bytes) -> tuple[int, int]:
    """Start a supervisor as a child of this process; close the listener here. Return (its pid, its start time).

    pid: init of the container; ids: its `UID GID`, as `prepare` sends them. Raises RootlessError.
    """
    proc_fd = proc.open_proc()
    try:

        def live() -> None:
            uid, gid = map(int, ids.split())
            supervise(listener, proc_fd, uid, gid, init=pid)

        try:
            supervisor, pidfd = child.clone(0, live)
        except OSError as error:
            raise RootlessError.from_os(error, "cannot start the supervisor of root emulation") from None
        os.close(pidfd)
        return supervisor, proc.start_time(supervisor)
    finally:
        os.close(proc_fd)
        os.close(listener)


def enter_namespace(proc_fd: int, pid: int) -> int:
    """Enter a process's user namespace, whose root may use what the container's root may.

    Return an fd of its mount namespace. Raises OSError.
    """
    try:
        fd, mounts = (os.open(f"{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd) for kind in _NAMESPACES)
    except FileNotFoundError:
        os._exit(0)  # the process has ended already
    try:
        sc.setgroups([])  # root's groups are not the container's
    except OSError:
        pass  # an ordinary user's are those of the container, too
    own = os.stat("self/ns/user", dir_fd=proc_fd)
    theirs = os.fstat(fd)
    if (own.st_dev, own.st_ino) != (theirs.st_dev, theirs.st_ino):
        sc.setns(fd, sc.CLONE_NEWUSER)
    os.close(fd)
    return mounts


def leave_mounts(proc_fd: int, mounts: int) -> int:
    """Leave the host's mounts for the container's, and return an fd of a /proc that is attached to none of them.

    The supervisor works in a directory of the host's /proc. Where the container has that /proc, too, as a volume or
    with the host's pid namespace, /proc/self/cwd/../.. would lead it from there to the root of the host. From a /proc
    that is attached nowhere `..` leads nowhere. A container in the host's mount namespace could reach all that itself.
    Raises OSError.
    """
    try:
        own, theirs = os.stat("self/ns/mnt", dir_fd=proc_fd), os.fstat(mounts)
        if (own.st_dev, own.st_ino) == (theirs.st_dev, theirs.st_ino):
            return proc_fd
        sc.unshare(sc.CLONE_NEWNS)  # this process may copy mounts only of a mount namespace of its user namespace's
        own_proc = proc.open_proc()
        copy = sc.open_tree(own_proc, b"", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE | sc.AT_RECURSIVE)
        os.close(own_proc)
        sc.setns(mounts, sc.CLONE_NEWNS)
        return copy
    finally:
        os.close(mounts)


def become_root_of_namespace(proc_fd: int, uid: int, gid: int) -> None:
    """Become root of the user namespace that this process has entered, or the program's user if it has no root.

    Root of the host stays itself in setns(2). Then the container could make files, by mknod, that belong to root of the
    host, and change attributes of root's files below a volume. Raises OSError.
    """
    for name, become, program_id in (("gid", sc.setresgid, gid), ("uid", sc.setresuid, uid)):
        fd = os.open(f"self/{name}_map", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)
        first_ids = [line.split()[0] for line in os.read(fd, 1 << 16).splitlines()]
        os.close(fd)
        become(0 if b"0" in first_ids else program_id)


def supervise(listener: int, proc_fd: int, uid: int, gid: int, *, init: int = 0) -> None:
    """Serve as the supervisor until no process has the filter any more.

    init: the process whose namespaces are entered first, 0 if this process is in them.
    """
    from rootless.emulation.identity import Identity
    from rootless.emulation.processes import Processes
    from rootless.emulation.supervisor import serve

    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    program.forget_imports()  # from here on a path may be the container's
    sc.prctl(sc.PR_SET_DUMPABLE, 0)  # no process of the container may trace this one: ptrace(2)
    if init:
        try:
            mounts = enter_namespace(proc_fd, init)
            proc_fd = leave_mounts(proc_fd, mounts)
            become_root_of_namespace(proc_fd, uid, gid)
        except (OSError, RootlessError) as error:
            log.error(f"root emulation has no supervisor: {error}")
            os._exit(1)
    sc.name_process(b"rootless:root")
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(signum, signal.SIG_IGN)  # the terminal sends them to the program, too
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.setsid()
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    program.close_all_but([listener, proc_fd, log.descriptor()])
    os.umask(0)
    gc.enable()  # bin/rootless has switched it off for short commands, but this process may live long
    try:
        serve(listener, Processes(listener, proc_fd, Identity((uid,) * 4, (gid,) * 4)))
    except Exception as error:
        log.error(f"the supervisor of root emulation has ended: {type(error).__name__}: {error}")
        log.trace(error)
