"""Root at another user's states becomes that user: what a state says is then done with that user's rights alone.

A state names processes to kill, hooks to run, a cgroup to remove and a mount to undo. Whoever owns the directory wrote
it, so root that believed it would do what that user likes (`rootless --root DIR delete -f ID`, as Slurm calls it).
"""

from __future__ import annotations

import errno
import posix
import sys

from rootless import log
from rootless.errors import RootlessError, explain_permissions
from rootless.kernel import syscalls as sc
from rootless.startup import lean_os as os

_NOBODYS_GROUP = 65534
# What the user's programs may see of root's environment: a hook is one, and may be given all of it.
_KEPT = {"PATH", "LANG", "LANGUAGE", "TZ", "TERM", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES"}
_LIBRARIES = (
    "ast", "binascii", "collections", "ctypes", "difflib", "grp", "importlib.util", "json", "math", "pwd", "re",
    "select", "signal", "site", "socket", "subprocess", "termios", "traceback", "tty",
    "jeepney", "jeepney.io.blocking", "jeepney.wrappers", "oci.private", "oci.remove",
)  # fmt: skip


def become_owner(found: os.stat_result, path: str) -> None:
    """Become the user whom an open directory belongs to, for the rest of this command.

    found: what fstat(2) says of the descriptor, because the path may lead elsewhere by now. All that a command may
    import is imported first: the interpreter may lie where the user cannot read. Raises RootlessError where this
    process is not root, where the owner is unknown here, or where the ids cannot be changed.
    """
    uid = found.st_uid
    if os.geteuid() != 0:
        raise RootlessError(
            f"the state directory belongs to uid {uid}", path, errno.EPERM, "choose one of your own with --root"
        )
    _check_mapped(uid, path)
    name, gid, groups, home = _look_up(found)
    _import_all()
    try:
        sc.setgroups(groups)
        sc.setresgid(gid)
        sc.setresuid(uid)
        sc.capset(0, 0, 0)  # secure bits may have kept them: capabilities(7)
    except OSError as error:
        hint = "root may not change its ids here: run it as the owner"
        raise RootlessError.from_os(error, f"cannot become uid {uid}, to whom the states belong", path, hint) from None
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or sc.capget()[1]:
        raise RootlessError(f"cannot become uid {uid}, to whom the states belong", path, errno.EPERM)
    _change_environment(uid, name, home)
    # The id maps of children are ours to write only where we are dumpable, and a change of ids ends that: proc(5).
    sc.prctl(sc.PR_SET_DUMPABLE, 1)
    log.debug(f"{path} belongs to uid {uid}: from here on this command has uid {uid}, gid {gid} and groups {groups}")
    explain_permissions(f"the states in {path} belong to uid {uid}, so that this command is not root but that user")


def _check_mapped(uid: int, path: str) -> None:
    """Refuse an owner who does not exist in this user namespace: all of those show as one overflow id."""
    from rootless.kernel.host import Host

    host = Host()
    if not host.in_userns:
        return
    with open("/proc/sys/kernel/overflowuid", "rb") as file:
        overflow = int(file.read())
    if uid == overflow or not any(first <= uid < first + size for first, _, size in host.uid_map):
        raise RootlessError(
            "the state directory belongs to a user who is not mapped in this user namespace",
            path,
            errno.EPERM,
            "run it outside of the namespace, or choose another with --root",
        )
    if not host.setgroups:
        raise RootlessError(
            f"the state directory belongs to uid {uid}, whom this user namespace does not let root become",
            path,
            errno.EPERM,
            "its setgroups is denied: run it as the owner",
        )


def _look_up(found: os.stat_result) -> tuple[str, int, list[int], str]:
    """(name, gid, groups, home) of a directory's owner. Of a user without a name nothing is known but the directory's
    group, which a set-group-ID parent or a mount option may have chosen: it counts only as the user's private one."""
    import pwd

    uid = found.st_uid
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        gid = uid if found.st_gid == uid else _NOBODYS_GROUP
        return str(uid), gid, [], "/"
    return entry.pw_name, entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid), entry.pw_dir


def _import_all() -> None:
    """Import every module of the runtime, and what it imports only when it needs it."""
    packages = ["rootless"]
    while packages:
        package = packages.pop()
        _import(package)
        directory = sys.modules[package].__path__[0]
        for name in sorted(os.listdir(directory)):
            if name.endswith(".py") and not name.startswith("__"):
                _import(f"{package}.{name[:-3]}")
            elif os.path.exists(f"{directory}/{name}/__init__.py"):
                packages.append(f"{package}.{name}")
    for name in _LIBRARIES:
        _import(name)


def _import(name: str) -> None:
    try:
        __import__(name)
    except ImportError as error:  # a part that this installation lacks, which its own command says
        log.debug(f"{name}: {error}")
        sys.modules.pop(name, None)


def _change_environment(uid: int, name: str, home: str) -> None:
    """Replace root's environment by the user's, also in /proc/self/environ, which the user can read from now on."""
    kept = {key: value for key, value in os.environ.items() if key in _KEPT or key.startswith("LC_")}
    kept.update(HOME=home, USER=name, LOGNAME=name)
    runtime = f"/run/user/{uid}"
    try:
        if os.stat(runtime).st_uid == uid:
            kept["XDG_RUNTIME_DIR"] = runtime
    except OSError as error:
        log.debug(f"{runtime}: {error.strerror}")
    # By the real `os`, whose putenv(3) copies: the block itself is overwritten below. lean_os may have its own copy.
    for environ in (os.environ, sys.modules["os"].environ):
        environ.clear()
        environ.update(kept)
    posix.environ.clear()
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    sc.overwrite(int(fields[47]), int(fields[48]))  # env_start and env_end, fields 50 and 51: proc_pid_stat(5)
