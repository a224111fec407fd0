"""Compile `linux.netDevices` (config-linux.md#network-devices). Pure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless.errors import printable

if TYPE_CHECKING:
    from rootless.config_node import Node
    from rootless.steps.outside import NetDevice


def read_net_devices(node: Node, *, private: bool) -> list[NetDevice]:
    """Return linux.netDevices as (name, new name, JSON pointer).

    private: whether the container has a network namespace of its own. Raises SpecError for names that the kernel
    refuses, for two devices with the same new name, and for a container without its own network namespace.
    """
    devices: list[NetDevice] = []
    taken: dict[str, str] = {}
    for name, device in node.members():
        if not _is_valid(name):
            raise device.error("is not a name of a network device")
        new_name = device["name"].string() or name
        if not _is_valid(new_name.replace("%d", "0", 1)):
            raise device["name"].wrong("a device name of 1 to 15 bytes without '/', ':', '%' (but one %d) and blanks")
        if new_name in taken and "%d" not in new_name:
            raise device.error(f"gets the name {printable(new_name)}, which {printable(taken[new_name])} gets too")
        taken[new_name] = name
        devices.append((name, new_name, device.pointer))
    if devices and not private:
        what, hint = "needs a network namespace of the container's own", 'add {"type": "network"} to /linux/namespaces'
        node.refuse(what, hint, about="/linux/namespaces")
    return devices


def _is_valid(name: str) -> bool:
    """Return whether the kernel accepts a device name (dev_valid_name in net/core/dev.c)."""
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError:  # a lone surrogate, which is not a character
        return False
    return 0 < len(raw) < 16 and name not in (".", "..") and not any(c in b"/:% \t\n\v\f\r\xa0" for c in raw)
