"""`update`: change the limits of a running container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.cgroup import files
from rootless.cli.containers import load
from rootless.config_node import Node
from rootless.errors import RootlessError, SpecError, printable
from rootless.kernel.files import read_at_most
from rootless.kernel.host import Host
from rootless.kernel.units import parse_size
from rootless.outside import resctrl
from rootless.plan.intel_rdt import compile_intel_rdt
from rootless.runtime.container import Container
from rootless.startup.jsonlite import loads

if TYPE_CHECKING:
    from rootless.cli.options import Options

    Resources = dict[str, Any]

_LIMIT = 16 << 20  # bytes of --resources, as of config.json
# flag: (the property of linux.resources, the kind of its value)
_FLAGS = {
    "memory": ("memory/limit", "size"),
    "memory_reservation": ("memory/reservation", "size"),
    "memory_swap": ("memory/swap", "size"),
    "cpu_share": ("cpu/shares", "number"),
    "cpu_quota": ("cpu/quota", "number"),
    "cpu_period": ("cpu/period", "number"),
    "cpu_burst": ("cpu/burst", "number"),
    "cpu_idle": ("cpu/idle", "number"),
    "cpu_rt_period": ("cpu/realtimePeriod", "number"),
    "cpu_rt_runtime": ("cpu/realtimeRuntime", "number"),
    "cpuset_cpus": ("cpu/cpus", "text"),
    "cpuset_mems": ("cpu/mems", "text"),
    "blkio_weight": ("blockIO/weight", "number"),
    "pids_limit": ("pids/limit", "number"),
}


def main(options: Options) -> int:
    """Run `rootless update [FLAG...] ID`. A flag wins over the same property in --resources."""
    schemata = [line for line in (options.l3_cache_schema, options.mem_bw_schema) if line]
    changes = _read(options.resources) if options.resources else {}
    for flag, (place, kind) in _FLAGS.items():
        if getattr(options, flag):
            section, _, key = place.partition("/")
            changes.setdefault(section, {})[key] = _value(flag, getattr(options, flag), kind)
    if not changes and not schemata:
        raise RootlessError("update: nothing to change", hint="give --resources or a flag, see update --help")
    with load(options, lock=True) as container:
        container.require("created", "running", "paused", action="update")
        if changes:
            apply(container, changes)
        if schemata:
            _apply_schemata(container, schemata)
    return 0


def _apply_schemata(container: Container, lines: list[str]) -> None:
    """Change the schemata of the container's resctrl group. Raises RootlessError."""
    node = Node(container.config)["linux"]["intelRdt"]
    if not node:
        raise RootlessError("the container has no Intel RDT group", "/linux/intelRdt")
    step = compile_intel_rdt(node, Host())
    resctrl.write_schemata(resctrl.class_path(step, container.container_id, step.mount), lines, step.mount)


def apply(container: Container, changes: Resources) -> None:
    """Write the changed limits to the cgroup, all or none, and store them in state.json. Raises RootlessError."""
    before: Resources = container.state.get("resources") or container.config.get("linux", {}).get("resources") or {}
    memory = changes.get("memory")
    if isinstance(memory, dict) and memory.get("limit") == -1 and memory.get("swap") is None:
        memory["swap"] = -1  # swap is memory plus swap (config-linux.md#memory): without a limit of memory it has none
    merged = _merge(before, changes)
    record = container.cgroup_record
    known = [[file, value] for file, value, _ in record.get("files", [])]
    entries = files.compile_files(Node(merged))
    touched = [e for e in entries if e[2].split("/")[1] in changes or [e[0], e[1]] not in known]
    group = container.cgroup()
    if not group.path and all(files.asks_nothing(file, value) for file, value, _ in touched):
        return
    check = Node(merged)["memory"]
    if check["checkBeforeUpdate"].boolean() and (limit := check["limit"].integer()) > 0:
        used = int(group.read("memory.current") or 0)
        if used > limit:
            raise check["limit"].error(f"is {limit}, below the current usage {used}")
    group.apply(touched)
    record["files"] = [e for e in entries if not files.is_default(e[0], e[1])]
    container.state["resources"] = merged
    container.save()


def _read(path: str) -> Resources:
    """Return linux.resources from a JSON file, or from standard input for "-" (--resources). Raises RootlessError."""
    try:
        data = read_at_most(_LIMIT, 0 if path == "-" else path)
        if len(data) > _LIMIT:
            raise RootlessError(f"the resources are larger than {_LIMIT >> 20} MiB", path)
        changes = loads(data)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot read the resources") from None
    except ValueError as error:
        raise RootlessError(f"not JSON: {error}", path) from None
    if type(changes) is not dict:
        raise SpecError("found something other than an object, allowed is linux.resources", path)
    # The device filter cannot change after `create`, like in runc. Clients send the old rules again, so drop them.
    changes.pop("devices", None)
    return changes


def _merge(before: Resources, changes: Resources) -> Resources:
    """Return `before` with `changes` merged in, objects member by member; a null keeps the old value."""
    merged = dict(before)
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(before.get(key), dict):
            merged[key] = _merge(before[key], value)
        elif value is not None:
            merged[key] = value
    return merged


def _value(flag: str, text: str, kind: str) -> str | int:
    if kind == "text":
        return text
    try:
        if kind == "size":
            return -1 if text == "-1" else parse_size(text)
        return int(text)
    except ValueError:
        hint = "a number with b, k, m, g, t or p, or -1 for no limit" if kind == "size" else "a whole number"
        what = f"invalid value {printable(repr(text))} for --{flag.replace('_', '-')}"
        raise RootlessError(what, hint=hint) from None
