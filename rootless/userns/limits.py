"""Find out why the kernel makes no namespace: which limit is reached, or whether it is too old (namespaces(7))."""

from __future__ import annotations

import errno
import os

from rootless.kernel import syscalls as sc

_KINDS = {
    "user": 0,
    "mnt": sc.CLONE_NEWNS,
    "pid": sc.CLONE_NEWPID,
    "net": sc.CLONE_NEWNET,
    "ipc": sc.CLONE_NEWIPC,
    "uts": sc.CLONE_NEWUTS,
    "cgroup": sc.CLONE_NEWCGROUP,
    "time": sc.CLONE_NEWTIME,
}


def reached(proc_sys: str = "/proc/sys") -> str:
    """Return the kind of namespace whose limit is reached, in the word of its sysctl: user, mnt, pid, net and so on.

    A limit of zero is reached without doubt. The count of the namespaces cannot be read, and the limits of the outer
    user namespaces count too, so otherwise each kind is made once, in a child that ends at once.
    """
    for kind in _KINDS:
        if _is_zero(kind, proc_sys):
            return kind
    return next((kind for kind, flag in _KINDS.items() if _is_full(sc.CLONE_NEWUSER | flag)), "user")


def all_reached(*, root: bool) -> list[str]:
    """Return the kinds of namespaces of which a container can have none, [] for none, or if no limit can be read.

    root: whether this is root, who makes namespaces without a user namespace around them.
    """
    within = 0 if root else sc.CLONE_NEWUSER
    if not root and user_is_full():  # then no other kind can be tried
        return ["user", *(kind for kind in _KINDS if kind != "user" and _is_zero(kind, "/proc/sys"))]
    return [kind for kind, flag in _KINDS.items() if flag and (_is_zero(kind, "/proc/sys") or _is_full(within | flag))]


def user_is_full() -> bool:
    """Return whether no user namespace can be made, because the limit is reached."""
    return _is_zero("user", "/proc/sys") or _is_full(sc.CLONE_NEWUSER)


def _is_zero(kind: str, proc_sys: str) -> bool:
    try:
        with open(f"{proc_sys}/user/max_{kind}_namespaces") as file:
            return file.read().strip() == "0"
    except OSError:
        return False


def _is_full(flags: int) -> bool:
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            sc.unshare(flags)
        except OSError as error:
            code = error.errno == errno.ENOSPC
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] != 0


def is_old() -> bool:
    """Return whether the kernel is older than 5.12, which the runtime needs."""
    numbers = [int(digits) if digits.isdigit() else 0 for digits in os.uname().release.split("-")[0].split(".")[:2]]
    return numbers < [5, 12]
