"""Compile `linux.intelRdt` (config-linux.md#intelrdt). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless.errors import SpecError, advice
from rootless.steps.outside import EnterResctrlGroup

if TYPE_CHECKING:
    from rootless.config_node import Node
    from rootless.kernel.host import Host

_RESERVED = ("info", "mon_groups", "mon_data")  # the kernel's own directories


def compile_intel_rdt(node: Node, host: Host) -> EnterResctrlGroup:
    """Return linux.intelRdt as a step. Raises SpecError, also if resctrl is not mounted."""
    step = read_intel_rdt(node)
    if not host.resctrl:
        raise SpecError(
            "no resctrl file system is mounted",
            node.pointer,
            hint=advice("no-resctrl"),
        )
    step.mount = host.resctrl
    return step


def read_intel_rdt(node: Node) -> EnterResctrlGroup:
    """Return linux.intelRdt as a step whose `mount` is still "". Raises SpecError."""
    clos = node["closID"]
    clos_id = clos.string()
    if clos_id != "/" and ("/" in clos_id or "\n" in clos_id or clos_id in (".", "..", *_RESERVED)):
        raise clos.wrong('a directory name, or "/" for the default class')
    l3 = node["l3CacheSchema"].string()
    bandwidth = node["memBwSchema"]
    mb = bandwidth.string()
    if bandwidth and (not mb.startswith("MB:") or "\n" in mb):
        raise bandwidth.wrong("one line that starts with MB:")
    lines = []
    for item in node["schemata"].items():
        line = item.required().string()
        if "\n" in line:
            raise item.wrong("one line, an element for each")
        lines.append(line)
    l3_and_mb = [line for line in [*l3.split("\n"), mb] if line]
    return EnterResctrlGroup(clos_id, l3_and_mb, lines, monitoring=node["enableMonitoring"].boolean())
