"""Make the seccomp filters of root emulation, as profiles that libseccomp compiles (process/seccomp.py). Pure."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from rootless.kernel import syscalls as sc
from rootless.process.seccomp_names import ACTIONS, OPERATORS

if TYPE_CHECKING:
    from rootless.process.seccomp_names import Profile, Rule

_SUCCESS = ACTIONS["SCMP_ACT_ERRNO"]  # with errno 0: the call returns 0, and does nothing
_NOTIFY = ACTIONS["SCMP_ACT_NOTIFY"]
_EQUAL, _NOT_EQUAL = OPERATORS["SCMP_CMP_EQ"], OPERATORS["SCMP_CMP_NE"]
_MASKED_EQUAL = OPERATORS["SCMP_CMP_MASKED_EQ"]
RLIMIT_LOCKS = 10  # asm-generic/resource.h
_FORMAT = stat.S_IFMT(0xFFFF)  # the bits of a mode that hold the type (inode(7))

_OWNERS = ("chown", "lchown", "fchown", "fchownat", "chown32", "lchown32", "fchown32")
_SET_IDS = (
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups",
    "setuid32", "setgid32", "setreuid32", "setregid32", "setresuid32", "setresgid32", "setfsuid32", "setfsgid32",
    "setgroups32",
)  # fmt: skip
_GET_IDS = (
    "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups",
    "getuid32", "geteuid32", "getgid32", "getegid32", "getresuid32", "getresgid32", "getgroups32",
)  # fmt: skip
_STATS = ("stat", "lstat", "fstat", "newfstatat", "stat64", "lstat64", "fstat64", "fstatat64", "statx")
_ROOTS = ("chroot", "pivot_root", "setns")  # the supervisor has to look up a process's root again after these
_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64"],
}


def emulation_profile(mode: str, machine: str, *, kernel: tuple[int, int]) -> Profile:
    """Return the profile of a mode: `errno` or `notify`. kernel: the version of this kernel."""
    action = _NOTIFY if mode == "notify" else _SUCCESS
    rules: list[Rule] = [((*_OWNERS, *_SET_IDS, "capset"), action, ())]
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        rules.append((("mknod",), action, ((1, _MASKED_EQUAL, _FORMAT, kind),)))
        rules.append((("mknodat",), action, ((2, _MASKED_EQUAL, _FORMAT, kind),)))
    flags = sc.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    if mode == "notify":
        rules.append(((*_GET_IDS, *_STATS, *_ROOTS), action, ()))
        rules.append((("unshare",), action, ((0, _MASKED_EQUAL, sc.CLONE_NEWNS, sc.CLONE_NEWNS),)))
        # Identities are kept in a limit (processes.py), which pam_limits(8) would set back to that of process 1.
        rules.append((("setrlimit",), _SUCCESS, ((0, _EQUAL, RLIMIT_LOCKS, 0),)))
        rules.append((("prlimit64",), _SUCCESS, ((1, _EQUAL, RLIMIT_LOCKS, 0), (2, _NOT_EQUAL, 0, 0))))
        if kernel >= (5, 19):  # a signal must not interrupt a call that the supervisor has carried out already
            flags |= sc.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    return {
        "default": ACTIONS["SCMP_ACT_ALLOW"],
        "rules": rules,
        "architectures": _ARCHITECTURES.get(machine, []),
        "flags": flags,
        "notify": mode == "notify",
        "listener_path": "",
        "metadata": "",
    }
