"""Compile seccomp profiles with libseccomp, and add a stub for system calls that are newer than a profile.

This module is loaded only if the cache lacks the filter (rootless/process/seccomp.py).
"""

from __future__ import annotations

from errno import EEXIST, ENOSYS
from struct import pack, unpack

from rootless import log
from rootless.errors import RootlessError, advice, printable
from rootless.kernel import syscalls
from rootless.process.seccomp_names import ACTIONS
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from rootless.process.seccomp_names import Condition, Profile

    Library = dict[str, Callable[..., Any]]
    Instruction = tuple[int, int, int, int]  # struct sock_filter: code, jt, jf, k

_POINTER = "/linux/seccomp"
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "seccomp_init": ("c_void_p", ["c_uint32"]),
    "seccomp_release": (None, ["c_void_p"]),
    "seccomp_attr_set": ("c_int", ["c_void_p", "c_int", "c_uint32"]),
    "seccomp_arch_native": ("c_uint32", []),
    "seccomp_arch_resolve_name": ("c_uint32", ["c_char_p"]),
    "seccomp_arch_add": ("c_int", ["c_void_p", "c_uint32"]),
    "seccomp_syscall_resolve_name": ("c_int", ["c_char_p"]),
    "seccomp_syscall_resolve_name_arch": ("c_int", ["c_uint32", "c_char_p"]),
    "seccomp_rule_add_array": ("c_int", ["c_void_p", "c_uint32", "c_int", "c_uint", "c_char_p"]),
    "seccomp_export_bpf": ("c_int", ["c_void_p", "c_int"]),
    "seccomp_version": ("c_void_p", []),
}
_SCMP_FLTATR_CTL_OPTIMIZE = 8
_BINARY_TREE = 2
_NR_SCMP_ERROR = -1

_ACTION_FULL = 0xFFFF0000  # linux/seccomp.h
# With these default actions a new system call is allowed, or a tracer handles it, so no stub is needed.
_ALLOWING = ACTIONS["SCMP_ACT_ALLOW"], ACTIONS["SCMP_ACT_LOG"], ACTIONS["SCMP_ACT_TRACE"]

# linux/audit.h, asm/unistd.h. libseccomp has a value of its own for x32, which the kernel sees as x86_64.
_SCMP_ARCH_X32 = 0x4000003E
_AUDIT_ARCH_X86_64 = 0xC000003E
_X32_SYSCALL_BIT = 0x40000000

# linux/bpf_common.h
_LD_W_ABS = 0x20
_JA = 0x05
_JEQ_K = 0x15
_JGT_K = 0x25
_JGE_K = 0x35
_RET_K = 0x06
# linux/seccomp.h: offsets in struct seccomp_data
_NR, _ARCH = 0, 4


def library_version() -> str:
    """Return the version of the loaded libseccomp, such as `2.5.4`. Raises RootlessError if there is none."""
    return ".".join(map(str, unpack("3I", syscalls.read_memory(_load()["seccomp_version"](), 12))))


def compile_bpf(profile: Profile) -> bytes:
    """Return the BPF program of a profile, an array of struct sock_filter. Raises RootlessError."""
    library = _load()
    context = library["seccomp_init"](profile["default"])
    if not context:
        raise RootlessError("libseccomp or this kernel does not know the default action", f"{_POINTER}/defaultAction")
    try:
        tokens = _add_architectures(library, context, profile["architectures"])
        if sum(len(names) for names, _, _ in profile["rules"]) > 32:
            # libseccomp before 2.5 refuses this, and its filter stays a list, which is slower.
            library["seccomp_attr_set"](context, _SCMP_FLTATR_CTL_OPTIMIZE, _BINARY_TREE)
        _add_rules(library, context, profile)
        program = _export(library, context)
    finally:
        library["seccomp_release"](context)
    if profile["default"] & _ACTION_FULL in _ALLOWING:
        return program
    return enosys_stub(_last_syscalls(library, profile, tokens)) + program


def _load() -> Library:
    try:
        return syscalls.load_library("libseccomp.so.2", _FUNCTIONS)
    except OSError as error:
        raise RootlessError(
            f"a seccomp profile needs libseccomp: {printable(error.strerror or error)}",
            _POINTER,
            hint=advice("no-libseccomp"),
        ) from None


def _add_architectures(library: Library, context: int, names: list[str]) -> list[int]:
    """Add architectures to the filter; return their tokens, the native one, which libseccomp adds itself, first.

    An architecture that this libseccomp does not know, or cannot mix with the native one, is left out. That is safe,
    because the filter kills calls from an architecture that it does not list.
    """
    tokens = [library["seccomp_arch_native"]()]
    for name in names:
        token = library["seccomp_arch_resolve_name"](name.removeprefix("SCMP_ARCH_").lower().encode())
        if token in tokens:
            continue
        code = library["seccomp_arch_add"](context, token) if token else -ENOSYS
        if code and code != -EEXIST:
            log.debug(f"seccomp: architecture {name} left out: {os.strerror(-code)}")
        else:
            tokens.append(token)
    return tokens


def _add_rules(library: Library, context: int, profile: Profile) -> None:
    for index, (names, action, conditions) in enumerate(profile["rules"]):
        if action == profile["default"]:
            continue  # libseccomp refuses a rule whose action is the default one
        alternatives = _alternatives(conditions)
        for name in names:
            number = library["seccomp_syscall_resolve_name"](os.fsencode(name))
            if number == _NR_SCMP_ERROR:
                if profile.get("strict"):
                    raise RootlessError(
                        f"system call {printable(name)} is unknown to libseccomp",
                        f"{_POINTER}/syscalls/{index}/names",
                        hint="the annotation run.oci.seccomp_fail_unknown_syscall makes this an error",
                    )
                log.debug(f"seccomp: system call {printable(name)} is unknown to libseccomp and left out")
                continue
            for count, packed in alternatives:
                code = library["seccomp_rule_add_array"](context, action, number, count, packed)
                if code and code != -EEXIST:
                    raise RootlessError(
                        f"libseccomp refuses the rule for {printable(name)}", f"{_POINTER}/syscalls/{index}", -code
                    )


def _alternatives(conditions: tuple[Condition, ...]) -> list[tuple[int, bytes]]:
    """Return conditions as (count, array of struct scmp_arg_cmp), one for each rule to add.

    All conditions must hold. But if an argument is named twice, any one is enough, as in runc and crun, because a rule
    of libseccomp compares an argument only once.
    """
    packed = [pack("IiQQ", *condition) for condition in conditions]
    if len({condition[0] for condition in conditions}) == len(conditions):
        return [(len(packed), b"".join(packed))]
    return [(1, one) for one in packed]


def _export(library: Library, context: int) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        code = library["seccomp_export_bpf"](context, fd)
        if code:
            raise RootlessError("libseccomp cannot compile the profile", _POINTER, -code)
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


# --- the stub


def _last_syscalls(library: Library, profile: Profile, tokens: list[int]) -> dict[int, int]:
    """Return {architecture token: the highest system call number that the profile names}."""
    last = {}
    names = {os.fsencode(name) for names, _, _ in profile["rules"] for name in names}
    for token in tokens:
        number = max((library["seccomp_syscall_resolve_name_arch"](token, name) for name in names), default=0)
        if number > 0:
            last[token] = number
    return last


def enosys_stub(last: dict[int, int]) -> bytes:
    """Return instructions that answer ENOSYS to each system call above `last` {architecture token: number}.

    A C library tries a new call first, and falls back to the old one on ENOSYS but not on EPERM. So a profile must not
    answer EPERM to calls that its author could not know.
    """
    if not last:
        return b""
    blocks = [list(_block(token, last)) for token in last if token != _SCMP_ARCH_X32 or _AUDIT_ARCH_X86_64 not in last]
    size = 1 + sum(map(len, blocks)) + 2
    enosys = size - 1  # the last instruction; the one before it jumps over it into the filter
    program: list[Instruction] = [(_LD_W_ABS, 0, 0, _ARCH)]
    for block in blocks:
        end = len(program) + len(block)
        for code, jump, otherwise, k in block:
            here = len(program) + 1
            targets = {_GO_ON: 0, _ENOSYS: enosys - here, _FILTER: size - here, _NEXT_BLOCK: end - here}
            program.append((code, targets.get(jump, jump), targets.get(otherwise, otherwise), k))
    program += [(_JA, 0, 0, 1), (_RET_K, 0, 0, ACTIONS["SCMP_ACT_ERRNO"] | ENOSYS)]
    return b"".join(pack("HBBI", *instruction) for instruction in program)


# Targets of jumps, replaced by offsets when all lengths are known.
_GO_ON, _ENOSYS, _FILTER, _NEXT_BLOCK = -1, -2, -3, -4


def _block(token: int, last: dict[int, int]) -> Iterator[Instruction]:
    if token in (_AUDIT_ARCH_X86_64, _SCMP_ARCH_X32):
        yield _JEQ_K, _GO_ON, _NEXT_BLOCK, _AUDIT_ARCH_X86_64
        yield _LD_W_ABS, 0, 0, _NR
        if _SCMP_ARCH_X32 in last:
            yield _JGE_K, _GO_ON, 1, _X32_SYSCALL_BIT
            yield _JGT_K, _ENOSYS, _FILTER, last[_SCMP_ARCH_X32]
        if _AUDIT_ARCH_X86_64 in last:
            yield _JGT_K, _ENOSYS, _FILTER, last[_AUDIT_ARCH_X86_64]
        else:
            yield _JGT_K, _FILTER, _FILTER, 0
        return
    yield _JEQ_K, _GO_ON, _NEXT_BLOCK, token
    yield _LD_W_ABS, 0, 0, _NR
    yield _JGT_K, _ENOSYS, _FILTER, last[token]
