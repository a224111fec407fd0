"""Declare the shape of seccomp profiles, and the numbers of their names (linux/seccomp.h, seccomp.h of libseccomp)."""

from __future__ import annotations

from rootless.kernel import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    Condition = tuple[int, int, int, int]  # argument, operator, value, valueTwo: struct scmp_arg_cmp
    Rule = tuple[tuple[str, ...], int, tuple[Condition, ...]]  # names, action, conditions

    class Profile(TypedDict, total=False):
        """A profile as `read_seccomp` gives it.

        default: the action for what no rule names; flags: for seccomp(2); notify: whether a listener is needed; bpf: a
        ready filter in base64, from crun's annotation; strict: whether an unknown system call is an error.
        """

        default: int
        rules: list[Rule]
        architectures: list[str]
        flags: int
        notify: bool
        listener_path: str
        metadata: str
        bpf: str
        strict: bool


# linux/seccomp.h: SECCOMP_RET_*. The low 16 bits of ERRNO and TRACE hold the errno.
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
}
# seccomp.h: enum scmp_compare.
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": syscalls.SECCOMP_FILTER_FLAG_TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": syscalls.SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": syscalls.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": syscalls.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}
_ARCHITECTURES = (
    "X86 X86_64 X32 ARM AARCH64 LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE "
    "S390 S390X SH SHEB PARISC PARISC64 RISCV64"
)
ARCHITECTURES = tuple(f"SCMP_ARCH_{name}" for name in _ARCHITECTURES.split())
