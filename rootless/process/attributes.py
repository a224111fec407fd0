"""The process's own attributes, on the way to the program: the same for the first process and for `exec`."""

from __future__ import annotations

import errno
from _stat import S_ISBLK, S_ISCHR
from fcntl import F_GETFL, fcntl

from rootless.errors import RootlessError
from rootless.kernel import caps
from rootless.kernel import syscalls as sc
from rootless.kernel.files import write_at_once
from rootless.process import program, rlimits
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# keyctl_setperm(3): the possessor everything, its user view, read, search and link
_KEYRING_PERMISSIONS = 0x3F1B0000
_NULL = os.makedev(1, 3)  # null(4)
_KILL = 9


def join_keyring(name: str) -> None:
    """A session keyring of that name, where there can be one: session-keyring(7)."""
    try:
        # Its own user may search it: that is how `exec` finds it by name.
        sc.keyctl(sc.KEYCTL_SETPERM, sc.join_session_keyring(name), _KEYRING_PERMISSIONS)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EDQUOT):
            raise


def apply_through_proc(process: dict[str, Any], proc_fd: int) -> None:
    """Apply what is written through the host's /proc: OOM score and LSM labels.

    Afterwards that fd is to be closed (program.close_all_but): `apply_process` looks up paths of the container's.
    """
    _write_to_null(proc_fd)
    if process["oom_score_adj"] is not None:
        write_oom_score(proc_fd, process["oom_score_adj"])
    if process["labels"]:
        from rootless.process import lsm  # `exec_labels` has loaded it in R

        for kind, label in process["labels"]:
            lsm.apply_exec_label(proc_fd, kind, label, no_new_privs=process["no_new_privs"])


def apply_process(
    process: dict[str, Any], last_cap: int, *, setgroups: bool, filtered: bool, guarded: bool = False
) -> None:
    """Apply rlimits, ids, cwd, capabilities and no_new_privs: the same order for the first process and for `exec`.

    Afterwards this process is what config.json says, but for the filter. guarded: it keeps a capability that no
    process of the container can get, see caps.guard. Raises OSError and RootlessError.
    """
    if process["attributes"]:
        from rootless.process import scheduler  # R's reader has loaded it already

        for name, arguments in process["attributes"]:
            getattr(scheduler, f"apply_{name}")(*arguments)
    rlimits.apply_rlimits(process["rlimits"])
    program.set_home(process)
    sets = process["caps"]
    caps.apply_bounding(sets["bounding"], last_cap)
    if process["uid"]:
        _own_stdio(process["uid"], process["gid"])
    if setgroups and not process["keep_groups"]:
        process["left_groups"] = os.getgroups()  # for the hint where one of them is missed
        sc.setgroups(process["groups"])
    entered = _enter(process["cwd"])
    sc.prctl(sc.PR_SET_KEEPCAPS, 1)
    sc.setresgid(process["gid"])
    sc.setresuid(process["uid"])
    os.umask(process["umask"])
    if not entered:
        try:
            os.chdir(process["cwd"])
        except OSError as error:
            what = f'chdir to cwd ("{process["cwd"]}") set in config.json failed'
            hint = _fuse_hint() or program.group_hint(process["cwd"], process)
            raise RootlessError.from_os(error, what, hint=hint) from None
    keep = 1 << 21 if filtered and not process["no_new_privs"] else 0  # CAP_SYS_ADMIN, for seccomp(2)
    caps.apply_capabilities(sets, keep, caps.guard(sets) if guarded else 0)
    if process["no_new_privs"]:
        sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)


def _enter(path: str) -> bool:
    """Enter the working directory as root of the container, and return whether that worked.

    As in runc and crun it is tried before and after the change of ids: the program's user need not be let into its own
    cwd (`WORKDIR /root` with `USER 1000`), and root not into a user's (NFS with root_squash, FUSE).
    """
    try:
        os.chdir(path)
    except OSError:
        return False
    return True


def die_with_parent() -> None:
    """Have the kernel end this process by SIGKILL when its parent, the runtime in the foreground, has ended.

    The kernel forgets it when ids change or capabilities are gained (PR_SET_PDEATHSIG(2const)): call it again after
    that. Who calls it looks at the runtime's socket next, because the runtime may have ended before.
    """
    sc.prctl(sc.PR_SET_PDEATHSIG, _KILL)


def _fuse_hint() -> str:
    """Where even stat(2) of the root is refused: FUSE answers nobody but the user who mounted it, mount.fuse3(8)."""
    try:
        os.stat("/")
    except PermissionError:
        return "the rootfs is a FUSE file system of another user: mount it with the option allow_other"
    return ""


def _write_to_null(proc_fd: int) -> None:
    """containerd's shim opens /dev/null for reading and passes it as all three streams: they are to be written to."""
    for fd in (1, 2):
        try:
            if fcntl(fd, F_GETFL) & os.O_ACCMODE == os.O_RDONLY and os.fstat(fd).st_rdev == _NULL:
                null = os.open(f"self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC, dir_fd=proc_fd)
                os.dup2(null, fd)
                os.close(null)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise


def _own_stdio(uid: int, gid: int) -> None:
    """The program's user gets its standard streams, so that it can open /dev/stdout again; devices are left alone."""
    for fd in (0, 1, 2):
        try:
            mode = os.fstat(fd).st_mode
            if not (S_ISCHR(mode) or S_ISBLK(mode)):
                os.fchown(fd, uid, gid)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.EPERM, errno.EINVAL, errno.EROFS):
                raise


def write_oom_score(proc_fd: int, value: int, who: str = "self") -> None:
    """A process's oom_score_adj, this one's if none is named. Raises RootlessError."""
    try:
        fd = os.open(f"{who}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc_fd)
        write_at_once(fd, b"%d" % value)
        os.close(fd)
    except OSError as error:
        raise RootlessError.from_os(
            error, f"set oom_score_adj to {value}", "/process/oomScoreAdj", "an ordinary user can only raise it"
        ) from None
