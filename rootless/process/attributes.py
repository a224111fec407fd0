"""Set attributes of the calling process on its way to the program, in init and in `exec`."""

from __future__ import annotations

import errno
from _stat import S_ISBLK, S_ISCHR, S_ISREG
from fcntl import F_GETFL, fcntl
from struct import pack, unpack_from

from rootless.errors import RootlessError, advice
from rootless.kernel import syscalls as sc
from rootless.kernel.files import write_at
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import IdMap

# keyctl_setperm(3): the possessor everything, its user view, read, search and link
_KEYRING_PERMISSIONS = 0x3F1B0000
_NULL = os.makedev(1, 3)  # null(4)
_KILL = 9
_ACL = "system.posix_acl_access"
_OWNER, _USER, _GROUP, _MASK, _OTHER = 1, 2, 4, 16, 32  # linux/posix_acl.h


def join_keyring(name: str) -> None:
    """Join a new session keyring of that name, if the kernel allows it (session-keyring(7))."""
    try:
        # Let its user search the keyring, because `exec` finds it by its name.
        sc.keyctl(sc.KEYCTL_SETPERM, sc.join_session_keyring(name), _KEYRING_PERMISSIONS)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EDQUOT):
            raise


def keyring_of(proc_fd: int, process: str) -> str:
    """Return the session keyring's name of a container without a name: it holds the number of its mount namespace.

    Containers that share a user namespace, as those of root do, would find each other's keyring by a common name.
    """
    return f"_ses.rootless-{os.stat(f'{process}/ns/mnt', dir_fd=proc_fd).st_ino}"


def try_chdir(path: str) -> bool:
    """Enter the working directory as root of the container, and return whether that worked.

    As runc and crun do, it is tried before and after the change of ids, because the program's user may not be allowed
    to enter its cwd (`WORKDIR /root` with `USER 1000`), and root may not be allowed to enter a user's (NFS with
    root_squash, FUSE).
    """
    try:
        os.chdir(path)
    except OSError:
        return False
    return True


def become_root(uid_map: IdMap, gid_map: IdMap) -> None:
    """Become root of the user namespace with these maps; keep an id that has no 0 there. Raises OSError.

    The capabilities are kept, which the change of the user would remove otherwise (PR_SET_KEEPCAPS(2const)).
    """
    if any(first == 0 for first, _, _ in gid_map):
        sc.setresgid(0)
    if any(first == 0 for first, _, _ in uid_map):
        sc.prctl(sc.PR_SET_KEEPCAPS, 1)
        sc.setresuid(0)


def die_with_parent() -> None:
    """Have the kernel end this process by SIGKILL when its parent, the runtime in the foreground, has ended.

    The kernel forgets it when ids change or capabilities are gained (PR_SET_PDEATHSIG(2const)), so call it again after
    that. After each call look at the runtime's socket, because the runtime may have ended before it.
    """
    sc.prctl(sc.PR_SET_PDEATHSIG, _KILL)


def fuse_hint() -> str:
    """Return the hint for a root that not even stat(2) may look at, else "".

    A FUSE file system refuses all users but the one who mounted it (mount.fuse3(8), allow_other).
    """
    try:
        os.stat("/")
    except PermissionError:
        return "the rootfs is a FUSE file system of another user: mount it with the option allow_other"
    return ""


def make_null_writable(proc_fd: int) -> None:
    """Open /dev/null again for writing, because containerd's shim passes a read-only one as all three streams."""
    for fd in (1, 2):
        try:
            if fcntl(fd, F_GETFL) & os.O_ACCMODE == os.O_RDONLY and os.fstat(fd).st_rdev == _NULL:
                null = os.open(f"self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC, dir_fd=proc_fd)
                os.dup2(null, fd)
                os.close(null)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise


def own_stdio(uid: int, gid: int, *, lends: bool) -> None:
    """Let the program's user open /dev/stdout again: give it the standard streams, except for devices.

    lends: whether the files are an ordinary user's, who could neither read nor write them afterwards. Such a file stays
    the user's; the program's user may write it by an ACL (acl(5)). It gets the file where there are no ACLs. One that
    the program only reads stays as it is.
    """
    for fd in (0, 1, 2):
        try:
            status = os.fstat(fd)
            mode = status.st_mode
            if S_ISCHR(mode) or S_ISBLK(mode) or status.st_uid == uid:
                continue
            if lends and S_ISREG(mode) and (_is_read_only(fd) or _lend(fd, uid, mode)):
                continue
            os.fchown(fd, uid, gid)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.EPERM, errno.EINVAL, errno.EROFS):
                raise


def _is_read_only(fd: int) -> bool:
    return bool(fcntl(fd, F_GETFL) & os.O_ACCMODE == os.O_RDONLY)


def _lend(fd: int, uid: int, mode: int) -> bool:
    """Let a user read and write a file by its ACL; return whether that worked (acl(5), linux/posix_acl_xattr.h)."""
    nobody = 0xFFFFFFFF
    try:
        old = os.getxattr(fd, _ACL)
    except OSError:  # ENODATA, or a file system without ACLs
        old = b""
    found = [unpack_from("<HHI", old, place) for place in range(4, len(old) - 7, 8)]
    rights = {(tag, who): bits for tag, bits, who in found}
    if not rights:
        rights = {(_OWNER, nobody): mode >> 6 & 7, (_GROUP, nobody): mode >> 3 & 7, (_OTHER, nobody): mode & 7}
    mask = rights.get((_MASK, nobody), 7)
    if mask & 6 != 6:  # a wider mask would give other users more, too
        return False
    rights[_MASK, nobody] = mask if found else rights[_GROUP, nobody] | 6
    rights[_USER, uid] = 6
    entries = [pack("<HHI", tag, bits, who) for (tag, who), bits in sorted(rights.items())]
    try:
        os.setxattr(fd, _ACL, pack("<I", 2) + b"".join(entries))
    except OSError:
        return False
    return True


def write_oom_score(proc_fd: int, value: int, who: str = "self") -> None:
    """Write oom_score_adj of process `who`, through an fd of the host's /proc. Raises RootlessError."""
    try:
        write_at(proc_fd, f"{who}/oom_score_adj", b"%d" % value)
    except OSError as error:
        raise RootlessError.from_os(
            error, f"set oom_score_adj to {value}", "/process/oomScoreAdj", advice("oom-score")
        ) from None
