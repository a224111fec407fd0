from __future__ import annotations

import os
from collections.abc import Callable
from struct import pack

import pytest

from rootless.config_node import Node
from rootless.errors import RootlessError, SpecError
from rootless.kernel import syscalls
from rootless.kernel.loopback import loopback_up
from rootless.outside import net_devices as devices
from rootless.outside import netlink
from rootless.plan.net_devices import read_net_devices
from tests.support import children

POINTER = "/linux/netDevices"


def in_namespaces(body: Callable[[], None], flags: int = syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET) -> None:
    """Run body in a child with new namespaces; its exception becomes ours."""

    def enter() -> None:
        syscalls.unshare(flags)
        body()

    children.succeeds(enter)


def open_netns() -> int:
    return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def other_netns() -> int:
    """Return an fd of a second network namespace; this thread returns to its own."""
    home = open_netns()
    syscalls.unshare(syscalls.CLONE_NEWNET)
    other = open_netns()
    syscalls.setns(home)
    os.close(home)
    return other


def add_veth(route: object, name: str) -> int:
    kind = netlink.attribute(18, netlink.attribute(1, b"veth"))  # IFLA_LINKINFO, IFLA_INFO_KIND
    payload = pack("=BxHiII", 0, 0, 0, 0, 0) + netlink.attribute(netlink.IFLA_IFNAME, name.encode() + b"\0") + kind
    netlink.request(route, netlink.RTM_NEWLINK, netlink.NLM_F_ACK | netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, payload)
    return netlink.links(route)[name][0]


V4 = (pack("=BBBBI", 2, 24, 0, 0, 0), {1: b"\x0a\x05\0\x07", 2: b"\x0a\x05\0\x07", 4: b"\x0a\x05\0\xff"})
V6 = (pack("=BBBBI", 10, 64, 0, 0, 0), {1: bytes.fromhex("fd00000000000000000000000000cafe")})


def address_bytes(route: object, index: int) -> set[bytes]:
    return {values[1] for _, values in netlink.permanent_addresses(route, index)}


def test_loopback_up() -> None:
    def body() -> None:
        with netlink.open_socket() as route:
            assert not netlink.links(route)["lo"][1] & netlink.IFF_UP
            loopback_up()
            assert netlink.links(route)["lo"][1] & netlink.IFF_UP

    in_namespaces(body)


def test_errors_are_os_errors() -> None:
    def body() -> None:
        with netlink.open_socket() as route, pytest.raises(OSError, match="No such device"):
            netlink.set_link(route, 99, up=True)

    in_namespaces(body)


def test_read() -> None:
    value = {"eth0": {"name": "in%d"}, "eth1": {}, "eth2": {"name": ""}}
    assert read_net_devices(Node(value, POINTER), private=True) == [
        ("eth0", "in%d", f"{POINTER}/eth0"),
        ("eth1", "eth1", f"{POINTER}/eth1"),
        ("eth2", "eth2", f"{POINTER}/eth2"),
    ]
    assert read_net_devices(Node(None, POINTER), private=False) == []


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([], ""),
        ({"eth0": 1}, "/eth0"),
        ({"e/h": {}}, "/e~1h"),
        ({"": {}}, "/"),
        ({"..": {}}, "/.."),
        ({"\ud800": {}}, "/\\ud800"),
        ({"eth0": {"name": "sixteen-bytes-ab"}}, "/eth0/name"),
        ({"eth0": {"name": "a b"}}, "/eth0/name"),
        ({"eth0": {"name": "a%s"}}, "/eth0/name"),
        ({"eth0": {"name": "%d%d"}}, "/eth0/name"),
        ({"eth0": {"name": "x"}, "eth1": {"name": "x"}}, "/eth1"),
    ],
)
def test_bad_input_names_its_place(value: object, place: str) -> None:
    with pytest.raises(SpecError) as error:
        read_net_devices(Node(value, POINTER), private=True)
    assert error.value.where == POINTER + place


def test_needs_a_network_namespace() -> None:
    with pytest.raises(SpecError, match="network namespace"):
        read_net_devices(Node({"eth0": {}}, POINTER), private=False)


def test_moved_with_name_and_addresses_and_back() -> None:
    def body() -> None:
        target = other_netns()
        with netlink.open_socket() as here, devices._socket_in(target, ("", "", "")) as there:
            for address in (V4, V6):
                netlink.add_address(here, add_veth(here, "v1") if address is V4 else _index(here, "v1"), address)
            netlink.set_link(here, _index(here, "v1"), up=True)
            moved = devices.apply_net_devices([("v1", "inside", "/p")], target)
            assert "v1" not in netlink.links(here)
            index, flags, _ = netlink.links(there)["inside"]
            assert flags & netlink.IFF_UP
            assert address_bytes(there, index) == {V4[1][1], V6[1][1]}

            devices.undo_net_devices(moved, target)
            assert "inside" not in netlink.links(there)
            assert address_bytes(here, _index(here, "v1")) == {V4[1][1], V6[1][1]}
            assert netlink.links(here)["v1"][1] & netlink.IFF_UP

    in_namespaces(body)


def test_template_is_numbered_by_the_kernel() -> None:
    def body() -> None:
        target = other_netns()
        with netlink.open_socket() as here, devices._socket_in(target, ("", "", "")) as there:
            add_veth(here, "v1")
            add_veth(here, "v2")
            devices.apply_net_devices([("v1", "eth%d", "/p"), ("v2", "eth%d", "/p")], target)
            assert {"eth0", "eth1"} <= set(netlink.links(there))

    in_namespaces(body)


def test_all_or_nothing() -> None:
    def body() -> None:
        target = other_netns()
        with netlink.open_socket() as here, devices._socket_in(target, ("", "", "")) as there:
            add_veth(here, "v1")
            add_veth(here, "v2")
            with pytest.raises(RootlessError, match="exists in the container") as error:
                devices.apply_net_devices([("v1", "x", "/p"), ("v2", "lo", "/linux/netDevices/v2")], target)
            assert error.value.where == "/linux/netDevices/v2"
            assert {"v1", "v2"} <= set(netlink.links(here))
            assert "x" not in netlink.links(there)
            with pytest.raises(RootlessError, match="no network device nope"):
                devices.apply_net_devices([("nope", "x", "/p")], target)

    in_namespaces(body)


def test_hosts_device_is_refused_to_an_ordinary_user() -> None:
    """The caller is in a user namespace that has no rights over its network namespace."""

    uid, gid = os.geteuid(), os.getegid()

    def body() -> None:
        with open("/proc/self/uid_map", "w") as file:  # unmapped ids make no user namespace: user_namespaces(7)
            file.write(f"0 {uid} 1")
        with open("/proc/self/setgroups", "w") as file:
            file.write("deny")
        with open("/proc/self/gid_map", "w") as file:
            file.write(f"0 {gid} 1")
        syscalls.unshare(syscalls.CLONE_NEWNET)  # the "host": of the outer user namespace
        target = open_netns()
        with pytest.raises(RootlessError, match=r"EPERM.*root's to move") as error:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            devices.apply_net_devices([("lo", "x", "/linux/netDevices/lo")], target)
        assert error.value.where == "/linux/netDevices/lo"

    in_namespaces(body, syscalls.CLONE_NEWUSER)


def _index(route: object, name: str) -> int:
    return netlink.links(route)[name][0]
