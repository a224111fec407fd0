"""Compile linux.resources into files of cgroup v2 (config-linux.md#control-groups, admin-guide/cgroup-v2.rst). Pure.

An entry is [file, value, pointer], and the list's order is the order of writing. Values that ask for nothing (0, -1,
"max", shares of 1024) are compiled too, because `update` removes a limit with them. `asks_nothing` tells them apart, so
that a new cgroup needs no controller for them.
"""

from __future__ import annotations

from rootless.errors import advice, printable
from rootless.kernel.units import MAX_CPUS, MAX_NODES, read_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.config_node import Node

    Entry = list[str]  # [file, value, JSON pointer]

MAX = "max"
_PERIOD = 100000  # microseconds, the kernel's default period of cpu.max
_UNLIMITED = {"memory.max", "memory.high", "memory.swap.max", "memory.swap.high", "pids.max"}
_DEFAULTS = {
    "memory.low": "0", "memory.min": "0", "memory.oom.group": "0", "cpu.weight": "100", "cpu.idle": "0",
    "cpu.max.burst": "0", "io.weight": "default 100", "io.bfq.weight": "100",
}  # fmt: skip
_RUNTIMES_OWN = {"procs", "threads", "subtree_control", "type", "kill", "freeze", "events", "controllers", "stat"}
_THROTTLES = (
    ("throttleReadBpsDevice", "rbps"),
    ("throttleWriteBpsDevice", "wbps"),
    ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)


def compile_files(resources: Node) -> list[Entry]:
    """Return `resources` without the device rules as entries, in the order of writing. Raises SpecError."""
    entries: list[Entry] = []
    _memory(resources["memory"], entries)
    _cpu(resources["cpu"], entries)
    _pids(resources["pids"], entries)
    _block_io(resources["blockIO"], entries)
    _hugepages(resources["hugepageLimits"], entries)
    _rdma(resources["rdma"], entries)
    _refuse_network(resources["network"])
    _unified(resources["unified"], entries)
    return entries


def required(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries that need a cgroup with their controller."""
    return [entry for entry in entries if not asks_nothing(entry[0], entry[1])]


def is_default(file: str, value: str) -> bool:
    """Return whether a new cgroup has this value. A period without a quota is not a default, because it can be seen."""
    return asks_nothing(file, value) and (file != "cpu.max" or value == f"{MAX} {_PERIOD}")


def asks_nothing(file: str, value: str) -> bool:
    """Return whether the value limits nothing, so that neither the file nor its controller is needed."""
    if file in _UNLIMITED:
        return value == MAX
    if file == "cpu.max":
        return value.startswith(MAX)
    if file in ("io.max", "rdma.max"):  # "8:0 rbps=max"
        return all(pair.endswith("=max") for pair in value.split()[1:])
    return _DEFAULTS.get(file) == value


def controller(file: str) -> str:
    """Return the controller of a file: "memory" for "memory.max", "" for core files."""
    name = file.partition(".")[0]
    return "" if name == "cgroup" else name


def weight_of_shares(shares: int) -> int:
    """Return cpu.weight (1 to 10000) for cpu shares (2 to 262144); 0 stays 0, which means unset.

    The curve is quadratic through (2, 1), (1024, 100) and (262144, 10000), as in runc since 1.3.2 and crun since 1.23.
    """
    if shares == 0:
        return 0
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    import math

    x = math.log2(shares)
    exponent = (x * x + 125 * x) / 612 - 7 / 34
    return math.ceil(round(10**exponent, 9))  # rounded first, so that 1024 gives exactly 100


def io_weight(weight: int) -> int:
    """Return io.weight (1 to 10000) for a blkio weight (10 to 1000), linear as in runc and crun."""
    return 1 + (weight - 10) * 9999 // 990


def without_bfq(value: str) -> str:
    """Return the io.weight for an io.bfq.weight, "500" or "8:0 500", for a kernel without the BFQ scheduler."""
    device, _, weight = value.rpartition(" ")
    return f"{device or 'default'} {io_weight(int(weight))}"


def value_before(file: str, value: str, old: str) -> str:
    """Return what to write to undo a write: the old text, or the old line of the same device in a file of many."""
    if file not in ("io.max", "rdma.max", "io.weight", "io.bfq.weight"):
        return old or value
    key = value.split()[0]
    for line in old.splitlines():
        if line.split()[0] == key:
            return line
    if file.endswith(".max"):
        return " ".join([key, *(f"{pair.partition('=')[0]}=max" for pair in value.split()[1:])])
    return old.removeprefix("default ").split("\n")[0] if ":" not in key else f"{key} default"


def _memory(memory: Node, entries: list[Entry]) -> None:
    """Compile limit, reservation and swap.

    cgroup v2 has nothing for kernel memory, swappiness and the OOM killer's switch, so these have no effect, as in
    runc. Their types are checked.
    """
    limit = memory["limit"].integer(low=-1, high=2**63 - 1)
    swap = memory["swap"].integer(low=-1, high=2**63 - 1)
    reservation = memory["reservation"].integer(low=-1, high=2**63 - 1)
    for ignored in ("kernel", "kernelTCP"):
        memory[ignored].integer(low=-1, high=2**63 - 1)
    memory["swappiness"].integer(low=0, high=100)
    for ignored in ("disableOOMKiller", "useHierarchy", "checkBeforeUpdate"):
        memory[ignored].boolean()
    if limit == -1 and not swap:
        swap = -1  # in cgroup v1 `swap` counts memory plus swap, so no limit on memory means none on both
    if swap > 0:
        if limit <= 0:
            what, place = "a memory+swap limit needs a memory limit", memory["limit"].pointer
            memory["swap"].refuse(what, hint="set memory/limit too", about=place)
        if swap < limit:
            memory["swap"].refuse(f"is {swap}, below the memory limit {limit}", hint="it counts memory plus swap")
    # The swap limit comes first, so that between the two writes the container never has more than before or after.
    if swap:
        entries.append(["memory.swap.max", MAX if swap == -1 else str(swap - limit), memory["swap"].pointer])
    if limit:
        entries.append(["memory.max", MAX if limit == -1 else str(limit), memory["limit"].pointer])
    if reservation:
        low = "0" if reservation == -1 else str(reservation)
        entries.append(["memory.low", low, memory["reservation"].pointer])


def _cpu(cpu: Node, entries: list[Entry]) -> None:
    for name, low in (("realtimeRuntime", -(2**63)), ("realtimePeriod", 0)):
        if cpu[name].integer(low=low) > 0:
            raise cpu[name].error("cgroup v2 has no limit of real-time CPU time", hint="leave it out, or use 0")
    idle, shares = cpu["idle"].integer(low=0, high=1), cpu["shares"].integer(low=0)
    if cpu["idle"]:
        entries.append(["cpu.idle", str(idle), cpu["idle"].pointer])
    if shares and not idle:  # the kernel refuses a weight for an idle group
        entries.append(["cpu.weight", str(weight_of_shares(shares)), cpu["shares"].pointer])
    _cpu_bandwidth(cpu, entries)
    for key in ("cpus", "mems"):
        if read_numbers(cpu[key], MAX_CPUS if key == "cpus" else MAX_NODES):
            entries.append([f"cpuset.{key}", cpu[key].string(), cpu[key].pointer])


def _cpu_bandwidth(cpu: Node, entries: list[Entry]) -> None:
    quota, period = cpu["quota"].integer(high=2**63 - 1), cpu["period"].integer(low=0)
    burst = cpu["burst"].integer(low=0)
    if burst and quota > 0 and burst > quota:
        raise cpu["burst"].error(f"is {burst}, above the quota {quota}")
    if quota or period:
        if cpu["burst"]:  # the kernel wants burst <= quota at every moment
            entries.append(["cpu.max.burst", "0", cpu["burst"].pointer])
        pointer = cpu["quota" if quota else "period"].pointer
        entries.append(["cpu.max", f"{quota if quota > 0 else MAX} {period or _PERIOD}", pointer])
    if cpu["burst"] and (burst or not (quota or period)):
        entries.append(["cpu.max.burst", str(burst), cpu["burst"].pointer])


def _pids(pids: Node, entries: list[Entry]) -> None:
    limit = pids["limit"].integer(low=-1, high=2**63 - 1)
    if limit:
        entries.append(["pids.max", MAX if limit == -1 else str(limit), pids["limit"].pointer])


def _block_io(block: Node, entries: list[Entry]) -> None:
    """Compile block I/O. Weights go to io.bfq.weight, and to io.weight if the kernel lacks BFQ (`without_bfq`)."""
    if weight := _weight(block["weight"]):
        entries.append(["io.bfq.weight", str(weight), block["weight"].pointer])
    _refuse_leaf(block["leafWeight"])
    for device in block["weightDevice"].items():
        _refuse_leaf(device["leafWeight"])
        number, weight = _number(device), _weight(device["weight"])
        if weight:
            entries.append(["io.bfq.weight", f"{number} {weight}", device.pointer])
    for key, word in _THROTTLES:
        for device in block[key].items():
            rate = device["rate"].required().integer(low=0)
            entries.append(["io.max", f"{_number(device)} {word}={rate or MAX}", device.pointer])


def _weight(node: Node) -> int:
    weight = node.integer(low=0, high=1000)
    if 0 < weight < 10:
        raise node.wrong("0 or a whole number from 10 to 1000")
    return weight


def _refuse_leaf(node: Node) -> None:
    if node.integer(low=0, high=1000):
        raise node.error("cgroup v2 has no leaf weight", hint="leave it out, or use 0")


def _number(device: Node) -> str:
    """Return a device's "major:minor"."""
    major, minor = (device[key].required().integer(low=0, high=2**32 - 1) for key in ("major", "minor"))
    return f"{major}:{minor}"


def _hugepages(limits: Node, entries: list[Entry]) -> None:
    for limit in limits.items():
        size = limit["pageSize"].required().string()
        digits = size[:-2]
        if size[-2:] not in ("KB", "MB", "GB") or not (digits.isascii() and digits.isdigit() and digits[0] != "0"):
            raise limit["pageSize"].wrong("a size such as 2MB or 1GB")
        value = str(limit["limit"].required().integer(low=0))
        entries.append([f"hugetlb.{size}.max", value, limit.pointer])
        entries.append([f"hugetlb.{size}.rsvd.max", value, limit.pointer])


def _rdma(rdma: Node, entries: list[Entry]) -> None:
    for name, device in rdma.members():
        if not name or not name.isprintable() or " " in name:
            raise device.error("is not the name of an RDMA device")
        pairs = [
            f"{word}={device[key].integer(low=0, high=2**32 - 1) if device[key] else MAX}"
            for key, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object"))
        ]
        entries.append(["rdma.max", f"{name} {' '.join(pairs)}", device.pointer])


def _refuse_network(network: Node) -> None:
    """Refuse net_cls and net_prio, which only cgroup v1 has. Raises SpecError."""
    hint = advice("no-net-cls")
    if network["classID"].uint32():
        raise network["classID"].error("cgroup v2 has no network classes", hint=hint)
    for priority in network["priorities"].items():
        priority["name"].required().string()
        if priority["priority"].required().uint32():
            raise priority.error("cgroup v2 has no network priorities", hint=hint)


def _unified(unified: Node, entries: list[Entry]) -> None:
    """Compile files that config.json names itself. They are written last, so that they win."""
    for name, node in unified.members():
        value = node.required().string()
        head, dot, rest = name.partition(".")
        if "/" in name or not (head and dot and rest) or not name.isascii() or not name.isprintable():
            raise node.error(
                f"the specified key has not the form CONTROLLER.VALUE `{printable(name)}`",
                hint="such as memory.high, without a directory",
            )
        if head == "cgroup" and rest in _RUNTIMES_OWN:
            raise node.error("this file is reserved for the runtime")
        entries.append([name, value, node.pointer])
