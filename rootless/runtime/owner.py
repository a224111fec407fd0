"""Let root become the owner of a state root before it uses the states in it.

A state names processes to kill, hooks to run, a cgroup to remove and a mount to undo. The owner of the directory has
written it. If root obeyed it with its own privileges, that user could do anything (`rootless --root DIR delete -f ID`,
as Slurm calls it). So the command continues with the privileges of that user.
"""

from __future__ import annotations

import errno
import posix
import sys

from rootless import log
from rootless.errors import RootlessError, advice, explain_permissions
from rootless.kernel import syscalls as sc
from rootless.startup import lean_os as os

_NOBODYS_GROUP = 65534
# The variables of root's environment that the user may see, because a hook can get the whole environment.
_KEPT = {"PATH", "LANG", "LANGUAGE", "TZ", "TERM", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES"}
_LIBRARIES = (
    "ast", "binascii", "collections", "ctypes", "difflib", "grp", "importlib.util", "json", "math", "pwd", "re",
    "select", "signal", "site", "socket", "subprocess", "termios", "traceback", "tty",
    "jeepney", "jeepney.io.blocking", "jeepney.wrappers", "oci.private", "oci.remove",
)  # fmt: skip


def become_owner(status: os.stat_result, path: str) -> None:
    """Become the owner of an open directory, for the rest of this command.

    status: the result of fstat(2) on the directory, because the path may lead to another one by now. All modules are
    imported first, because the user may not be able to read the interpreter's files. Raises RootlessError if this
    process is not root, if the owner is not mapped in this user namespace, or if the ids cannot be changed.
    """
    uid = status.st_uid
    if os.geteuid() != 0:
        raise RootlessError(f"the state directory belongs to uid {uid}", path, errno.EPERM, advice("own-state-root"))
    _check_mapped(uid, path)
    name, gid, groups, home = _look_up(status)
    _import_all()
    try:
        sc.setgroups(groups)
        sc.setresgid(gid)
        sc.setresuid(uid)
        sc.capset(0, 0, 0)  # the capabilities survive if the secure bits say so: capabilities(7)
    except OSError as error:
        hint = advice("root-without-setuid")
        raise RootlessError.from_os(
            error, f"cannot become uid {uid}, who owns the state directory", path, hint
        ) from None
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or sc.capget()[1]:
        raise RootlessError(f"cannot become uid {uid}, who owns the state directory", path, errno.EPERM)
    _change_environment(uid, name, home)
    # A change of ids makes a process undumpable. Then it may not write the id maps of its children (proc(5)).
    sc.prctl(sc.PR_SET_DUMPABLE, 1)
    log.debug(f"{path} belongs to uid {uid}: from here on this command has uid {uid}, gid {gid} and groups {groups}")
    explain_permissions(f"the states in {path} belong to uid {uid}, so that this command is not root but that user")


def _check_mapped(uid: int, path: str) -> None:
    """Refuse an owner who is not mapped in this user namespace, because all such owners have the same overflow id."""
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
            advice("owner-not-mapped"),
        )
    if not host.setgroups:
        raise RootlessError(
            f"the state directory belongs to uid {uid}, whom this user namespace does not let root become",
            path,
            errno.EPERM,
            advice("setgroups-denied"),
        )


def _look_up(status: os.stat_result) -> tuple[str, int, list[int], str]:
    """Return (name, gid, groups, home) of a directory's owner.

    For a user without an entry in passwd only the directory's group is known. It is used only if its id is the user's,
    because a set-group-ID parent or a mount option may have chosen another one.
    """
    import pwd

    uid = status.st_uid
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        gid = uid if status.st_gid == uid else _NOBODYS_GROUP
        return str(uid), gid, [], "/"
    return entry.pw_name, entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid), entry.pw_dir


def _import_all() -> None:
    """Import every module of the runtime, and all libraries that they import later."""
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
    except ImportError as error:  # an optional part is not installed; the command that needs it says so
        log.debug(f"{name}: {error}")
        sys.modules.pop(name, None)


def _change_environment(uid: int, name: str, home: str) -> None:
    """Replace root's environment by the user's, also in /proc/self/environ, because the user can read that now."""
    kept = {key: value for key, value in os.environ.items() if key in _KEPT or key.startswith("LC_")}
    kept.update(HOME=home, USER=name, LOGNAME=name)
    runtime = f"/run/user/{uid}"
    try:
        if os.stat(runtime).st_uid == uid:
            kept["XDG_RUNTIME_DIR"] = runtime
    except OSError as error:
        log.debug(f"{runtime}: {error.strerror}")
    # Both `os` and lean_os may hold an environment. putenv(3) only adds copies, so the original block is overwritten.
    for environ in (os.environ, sys.modules["os"].environ):
        environ.clear()
        environ.update(kept)
    posix.environ.clear()
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    first, last = map(int, fields[47:49])  # env_start and env_end, fields 50 and 51: proc_pid_stat(5)
    sc.write_memory(first, bytes(last - first))
