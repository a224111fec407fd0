"""Move network devices of the host into the container (linux.netDevices, config-linux.md#network-devices).

The runtime moves them, because only it is in the host's network namespace. It does not take them back when the
container ends: the kernel returns physical devices when the namespace ends, and virtual ones end with it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from rootless.errors import RootlessError, advice, printable
from rootless.kernel import syscalls
from rootless.outside import netlink

if TYPE_CHECKING:
    from socket import socket

    from rootless.steps.outside import NetDevice

    Moved = tuple[int, bool, NetDevice]  # index in the container, whether it was up, what was asked


def apply_net_devices(devices: list[NetDevice], netns_fd: int) -> list[Moved]:
    """Move devices of this network namespace into another, with names and addresses, and set them up.

    Return the list for undo_net_devices. After a failure the devices that were moved are back in place. Raises
    RootlessError with the JSON pointer.
    """
    moved: list[Moved] = []
    if not devices:
        return moved
    with netlink.open_socket() as here:
        try:
            with _socket_in(netns_fd, devices[0]) as there:
                for device in devices:
                    _move_in(here, there, netns_fd, device, moved)
        except BaseException:
            undo_net_devices(moved, netns_fd)
            raise
    return moved


def undo_net_devices(moved: list[Moved], netns_fd: int) -> None:
    """Move devices back, with their old names, addresses and state. Raises RootlessError."""
    for index, was_up, device in reversed(moved):
        with netlink.open_socket() as here, _socket_in(netns_fd, device) as there:
            try:
                addresses = netlink.permanent_addresses(there, index)
                home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    netlink.set_link(there, index, name=device[0], netns_fd=home)
                finally:
                    os.close(home)
                _settle(here, netlink.links(here)[device[0]][0], addresses, up=was_up)
            except OSError as error:
                raise _failed(error, "bring back", device) from None
    moved.clear()


def _move_in(here: socket, there: socket, netns_fd: int, device: NetDevice, moved: list[Moved]) -> None:
    name, new_name, pointer = device
    link = netlink.links(here).get(name)
    if link is None:
        raise RootlessError(f"no network device {printable(name)} on the host", pointer)
    before = netlink.links(there)
    if new_name in before:
        raise RootlessError(
            f"network device {printable(new_name)} exists in the container's network namespace already",
            pointer,
            hint="give another name, or a template such as eth%d",
        )
    try:
        addresses = netlink.permanent_addresses(here, link[0])
        netlink.set_link(here, link[0], name=None if new_name == name else new_name, netns_fd=netns_fd)
        after = netlink.links(there)
        # The kernel chooses another index if this one is taken, and the name if new_name is a template.
        index = after[new_name][0] if new_name in after else next(after[n][0] for n in after if n not in before)
        moved.append((index, bool(link[1] & netlink.IFF_UP), device))
        _settle(there, index, addresses, up=True)
    except OSError as error:
        raise _failed(error, "move", device) from None


def _settle(route: socket, index: int, addresses: list[netlink.Address], *, up: bool) -> None:
    """Restore addresses and state, because the kernel drops both when a link moves to another namespace."""
    for address in addresses:
        netlink.add_address(route, index, address)
    if up:
        netlink.set_link(route, index, up=True)


def _socket_in(netns_fd: int, device: NetDevice) -> netlink.RouteSocket:
    """Open a route socket in another network namespace. Raises RootlessError."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(netns_fd, syscalls.CLONE_NEWNET)
        try:
            return netlink.open_socket()
        finally:
            syscalls.setns(home, syscalls.CLONE_NEWNET)
    except OSError as error:
        raise _failed(error, "move", device) from None
    finally:
        os.close(home)


def _failed(error: OSError, verb: str, device: NetDevice) -> RootlessError:
    hint = ""
    if error.errno in (errno.EPERM, errno.EACCES):
        hint = advice("net-device-of-host")
    return RootlessError.from_os(error, f"cannot {verb} network device {printable(device[0])}", device[2], hint)
