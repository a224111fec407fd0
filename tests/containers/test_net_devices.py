"""linux.netDevices moves devices of the host's network into the container, with names and addresses.

The host's network belongs to root. An ordinary user has one in a user namespace of its own (rootlesskit, `unshare
-rn`), which the test makes. As root it makes only a network namespace, so that nothing of the machine is touched.
"""

import os

import pytest

from tests.support.checkout import TIMEOUT, driver

USER = os.geteuid() != 0
NAMESPACES = [{"type": t} for t in ("mount", "pid", "ipc", "uts", "network")]
# A pair of devices, the first with an address and up; then the program, whose argv follows.
HOST = """
import os
from struct import pack
from rootless.kernel import syscalls
from rootless.outside import netlink
syscalls.unshare(syscalls.CLONE_NEWNET | (syscalls.CLONE_NEWNS if os.geteuid() else 0))
with netlink.open_socket() as route:
    kind = netlink.attribute(18, netlink.attribute(1, b"veth"))
    flags = netlink.NLM_F_ACK | netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
    name = netlink.attribute(netlink.IFLA_IFNAME, b"host0\\0")
    netlink.request(route, netlink.RTM_NEWLINK, flags, pack("=BxHiII", 0, 0, 0, 0, 0) + name + kind)
    index = netlink.links(route)["host0"][0]
    own = b"\\x0a\\x05\\0\\x07"
    netlink.add_address(route, index, (pack("=BBBBI", 2, 24, 0, 0, 0), {1: own, 2: own}))
    netlink.set_link(route, index, up=True)
status = os.spawnv(os.P_WAIT, sys.argv[1], sys.argv[1:])
with netlink.open_socket() as route:
    print("left:", *sorted(netlink.links(route)))
    found = netlink.links(route).get("host0")
    if found:
        print("addresses:", len(netlink.permanent_addresses(route, found[0])), "up:", found[1] & 1)
sys.exit(status)
"""


@pytest.fixture
def on_host(container):
    """Return `on_host(devices, script)`, which calls `run` of a shell script where that pair is the host's network."""

    def run(devices, script, **patch):
        linux = {"netDevices": devices, "namespaces": NAMESPACES, "uidMappings": None, "gidMappings": None}
        c = container({"linux": {**linux, **patch.pop("linux", {})}, **patch})
        command = c.rootless.command("run", "-b", c.bundle.path, c.id, "--", "sh", "-c", script)
        argv = driver(HOST, *command)
        if USER:
            argv = ["unshare", "--user", "--map-root-user", *argv]
        from subprocess import DEVNULL, run

        return run(argv, stdin=DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, check=False)

    return run


def test_a_device_moves_with_its_address_and_comes_up(on_host) -> None:
    result = on_host({"host0": {}}, "ip -o addr show host0; cat /sys/class/net/host0/flags")
    assert result.returncode == 0, result.stderr
    assert "10.5.0.7/24" in result.stdout and "host0" not in result.stdout.split("left:")[1]
    assert int(result.stdout.split("left:")[0].split()[-1], 16) & 1


@pytest.mark.parametrize(("name", "shown"), [("eth0", "eth0"), ("net%d", "net0")])
def test_a_device_gets_the_name_asked_for(on_host, name, shown) -> None:
    result = on_host({"host0": {"name": name}}, f"ip -o addr show {shown}")
    assert result.returncode == 0 and "10.5.0.7/24" in result.stdout, result.stderr


def test_a_sysctl_finds_the_device(on_host) -> None:
    """Devices are in the container before config.json's sysctls are written."""
    sysctl = {"net.ipv4.conf.eth0.forwarding": "1"}
    script = "cat /proc/sys/net/ipv4/conf/eth0/forwarding"
    result = on_host({"host0": {"name": "eth0"}}, script, linux={"sysctl": sysctl})
    assert result.stdout.startswith("1\n"), result.stderr


def test_devices_come_back_when_create_fails(on_host) -> None:
    result = on_host({"host0": {"name": "eth0"}}, "true", process={"cwd": "/etc/passwd"})
    assert result.returncode == 1
    assert "host0" in result.stdout.split() and "addresses: 1 up: 1" in result.stdout


def test_a_device_that_is_not_there(on_host) -> None:
    result = on_host({"nosuch": {}}, "true")
    assert result.returncode == 1 and "/linux/netDevices/nosuch" in result.stderr and result.stderr.count("\n") == 1


def test_the_machines_devices_are_roots(container, rootless) -> None:
    if not USER:
        pytest.skip("an ordinary user is refused")
    result = container({"linux": {"netDevices": {"lo": {}}}}).create()
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "/linux/netDevices/lo" in result.stderr and "root" in result.stderr
    assert rootless.ids() == []


def test_without_a_network_namespace(container, rootless) -> None:
    namespaces = [n for n in NAMESPACES if n["type"] != "network"]
    result = container({"linux": {"netDevices": {"lo": {}}, "namespaces": namespaces}}).create()
    assert result.returncode == 1 and "/linux/netDevices" in result.stderr and "network" in result.stderr
    assert rootless.ids() == []
