"""Read a cgroup's figures in the form of runc's `events --stats`, which containerd reads (go-runc's Stats)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rootless.kernel.units import MAX_CPUS, parse_numbers

if TYPE_CHECKING:
    from rootless.cgroup.driver import Cgroup

    Figures = dict[str, Any]

UNLIMITED = 2**64 - 1
_IO = (("rbytes", "Read"), ("wbytes", "Write"), ("dbytes", "Discard"))
_IOS = (("rios", "Read"), ("wios", "Write"), ("dios", "Discard"))


def collect(cgroup: Cgroup) -> Figures:
    """Return cpu, cpuset, memory, pids, blkio, hugetlb and PSI. The figures of a missing controller are 0."""
    return {
        "cpu": _cpu(cgroup),
        "cpuset": _cpuset(cgroup),
        "memory": _memory(cgroup),
        "pids": {"current": _number(cgroup, "pids.current"), "limit": _limit(cgroup, "pids.max", 0)},
        "blkio": _block_io(cgroup),
        "hugetlb": _hugepages(cgroup),
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _cpu(cgroup: Cgroup) -> Figures:
    """Return CPU time in ns, as runc does; cpu.stat counts microseconds."""
    stat = cgroup.keyed("cpu.stat")
    return {
        "usage": {
            "total": stat.get("usage_usec", 0) * 1000,
            "kernel": stat.get("system_usec", 0) * 1000,
            "user": stat.get("user_usec", 0) * 1000,
        },
        "throttling": {
            "periods": stat.get("nr_periods", 0),
            "throttledPeriods": stat.get("nr_throttled", 0),
            "throttledTime": stat.get("throttled_usec", 0) * 1000,
        },
        **_pressure(cgroup, "cpu.pressure"),
    }


def _cpuset(cgroup: Cgroup) -> Figures:
    """Return the CPUs and memory nodes in force, as lists of numbers."""
    figures: Figures = {}
    for key, file in (("cpus", "cpuset.cpus.effective"), ("mems", "cpuset.mems.effective")):
        if text := cgroup.read(file):
            figures[key] = parse_cpuset(text)
    return figures


def parse_cpuset(text: str) -> list[int]:
    """Return the numbers of a file of cgroup v2 such as cpuset.cpus.effective. Raises ValueError."""
    return parse_numbers(text, MAX_CPUS)


def _memory(cgroup: Cgroup) -> Figures:
    """Return memory in bytes. `swap` counts memory plus swap, as cgroup v1 did and runc still does."""
    stat, events = cgroup.keyed("memory.stat"), cgroup.keyed("memory.events")
    usage, limit = _number(cgroup, "memory.current"), _limit(cgroup, "memory.max", 0)
    swap_limit = _limit(cgroup, "memory.swap.max", 0)
    whole = UNLIMITED if UNLIMITED in (limit, swap_limit) else limit + swap_limit
    return {
        "cache": stat.get("file", 0),
        "usage": {
            "limit": limit,
            "usage": usage,
            "max": _number(cgroup, "memory.peak"),
            "failcnt": events.get("max", 0),
        },
        "swap": {"limit": whole, "usage": usage + _number(cgroup, "memory.swap.current"), "failcnt": 0},
        "kernel": {"limit": UNLIMITED, "usage": stat.get("kernel", 0), "failcnt": 0},
        "kernelTCP": {"limit": UNLIMITED, "usage": stat.get("sock", 0), "failcnt": 0},
        "raw": stat,
        **_pressure(cgroup, "memory.pressure"),
    }


def _block_io(cgroup: Cgroup) -> Figures:
    """Return the figures of io.stat, lines such as "8:0 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0"."""
    sizes: list[Figures] = []
    counts: list[Figures] = []
    for line in cgroup.read("io.stat").splitlines():
        device, *pairs = line.split()
        major, minor = map(int, device.split(":"))
        values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        for table, into in ((_IO, sizes), (_IOS, counts)):
            for key, op in table:
                if key in values:
                    into.append({"major": major, "minor": minor, "op": op, "value": int(values[key])})
    return {
        "ioServiceBytesRecursive": sizes,
        "ioServicedRecursive": counts,
        **_pressure(cgroup, "io.pressure"),
    }


def _hugepages(cgroup: Cgroup) -> Figures:
    """Return an entry for each size of huge pages: {"2MB": {"usage", "max", "failcnt"}}."""
    figures: Figures = {}
    names = os.listdir(cgroup.path) if cgroup.path and os.path.isdir(cgroup.path) else []
    for name in sorted(names):
        head, _, rest = name.partition(".")
        size, _, last = rest.partition(".")
        if head == "hugetlb" and last == "current":
            figures[size] = {
                "usage": _number(cgroup, name),
                "failcnt": cgroup.keyed(f"hugetlb.{size}.events").get("max", 0),
            }
    return figures


def _pressure(cgroup: Cgroup, file: str) -> Figures:
    """Return {"psi": {"some": {...}, "full": {...}}} from lines "some avg10=0.00 ... total=0"; {} without PSI."""
    figures: Figures = {}
    for line in cgroup.read(file).splitlines():
        kind, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs)
        figures[kind] = {key: int(v) if key == "total" else float(v) for key, v in values.items()}
    return {"psi": figures} if figures else {}


def _number(cgroup: Cgroup, file: str) -> int:
    text = cgroup.read(file)
    return int(text) if text.isdigit() else 0


def _limit(cgroup: Cgroup, file: str, default: int) -> int:
    text = cgroup.read(file)
    return UNLIMITED if text == "max" else int(text) if text.isdigit() else default
