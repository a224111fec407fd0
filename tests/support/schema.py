"""The shape of config.json as data, written from runtime-spec 1.3 (config.md, config-linux.md).

A kind is one of: bool, str; a range of whole numbers; a tuple of the allowed strings; a compiled pattern; [kind] for an
array; {"*": kind} for an object of free names; {name: kind} for an object, where "name!" is required and names beyond
these are extensions.
"""

import re
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Kind = Any
Place = tuple[Any, ...]

_ENDLESS = 2**80  # for what the spec sets no limit to
U16, U32, U64 = range(2**16), range(2**32), range(2**64)
I32, I64 = range(-(2**31), 2**31), range(-(2**63), 2**63)
_CPUS = re.compile(r"[0-9, -]*")
_MAPPING = {"containerID!": U32, "hostID!": U32, "size!": U32}
_STRINGS = {"*": str}
_HOOK = {"path!": str, "args": [str], "env": [str], "timeout": range(1, _ENDLESS)}

_MOMENTS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

_PROCESS = {
    "terminal": bool,
    "consoleSize": {"height!": U64, "width!": U64},
    "user": {"uid": U32, "gid": U32, "umask": U32, "additionalGids": [U32], "username": str},
    "args": [str],
    "commandLine": str,
    "env": [str],
    "cwd!": str,
    "capabilities": {kind: [str] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")},
    "rlimits": [{"type!": re.compile("RLIMIT_[A-Z]+"), "soft!": U64, "hard!": U64}],
    "noNewPrivileges": bool,
    "apparmorProfile": str,
    "selinuxLabel": str,
    "oomScoreAdj": range(-_ENDLESS, _ENDLESS),
    "scheduler": {
        "policy!": ("SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE",
                    "SCHED_DEADLINE"),
        "nice": I32, "priority": I32, "runtime": U64, "deadline": U64, "period": U64,
        "flags": [("SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN",
                   "SCHED_FLAG_KEEP_POLICY", "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN",
                   "SCHED_FLAG_UTIL_CLAMP_MAX")],
    },
    "ioPriority": {"class!": ("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"), "priority": I32},
    "execCPUAffinity": {"initial": _CPUS, "final": _CPUS},
}  # fmt: skip

_DEVICE_NUMBERS = {"major!": I64, "minor!": I64}
_THROTTLE = [{**_DEVICE_NUMBERS, "rate": U64}]
_RESOURCES = {
    "unified": _STRINGS,
    "devices": [{"allow!": bool, "type": str, "major": I64, "minor": I64, "access": str}],
    "pids": {"limit!": I64},
    "blockIO": {
        "weight": U16, "leafWeight": U16, "weightDevice": [{**_DEVICE_NUMBERS, "weight": U16, "leafWeight": U16}],
        "throttleReadBpsDevice": _THROTTLE, "throttleWriteBpsDevice": _THROTTLE,
        "throttleReadIOPSDevice": _THROTTLE, "throttleWriteIOPSDevice": _THROTTLE,
    },
    "cpu": {"cpus": str, "mems": str, "period": U64, "quota": I64, "burst": U64, "realtimePeriod": U64,
            "realtimeRuntime": I64, "shares": U64, "idle": I64},
    "hugepageLimits": [{"pageSize!": re.compile("[1-9][0-9]*[KMG]B"), "limit!": U64}],
    "memory": {**dict.fromkeys(("kernel", "kernelTCP", "limit", "reservation", "swap"), I64), "swappiness": U64,
               **dict.fromkeys(("disableOOMKiller", "useHierarchy", "checkBeforeUpdate"), bool)},
    "network": {"classID": U32, "priorities": [{"name!": str, "priority!": U32}]},
    "rdma": {"*": {"hcaHandles": U32, "hcaObjects": U32}},
}  # fmt: skip

_ACTIONS = tuple(f"SCMP_ACT_{name}" for name in (
    "KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY"))  # fmt: skip
_SECCOMP = {
    "defaultAction!": _ACTIONS,
    "defaultErrnoRet": U32,
    "flags": [tuple(f"SECCOMP_FILTER_FLAG_{name}" for name in ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"))],
    "listenerPath": str,
    "listenerMetadata": str,
    "architectures": [tuple(f"SCMP_ARCH_{name}" for name in (
        "X86", "X86_64", "X32", "ARM", "AARCH64", "LOONGARCH64", "M68K", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL",
        "MIPSEL64", "MIPSEL64N32", "PPC", "PPC64", "PPC64LE", "S390", "S390X", "SH", "SHEB", "PARISC", "PARISC64",
        "RISCV64"))],
    "syscalls": [{
        "names!": [str], "action!": _ACTIONS, "errnoRet": U32,
        "args": [{"index!": U32, "value!": U64, "valueTwo": U64,
                  "op!": tuple(f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))}],
    }],
}  # fmt: skip

_LINUX = {
    "devices": [{"type!": re.compile("[cbup]"), "path!": str, "major": I64, "minor": I64, "fileMode": range(0o1000),
                 "uid": U32, "gid": U32}],
    "netDevices": {"*": {"name": str}},
    "uidMappings": [_MAPPING],
    "gidMappings": [_MAPPING],
    "namespaces": [{"type!": ("mount", "pid", "network", "uts", "ipc", "user", "cgroup", "time"), "path": str}],
    "resources": _RESOURCES,
    "cgroupsPath": str,
    "rootfsPropagation": ("private", "shared", "slave", "unbindable"),
    "seccomp": _SECCOMP,
    "sysctl": _STRINGS,
    "maskedPaths": [str],
    "readonlyPaths": [str],
    "mountLabel": str,
    "intelRdt": {"closID": str, "schemata": [str], "l3CacheSchema": str, "memBwSchema": re.compile("MB:[^\n]*"),
                 "enableMonitoring": bool},
    "memoryPolicy": {
        "mode": tuple(f"MPOL_{name}" for name in (
            "DEFAULT", "BIND", "INTERLEAVE", "WEIGHTED_INTERLEAVE", "PREFERRED", "PREFERRED_MANY", "LOCAL")),
        "nodes": str,
        "flags": [("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES")],
    },
    "personality": {"domain": ("LINUX", "LINUX32"), "flags": [str]},
    "timeOffsets": {clock: {"secs": I64, "nanosecs": U32} for clock in ("boottime", "monotonic")},
}  # fmt: skip

CONFIG: dict[str, Any] = {
    "ociVersion!": str,
    "hooks": {moment: [_HOOK] for moment in _MOMENTS},
    "annotations": _STRINGS,
    "hostname": str,
    "domainname": str,
    "mounts": [{"source": str, "destination!": str, "options": [str], "type": str, "uidMappings": [_MAPPING],
                "gidMappings": [_MAPPING]}],
    "root": {"path!": str, "readonly": bool},
    "process": _PROCESS,
    "linux": _LINUX,
}  # fmt: skip

# Where rootless takes more, on purpose: the place ("*" is any element) and what is taken there.
DIFFERENCES: dict[Place, Kind] = {
    # Go's encoders write the file type into the mode too; it is masked away.
    ("linux", "devices", "*", "fileMode"): range(2**16),
    # What asks for nothing passes.
    ("linux", "resources", "pids"): {"limit": I64},
    # runc takes the recursive forms, and podman writes them.
    ("linux", "rootfsPropagation"): (
        "private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable"
    ),
}  # fmt: skip


def relaxed(kind: Kind, at: Place = ()) -> Kind:
    """The kind with the DIFFERENCES in it."""
    if at in DIFFERENCES:
        return DIFFERENCES[at]
    if isinstance(kind, list):
        return [relaxed(kind[0], (*at, "*"))]
    if isinstance(kind, dict):
        return {key: relaxed(below, (*at, key.rstrip("!"))) for key, below in kind.items()}
    return kind


def accepts(kind: Kind, value: Any) -> bool:
    """Whether a JSON value is of the kind."""
    if kind in (bool, str):
        return type(value) is kind
    if isinstance(kind, range):
        return type(value) is int and value in kind
    if isinstance(kind, tuple):
        return value in kind
    if isinstance(kind, re.Pattern):
        return isinstance(value, str) and kind.fullmatch(value) is not None
    if isinstance(kind, list):
        return isinstance(value, list) and all(accepts(kind[0], item) for item in value)
    if not isinstance(value, dict) or any(key.endswith("!") and key[:-1] not in value for key in kind):
        return False
    return all(accepts(below, value[key]) for key, below in members(kind, value))


def members(kind: dict[str, Kind], value: dict[str, Any]) -> Iterator[tuple[str, Kind]]:
    """The members of an object that its kind speaks of."""
    for key in value:
        below = kind.get("*", kind.get(key, kind.get(key + "!")))
        if below is not None:
            yield key, below


def wrong_values(kind: Kind) -> list[Any]:
    """Values that are not of the kind: every other JSON type, and what is just outside of it."""
    values = [True, 7, 1.5, "text", [], ["text"], {}, {"text": 1}]
    if isinstance(kind, range):
        values += [n for n in (kind.start - 1, kind.stop, -(2**70), 2**70) if abs(n) < _ENDLESS]
    if isinstance(kind, tuple):
        values += ["", kind[0].lower() + "x", kind[0] + " "]
    return [value for value in values if not accepts(kind, value)]


def violations(kind: Kind, value: Any, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """All single changes of a valid value that make it invalid: (place, wrong value), None to take a member away."""
    yield from ((at, wrong) for wrong in wrong_values(kind))
    if isinstance(kind, list):
        for index, item in enumerate(value):
            yield from violations(kind[0], item, (*at, index))
    elif isinstance(kind, dict):
        yield from (((*at, key[:-1]), None) for key in kind if key.endswith("!"))
        for key, below in members(kind, value):
            yield from violations(below, value[key], (*at, key))


def leaves(kind: Kind, value: Any, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Each place of a value that holds neither object nor array, with what is there."""
    if isinstance(kind, list):
        for index, item in enumerate(value):
            yield from leaves(kind[0], item, (*at, index))
    elif isinstance(kind, dict):
        for key, below in members(kind, value):
            yield from leaves(below, value[key], (*at, key))
    else:
        yield at, value


def values(kind: Kind) -> st.SearchStrategy[Any]:
    """Valid values, small ones first."""
    if kind is bool:
        return st.booleans()
    if kind is str:
        return st.one_of(st.sampled_from(["", "/", "/dev/x", "tmpfs", "bind", "ro", "A=1", "0"]), st.text(max_size=4))
    if isinstance(kind, range):
        low, high = max(kind.start, -2), min(kind.stop - 1, 9)
        return st.one_of(st.integers(low, high), st.integers(kind.start, kind.stop - 1))
    if isinstance(kind, tuple):
        return st.sampled_from(kind)
    if isinstance(kind, re.Pattern):
        return st.from_regex(kind, fullmatch=True)
    if isinstance(kind, list):
        return st.lists(values(kind[0]), max_size=2)
    if "*" in kind:
        return st.dictionaries(st.text(max_size=5), values(kind["*"]), max_size=2)
    return _objects(kind)


@st.composite
def _objects(draw: st.DrawFn, kind: dict[str, Kind]) -> dict[str, Any]:
    """What is required, and a few of the rest."""
    needed = [key for key in kind if key.endswith("!")]
    others = [key for key in kind if not key.endswith("!")]
    chosen = draw(st.lists(st.sampled_from(others), max_size=4, unique=True)) if others else []
    return {key.rstrip("!"): draw(values(kind[key])) for key in needed + chosen}


def changed(config: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """A copy with another value at a place (None: without it); what is not on the way is shared."""
    copied: dict[str, Any] = dict(config)
    target: Any = copied
    for key in place[:-1]:
        below = target[key]
        target[key] = dict(below) if isinstance(below, dict) else list(below)
        target = target[key]
    if value is None and (isinstance(target, list) or place[-1] in target):
        del target[place[-1]]
    elif value is not None:
        target[place[-1]] = value
    return copied
