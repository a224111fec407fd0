"""Load device rules as an eBPF program of the cgroup, which needs root (bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE).

The kernel runs the program at every open and mknod of a device node, with {u32 access << 16 | type, u32 major,
u32 minor} (linux/bpf.h, struct bpf_cgroup_dev_ctx). If it returns 0, the call fails with EPERM.
"""

from __future__ import annotations

import struct

from rootless.errors import RootlessError, advice
from rootless.kernel import syscalls
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cgroup.devices import Rule

BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2

_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
_TYPE = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*

# Operations (linux/bpf_common.h, linux/bpf.h): class | source or size | code.
_JEQ32 = 0x16  # if (u32)dst == value, jump over `offset` instructions
_LOAD_U32 = 0x61  # dst = *(u32 *)(src + offset)
_MOV32 = 0xB4
_MOV32_REG = 0xBC
_AND32 = 0x54
_RSH32 = 0x74
_JNE32 = 0x56
_EXIT = 0x95
_TYPE_REG, _WANTED_REG, _MAJOR_REG, _MINOR_REG, _SCRATCH = 2, 3, 4, 5, 6


def attach(path: str, rules: list[Rule]) -> None:
    """Compile, load and attach the rules. Raises RootlessError, so that no container runs without its rules."""
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            program = _load(compile_program(rules))
            try:
                attributes = struct.pack("=4I", directory, program, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI)
                syscalls.syscall("bpf", BPF_PROG_ATTACH, attributes, len(attributes), path=path)
            finally:
                os.close(program)
        finally:
            os.close(directory)
    except OSError as error:
        raise RootlessError.from_os(
            error, "cannot load the device rules", "/linux/resources/devices", hint=advice("no-cgroup-bpf")
        ) from None


def compile_program(rules: list[Rule]) -> bytes:
    """Return the program's instructions. Pure.

    The last rule that matches an access decides it, so the program tries the rules from the last to the first. A rule
    that allows bits of the access clears them. The access is denied if a rule denies one of the bits that are left, or
    if bits are left after all rules.
    """
    code = [
        _instruction(_LOAD_U32, _WANTED_REG, 1, 0),
        _instruction(_MOV32_REG, _TYPE_REG, _WANTED_REG),
        _instruction(_AND32, _TYPE_REG, value=0xFFFF),
        _instruction(_RSH32, _WANTED_REG, value=16),
        _instruction(_LOAD_U32, _MAJOR_REG, 1, 4),
        _instruction(_LOAD_U32, _MINOR_REG, 1, 8),
    ]
    for rule in reversed(rules):
        block = _rule(rule)
        code += block
    code += _answer(0)
    return b"".join(code)


def _rule(rule: Rule) -> list[bytes]:
    """Return the block of one rule. Its comparisons jump to the next block if they fail."""
    allow, kind, major, minor, access = rule
    bits = 0
    for letter in str(access):
        bits |= _ACCESS[letter]
    tests = []
    if kind != "a":
        tests.append((_TYPE_REG, _TYPE[str(kind)]))
    if major != -1:
        tests.append((_MAJOR_REG, int(str(major))))
    if minor != -1:
        tests.append((_MINOR_REG, int(str(minor))))
    if allow:
        body = [_instruction(_AND32, _WANTED_REG, value=~bits), _instruction(_JNE32, _WANTED_REG, 0, 2), *_answer(1)]
    else:
        body = [
            _instruction(_MOV32_REG, _SCRATCH, _WANTED_REG),
            _instruction(_AND32, _SCRATCH, value=bits),
            _instruction(_JEQ32, _SCRATCH, 0, 2),  # none of the denied bits is left
            *_answer(0),
        ]
    size = len(tests) + len(body)
    jumps = [_instruction(_JNE32, register, 0, size - i - 1, v) for i, (register, v) in enumerate(tests)]
    return jumps + body


def _answer(value: int) -> list[bytes]:
    return [_instruction(_MOV32, 0, value=value), _instruction(_EXIT, 0)]


def _instruction(code: int, dst: int, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """Return a struct bpf_insn: u8 code, u4 dst, u4 src, s16 offset, s32 immediate."""
    return struct.pack("=BBhI", code, dst | src << 4, offset, value & 0xFFFFFFFF)


def _load(code: bytes) -> int:
    """Load a program (BPF_PROG_LOAD); return its fd. Raises OSError."""
    instructions, code_address = syscalls.pinned(code)
    licence, licence_address = syscalls.pinned(b"Apache-2.0\0")
    # union bpf_attr: prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags
    attributes = struct.pack(
        "=2I2Q2IQ2I",
        BPF_PROG_TYPE_CGROUP_DEVICE,
        len(code) // 8,
        code_address,
        licence_address,
        0,
        0,
        0,
        0,
        0,
    )
    fd = syscalls.syscall("bpf", BPF_PROG_LOAD, attributes, len(attributes))
    del instructions, licence  # the kernel has read them by now
    return fd
