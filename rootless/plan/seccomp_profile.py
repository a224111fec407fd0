"""Make linux.seccomp of the default profile or of docker's profile files. Pure.

The default profile refuses what docker's own refuses ("Seccomp security profiles for Docker", "Significant syscalls
blocked by the default profile"). But docker lists what is allowed, and this profile what is refused, so that a program
for a newer kernel does not get EPERM for a system call that is in no list.
"""

from __future__ import annotations

import errno

from rootless.errors import RootlessError
from rootless.kernel import syscalls as sc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Profile = dict[str, Any]

# {capability: system calls that are refused without it}; those of "" are always refused.
_REFUSED = {
    "CAP_SYS_ADMIN": (
        "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie", "mount", "mount_setattr", "move_mount",
        "open_tree", "pivot_root", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns", "swapoff",
        "swapon", "umount", "umount2", "unshare",
    ),
    "CAP_BPF": ("bpf",),
    "CAP_DAC_READ_SEARCH": ("open_by_handle_at",),
    "CAP_PERFMON": ("perf_event_open",),
    "CAP_SYS_BOOT": ("kexec_file_load", "kexec_load", "reboot"),
    "CAP_SYS_CHROOT": ("chroot",),
    "CAP_SYS_MODULE": ("create_module", "delete_module", "finit_module", "init_module", "query_module"),
    "CAP_SYS_NICE": ("get_mempolicy", "mbind", "migrate_pages", "move_pages", "set_mempolicy",
                     "set_mempolicy_home_node"),
    "CAP_SYS_PACCT": ("acct",),
    "CAP_SYS_PTRACE": ("kcmp", "pidfd_getfd", "process_madvise"),
    "CAP_SYS_RAWIO": ("ioperm", "iopl"),
    "CAP_SYS_TIME": ("clock_adjtime", "clock_adjtime64", "clock_settime", "clock_settime64", "settimeofday", "stime"),
    "CAP_SYS_TTY_CONFIG": ("vhangup",),
    "CAP_SYSLOG": ("syslog",),
    "": (
        "_sysctl", "add_key", "get_kernel_syms", "io_uring_enter", "io_uring_register", "io_uring_setup", "keyctl",
        "nfsservctl", "request_key", "sysfs", "uselib", "userfaultfd", "ustat", "vm86", "vm86old",
    ),
}  # fmt: skip
# Flags of clone(2). CLONE_NEWTIME is not one of them: there its bit is a part of the exit signal.
_NEW_NAMESPACES = (
    sc.CLONE_NEWNS, sc.CLONE_NEWCGROUP, sc.CLONE_NEWUTS, sc.CLONE_NEWIPC, sc.CLONE_NEWUSER, sc.CLONE_NEWPID,
    sc.CLONE_NEWNET,
)  # fmt: skip
_AF_VSOCK = 40  # reaches the hypervisor's host, past every network namespace
_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    "riscv64": ["SCMP_ARCH_RISCV64"],
    "ppc64le": ["SCMP_ARCH_PPC64LE"],
    "s390x": ["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
}


def default_profile(capabilities: Mapping[str, Any], machine: str = "") -> Profile:
    """Return the default profile for a program with these sets of capabilities.

    capabilities: process.capabilities; machine: of uname(2), this one's by default.
    """
    if not machine:
        from rootless.kernel.syscalls import MACHINE as machine
    granted = capabilities.get("bounding") or []
    names = [name for cap, calls in _REFUSED.items() if cap not in granted for name in calls]
    rules: list[Profile] = [{"names": sorted(names), "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM}]
    rules.append(_refuse("socket", _AF_VSOCK, "SCMP_CMP_EQ", errno.EAFNOSUPPORT))
    if "CAP_SYS_ADMIN" not in granted:
        argument = 1 if machine == "s390x" else 0  # clone(2), "C library/kernel differences"
        rules += [_refuse("clone", f, "SCMP_CMP_MASKED_EQ", errno.EPERM, argument) for f in _NEW_NAMESPACES]
        # A filter cannot see clone3's flags, because they are in memory. After ENOSYS the C library calls clone(2).
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": _ARCHITECTURES.get(machine, []),
        "syscalls": rules,
    }


def _refuse(name: str, value: int, operator: str, number: int, index: int = 0) -> Profile:
    argument = {"index": index, "value": value, "op": operator}
    if operator == "SCMP_CMP_MASKED_EQ":
        argument["valueTwo"] = value
    return {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": number, "args": [argument]}


def read_profile(document: Any, capabilities: Mapping[str, Any], machine: str, where: str) -> Profile:
    """Return linux.seccomp of a profile's file: the runtime specification's own form, or docker's.

    Docker's has `archMap` in place of `architectures`, and `includes` and `excludes` that name capabilities and
    architectures (moby, profiles/seccomp). Raises RootlessError.
    """
    if type(document) is not dict or type(document.get("defaultAction")) is not str:
        hint = "an object with defaultAction and syscalls, as linux.seccomp or docker has it"
        raise RootlessError("not a seccomp profile", where, hint=hint)
    profile = {key: value for key, value in document.items() if key not in ("archMap", "syscalls")}
    try:
        for entry in document.get("archMap") or []:
            known = _ARCHITECTURES.get(machine, [""])[0]
            if entry["architecture"] == known:
                profile["architectures"] = [known, *(entry.get("subArchitectures") or [])]
        rules = document.get("syscalls") or []
        profile["syscalls"] = [_rule(rule) for rule in rules if _applies(rule, capabilities, machine)]
    except (KeyError, TypeError, AttributeError) as error:
        raise RootlessError(f"the seccomp profile is malformed ({error})", where) from None
    return profile


def _rule(rule: Profile) -> Profile:
    kept = {key: rule[key] for key in ("names", "action", "args", "errnoRet") if rule.get(key) is not None}
    if "names" not in kept and "name" in rule:  # docker's first form
        kept["names"] = [rule["name"]]
    return kept


def _applies(rule: Profile, capabilities: Mapping[str, Any], machine: str) -> bool:
    """Return whether a rule of docker's applies here: all of its `includes` hold, and none of its `excludes`."""
    granted = capabilities.get("bounding") or []
    names = {"x86_64": ("amd64", "x86", "x32"), "aarch64": ("arm64", "arm")}.get(machine, (machine,))
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if any(cap not in granted for cap in includes.get("caps") or []):
        return False
    if includes.get("arches") and not set(includes["arches"]) & set(names):
        return False
    if any(cap in granted for cap in excludes.get("caps") or []):
        return False
    return not set(excludes.get("arches") or []) & set(names)
