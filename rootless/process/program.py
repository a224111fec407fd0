"""Find the program in the container's PATH as the container's user, and prepare this process to become it."""

from __future__ import annotations

import errno
import fcntl
import sys
from _frozen_importlib import BuiltinImporter, FrozenImporter
from _signal import SIG_DFL, SIG_SETMASK, getsignal, pthread_sigmask, signal  # type: ignore[import-not-found]
from _stat import S_ISDIR, S_ISREG

from rootless.errors import RootlessError, advice
from rootless.kernel import syscalls as sc
from rootless.kernel.find_program import search
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, NoReturn

    from rootless.process.seccomp_names import Profile

_LAST_SIGNAL = 65
_ST_NOEXEC = 8  # statvfs(3)
_NOFILE = 7  # RLIMIT_NOFILE (getrlimit(2))
_OVERFLOW = 65534  # /proc/sys/kernel/overflowgid
_PASSWD_LIMIT = 1 << 20  # bytes to read of the image's /etc/passwd


def look_up(name: str, env: list[str], left_groups: list[int]) -> str:
    """Return the path of args[0]. Raises RootlessError in runc's words, which clients map to 127 and 126.

    left_groups: the supplementary groups of the caller that this process has given up.
    """
    if "/" in name:
        try:
            status = os.stat(name)
        except OSError as error:
            hint = ""
            if error.errno == errno.EACCES:
                hint = _closed_root() or group_hint(name, left_groups) or closed_directory(name)
            raise RootlessError(f'exec: "{name}": stat {name}', "/process/args/0", error.errno or 0, hint) from None
        _check_executable(name, status, left_groups)
        return name
    path = next((entry[5:] for entry in env if entry.startswith("PATH=")), "")
    path_found, out_of_reach, not_executable = search(name, path)
    if path_found:
        return path_found
    if out_of_reach and (hint := _closed_root()):
        raise RootlessError(f'exec: "{name}"', out_of_reach[0], errno.EACCES, hint)
    hint = next(filter(None, (group_hint(p, left_groups) or closed_directory(p) for p in out_of_reach)), "")
    if not_executable:
        denied = not_executable[-1]
        hint = group_hint(denied, left_groups) or _noexec(denied) or advice("none-executable")
        raise RootlessError(f'exec: "{name}"', denied, errno.EACCES, hint)
    raise RootlessError(f'exec: "{name}": executable file not found in $PATH', "/process/args/0", hint=hint)


def _check_executable(name: str, status: os.stat_result, left_groups: list[int]) -> None:
    if S_ISDIR(status.st_mode):
        raise RootlessError(f'exec: "{name}": is a directory: permission denied', "/process/args/0", errno.EISDIR)
    if not os.access(name, os.X_OK, effective_ids=True):
        hint = group_hint(name, left_groups) or _noexec(name) or advice("not-executable")
        raise RootlessError(f'exec: "{name}"', "/process/args/0", errno.EACCES, hint)


def _noexec(path: str) -> str:
    """Return the hint for a file on a file system that is mounted noexec, whatever its mode is (mount(8)), else ""."""
    return advice("noexec", path=path) if os.statvfs(path).f_flag & _ST_NOEXEC else ""


def closed_directory(path: str) -> str:
    """Return the hint that names the first directory on the way to a path that this process may not enter, else ""."""
    way = ""
    for part in path.strip("/").split("/"):
        try:
            os.stat(f"{way}/.")
            os.stat(f"{way}/{part}")
        except PermissionError:
            return advice("closed-directory", path=way) if way else advice("closed-rootfs")
        except OSError:
            return ""
        way += f"/{part}"
    return ""


def _closed_root() -> str:
    """Return the hint for a root directory that this process may not look at, else "".

    The change of directory does not tell, because the container's root has made it before the ids changed.
    """
    from rootless.process.attributes import fuse_hint  # loaded with the steps, whatever the root is now

    return fuse_hint()


def group_hint(path: str, left_groups: list[int]) -> str:
    """Return the hint for EACCES if one of the caller's supplementary groups may open the path, else "".

    With a range of ids the program has only the groups of config.json. Files of the caller's groups then show the
    overflow gid, because these groups have no number in the container (user_namespaces(7)).
    """
    if _OVERFLOW not in left_groups:
        return ""
    closed, way = "/", ""
    for part in path.strip("/").split("/"):
        way += f"/{part}"
        try:
            os.stat(way)
        except PermissionError:
            break
        except OSError:
            return ""
        closed = way
    mode = os.stat(closed)
    if mode.st_gid != _OVERFLOW or not mode.st_mode & 0o010 or mode.st_mode & 0o001:
        return ""
    return (
        f"{closed} is open to a group of the caller's, which the program does not have: "
        "podman's --group-add keep-groups, or the annotation run.oci.keep_original_groups=1"
    )


def prepare_seccomp(profile: Profile | None) -> Callable[[socket], None] | None:
    """Return what loads a profile's filter (process/seccomp.py), None without a profile. Raises RootlessError."""
    if not profile:
        return None
    from rootless.process.seccomp import prepare

    return prepare(profile)


def forget_imports() -> None:
    """Stop imports from files, because the root has changed and a module would come from the container."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder in (BuiltinImporter, FrozenImporter)]


def check_cwd() -> None:
    """Refuse a working directory outside of the root, such as a leaked fd of the host (CVE-2024-21626, getcwd(3))."""
    try:
        inside = os.getcwd().startswith("/")
    except OSError:
        inside = False
    if not inside:
        raise RootlessError("the working directory is outside the container's root", "/process/cwd")


def set_home(env: list[str], uid: int) -> None:
    """Add HOME from the container's passwd if it is unset, "/" for a user that passwd lacks. Call it in the root."""
    if not any(entry.startswith("HOME=") and entry != "HOME=" for entry in env):
        env[:] = [entry for entry in env if entry != "HOME="]
        env.append(f"HOME={_home_of(uid)}")


def _home_of(uid: int) -> str:
    try:
        fd = os.open("/etc/passwd", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:  # the image may have anything there, but a lack of memory or descriptors is an error
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return "/"
    try:
        if not S_ISREG(os.fstat(fd).st_mode):
            return "/"
        data = os.read(fd, _PASSWD_LIMIT)
    except OSError:
        return "/"
    finally:
        os.close(fd)
    for line in data.split(b"\n"):
        fields = line.split(b":")
        if len(fields) >= 6 and fields[2] == b"%d" % uid and b"\0" not in fields[5]:
            return os.fsdecode(fields[5]) or "/"
    return "/"


def exec_hint(path: str, error: OSError, *, labelled: bool) -> str:
    """Return why execve failed if its errno misleads: ENOENT may also mean a missing interpreter.

    labelled: whether SELinux was asked for a label while no_new_privs is set.
    """
    if error.errno == errno.EPERM and labelled:
        return "with noNewPrivileges the SELinux policy has to allow process2 nnp_transition to the label"
    try:
        if not S_ISREG(os.stat(path).st_mode):
            return "it is not a regular file"
        # Without O_NONBLOCK, open(2) would wait for ever for the writer of a FIFO that has taken its place meanwhile.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        head = os.read(fd, 256)
    except OSError:
        return ""
    finally:
        os.close(fd)
    if error.errno == errno.ENOENT:
        if head.startswith(b"#!"):
            words = head[2:].split()
            name = words[0].decode("utf-8", "replace") if words else ""
            return f"the interpreter of its first line is missing in the rootfs: {name}"
        return "the file is there, so its ELF interpreter (the dynamic loader, ld-linux) is missing in the rootfs"
    if error.errno == errno.ENOEXEC:
        if head.startswith(b"\x7fELF"):
            return "it is a program for another architecture"
        return "it is neither an ELF program nor a script with a #! line"
    return ""


def become(
    path: str,
    args: list[Any],
    env: Mapping[Any, Any],
    *,
    keep: Iterable[int] = (),
    last: Callable[[], None] | None = None,
    search: bool = False,
) -> NoReturn:
    """Turn this process into another program, which gets fds 0, 1, 2 and those in `keep`, and no others.

    Every execve of ours goes through here, because execve(2) looks up the path, the `#!` line and the ELF interpreter
    before it closes fds that are close-on-exec: an image's link to /proc/self/fd/N/.. would lead to the host through
    any directory that is still open (CVE-2024-21626). A caller that looks up a path of the container before this call
    must call `close_all_but` first. keep: must hold no directory of ours; last: called directly before execve; search:
    look for the path in $PATH. Raises OSError with a file name if execve fails.
    """
    close_all_but(keep)
    restore_signals()
    if last:
        last()
    if search:  # `unshare` asks for it, on the host
        from os import execvpe

        execvpe(path, args, env)
    os.execve(path, args, env)
    raise AssertionError  # execve does not return


def close_all_but(keep: Iterable[int] = ()) -> None:
    """Close all fds but 0, 1, 2 and those in `keep`."""
    first = 3
    for fd in sorted(keep):
        if fd > first:
            sc.close_range(first, fd - 1)
        first = max(first, fd + 1)
    sc.close_range(first)


def move_up(fd: int, first: int) -> int:
    """Return the close-on-exec fd if it is `first` or higher, above all numbers of pass_fds; else a copy that is.

    Raises RootlessError.
    """
    if fd >= first:  # a process that may have few descriptors has no room for a second one of each
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, first)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EMFILE):
            raise
        limit = sc.prlimit(_NOFILE)[0]
        what = f"pass_fds: no descriptor above {first - 1} is left below the limit of open files, {limit}"
        hint = f'pass a lower number, or raise the limit: ulimits={{"nofile": {first + 64}}}, or this process\'s own'
        raise RootlessError(what, "/process/rlimits", hint=hint) from None


def check_passed(preserve: int) -> None:
    """Raise RootlessError for the first of the fds 3 to 3+preserve-1 that the runtime's caller has not passed.

    It is called before anything is made. It ends at the first fd, so it is quick also for a number without sense.
    """
    for fd in range(3, 3 + preserve):
        if not _is_inheritable(fd):
            raise RootlessError(f"fd {fd} of --preserve-fds is not open", errno=errno.EBADF)


def passed_on(preserve: int) -> list[int]:
    """Return those of the fds 3 to 3+preserve-1 that the runtime's caller has passed.

    They came through an execve, so they are not close-on-exec. An fd that is close-on-exec is one of ours, which got a
    free number.
    """
    return [fd for fd in range(3, 3 + preserve) if _is_inheritable(fd)]


def all_passed_on() -> list[int]:
    """Return every fd above 2 that the runtime's caller has passed, [] if there is no /proc to list them."""
    try:
        names = os.listdir("/proc/self/fd")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    return [int(name) for name in names if int(name) > 2 and _is_inheritable(int(name))]


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except (OSError, OverflowError):  # EBADF: not open; a number that is not an int of C
        return False


def restore_signals() -> None:
    """Restore default signal handlers and an empty mask."""
    restore_handlers()
    pthread_sigmask(SIG_SETMASK, [])


def restore_handlers() -> None:
    """Restore default signal handlers. execve(2) keeps ignored signals, and CPython ignores two."""
    for signum in range(1, _LAST_SIGNAL):
        try:
            if getsignal(signum) != SIG_DFL:
                signal(signum, SIG_DFL)
        except (OSError, ValueError):
            continue  # KILL, STOP and the C library's own
