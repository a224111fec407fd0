"""Read and apply the scheduler, I/O priority, CPU affinity, personality and NUMA memory policy of a process.

The read_ functions are pure and return plain data. The apply_ functions change the calling process and raise
RootlessError.
"""

from __future__ import annotations

import errno
from struct import pack

from rootless.errors import RootlessError, SpecError, advice
from rootless.kernel import syscalls
from rootless.kernel.units import MAX_CPUS, MAX_NODES, read_numbers
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.config_node import Node

    Scheduler = tuple[int, int, int, int, int, int, int]  # policy, flags, nice, priority, runtime, deadline, period

# linux/sched.h
POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
_OTHER, _FIFO, _RR, _BATCH, _ISO, _DEADLINE = 0, 1, 2, 3, 4, 6
_KEEP = SCHEDULER_FLAGS["SCHED_FLAG_KEEP_POLICY"] | SCHEDULER_FLAGS["SCHED_FLAG_KEEP_PARAMS"]
_SHORTEST, _LONGEST = 1024, 2**63  # nanoseconds: sched(7), SCHED_DEADLINE

# linux/ioprio.h
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_IOPRIO_CLASS_SHIFT = 13
_IOPRIO_WHO_PROCESS = 1

# linux/personality.h
DOMAINS = {"LINUX": 0x0000, "LINUX32": 0x0008}

# linux/mempolicy.h
MEMORY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_FLAGS = {"MPOL_F_NUMA_BALANCING": 1 << 13, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_STATIC_NODES": 1 << 15}
_WITHOUT_NODES = MEMORY_MODES["MPOL_DEFAULT"], MEMORY_MODES["MPOL_LOCAL"]
_PREFERRED = MEMORY_MODES["MPOL_PREFERRED"]


# --- process.scheduler


def read_scheduler(node: Node) -> Scheduler | None:
    """Return process.scheduler as (policy, flags, nice, priority, runtime, deadline, period). Times are in ns.

    Raises SpecError for values that the kernel never accepts (sched_setattr(2), sched(7)).
    """
    if not node:
        return None
    policy: int = node["policy"].choice(POLICIES)
    flags = 0
    for item in node["flags"].items():
        flags |= item.choice(SCHEDULER_FLAGS)
    low, high = (-20, 19) if policy in (_OTHER, _BATCH) else (-(2**31), 2**31 - 1)
    nice = node["nice"].integer(0, low, high)
    priority = node["priority"].integer(0, -(2**31), 2**31 - 1)
    name = node["policy"].value
    if policy in (_FIFO, _RR):
        if not 1 <= priority <= 99 and not flags & _KEEP:
            raise node["priority"].wrong(f"a whole number from 1 to 99 for {name}")
    elif priority:
        raise node["priority"].error(f"is only for SCHED_FIFO and SCHED_RR, not for {name}")
    times = [node[key].integer(low=0) for key in ("runtime", "deadline", "period")]
    if policy != _DEADLINE:
        for key, value in zip(("runtime", "deadline", "period"), times, strict=True):
            if value:
                raise node[key].error(f"is only for SCHED_DEADLINE, not for {name}")
    elif not flags & _KEEP:
        _check_deadline(node, *times)
    return policy, flags, nice, priority & 0xFFFFFFFF, *times  # type: ignore[return-value]


def _check_deadline(node: Node, runtime: int, deadline: int, period: int) -> None:
    # crun's words, but for the place
    said = "sched_setattr: `SCHED_DEADLINE`"
    for key, value in (("runtime", runtime), ("deadline", deadline)):
        if not node[key]:
            raise node[key].error(f"{said} requires `{key}`")
        if not value:
            raise node[key].error(f"{said} {key} must be greater than 0")
    for key, value in (("runtime", runtime), ("deadline", deadline), ("period", period)):
        if value and not _SHORTEST <= value < _LONGEST:
            raise node[key].error(f"{said} {key} ({value}) must be between {_SHORTEST} and {_LONGEST}")
    if runtime > deadline:
        raise node["deadline"].error(f"{said} runtime ({runtime}) must be <= deadline ({deadline})")
    if period and deadline > period:
        raise node["period"].error(f"{said} deadline ({deadline}) must be <= period ({period}; 0: the deadline)")


def apply_scheduler(scheduler: Scheduler) -> None:
    """Call sched_setattr(2) for this process. Call it before capabilities are dropped."""
    # struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period, util_min, util_max
    attributes = pack("IIQiIQQQII", 56, *scheduler, 0, 0)
    try:
        syscalls.syscall("sched_setattr", 0, attributes, 0)
    except OSError as error:
        hint = ""
        if error.errno == errno.EPERM:
            hint = advice("no-sys-nice")
        elif scheduler[0] == _ISO:
            hint = advice("sched-iso")
        raise RootlessError.from_os(error, "cannot set the scheduler", "/process/scheduler", hint) from None


# --- process.ioPriority


def read_io_priority(node: Node) -> int | None:
    """Return process.ioPriority as the argument of ioprio_set(2), None if it is missing. Raises SpecError."""
    if not node:
        return None
    io_class: int = node["class"].choice(IO_CLASSES)
    return io_class << _IOPRIO_CLASS_SHIFT | node["priority"].integer(0, 0, 7)


def apply_io_priority(value: int) -> None:
    """Call ioprio_set(2) for this process. Its children inherit the priority."""
    try:
        syscalls.syscall("ioprio_set", _IOPRIO_WHO_PROCESS, 0, value)
    except OSError as error:
        hint = advice("ioprio-rt") if error.errno == errno.EPERM else ""
        raise RootlessError.from_os(error, "cannot set the I/O priority", "/process/ioPriority", hint) from None


# --- process.execCPUAffinity


def read_exec_cpu_affinity(node: Node) -> tuple[list[int], list[int]] | None:
    """Return process.execCPUAffinity as (initial CPUs, final CPUs), [] for no change. Raises SpecError."""
    if not node:
        return None
    return read_numbers(node["initial"], MAX_CPUS), read_numbers(node["final"], MAX_CPUS)


def apply_cpu_affinity(cpus: list[int], which: str) -> None:
    """Call sched_setaffinity(2) for this process; do nothing for []. which: `initial` or `final`, for the message."""
    if not cpus:
        return
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        hint = advice("no-such-cpu") if error.errno == errno.EINVAL else ""
        raise RootlessError.from_os(
            error, "cannot set the CPU affinity", f"/process/execCPUAffinity/{which}", hint
        ) from None


# --- linux.personality


def read_personality(node: Node) -> int | None:
    """Return linux.personality as the argument of personality(2). Raises SpecError, also for any flag.

    The specification defines no flags yet (config-linux.md#personality).
    """
    if not node:
        return None
    domain: int = node["domain"].choice(DOMAINS)
    for item in node["flags"].items():
        raise item.error(f"personality flag {item.required().string()!r} is not supported: the spec defines none")
    return domain


def apply_personality(value: int) -> None:
    """Call personality(2) for this process."""
    try:
        syscalls.syscall("personality", value)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot set the personality", "/linux/personality") from None


# --- linux.memoryPolicy


def read_memory_policy(node: Node) -> tuple[int, list[int]] | None:
    """Return linux.memoryPolicy as (mode with flags, memory nodes) for set_mempolicy(2). Raises SpecError."""
    if not node:
        return None
    mode: int = _checked("mode", lambda: node["mode"].choice(MEMORY_MODES))
    nodes = _checked("node", lambda: read_numbers(node["nodes"], MAX_NODES))
    name = node["mode"].value
    if mode in _WITHOUT_NODES and nodes:
        raise node["nodes"].error(f"is not for {name}: mode requires 0 nodes but got {len(nodes)}")
    if mode not in _WITHOUT_NODES and mode != _PREFERRED and not nodes:
        raise node["nodes"].error(f"is empty: {name} takes at least one")
    flags = _checked("flag", lambda: _read_memory_flags(node["flags"]))
    both = MEMORY_FLAGS["MPOL_F_STATIC_NODES"] | MEMORY_FLAGS["MPOL_F_RELATIVE_NODES"]
    if flags & both == both:
        raise node["flags"].error("MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other")
    return mode | flags, nodes


def _read_memory_flags(node: Node) -> int:
    flags = 0
    for item in node.items():
        flags |= item.choice(MEMORY_FLAGS)
    return flags


def _checked(kind: str, read: Callable[[], Any]) -> Any:
    """Return what `read` returns. Raises its SpecError in runc's words."""
    try:
        return read()
    except SpecError as error:
        error.what = f"invalid memory policy {kind}: {error.what}"
        raise


def apply_memory_policy(mode: int, nodes: list[int]) -> None:
    """Call set_mempolicy(2) for this process. The policy survives execve."""
    mask = sum(1 << number for number in nodes)
    size = (max(nodes, default=0) // 64 + 1) * 8
    try:
        # maxnode must be one more than the number of bits, because get_nodes() of mm/mempolicy.c subtracts one.
        syscalls.syscall("set_mempolicy", mode, mask.to_bytes(size, "little") if nodes else None, size * 8 + 1)
    except OSError as error:
        hint = ""
        if error.errno == errno.EINVAL:
            hint = advice("numa-mode")
        elif error.errno == errno.ENOSYS:
            hint = advice("no-numa")
        raise RootlessError.from_os(error, "cannot set the memory policy", "/linux/memoryPolicy", hint) from None
