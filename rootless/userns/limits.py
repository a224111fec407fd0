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
        try:
            with open(f"{proc_sys}/user/max_{kind}_namespaces") as file:
                if file.read().strip() == "0":
                    return kind
        except OSError:
            continue
    return next((kind for kind, flag in _KINDS.items() if _is_full(flag)), "user")


def _is_full(flag: int) -> bool:
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            sc.unshare(sc.CLONE_NEWUSER | flag)
        except OSError as error:
            code = error.errno == errno.ENOSPC
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] != 0


def is_old() -> bool:
    """Return whether the kernel is older than 5.12, which the runtime needs."""
    numbers = [int(digits) if digits.isdigit() else 0 for digits in os.uname().release.split("-")[0].split(".")[:2]]
    return numbers < [5, 12]
