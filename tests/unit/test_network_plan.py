"""The plan of a connected network: which engine with which arguments, the names inside, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from oci.config import default_config
from rootless.config_node import Node
from rootless.errors import RootlessError
from rootless.kernel.host import Host
from rootless.kernel.network_facts import _gateway4, _gateway6
from rootless.plan.namespaces import compile_namespaces
from rootless.plan.network import compile_network, mount_names, ports_of, read_port
from rootless.plan.settings import Settings, apply_settings
from rootless.steps.network import ConnectNetwork

OLD, NEW = "  --dns-forward ADDR", "  --dns-forward ADDR\n  --map-host-loopback ADDR"
BOTH = {"pasta": "/usr/bin/pasta", "slirp4netns": "/usr/bin/slirp4netns"}
RESOLV = {"/etc/resolv.conf": "nameserver 192.0.2.53\nsearch example.org\n", "/etc/hosts": "127.0.0.1 localhost\n"}


class Machine(Host):
    """Describe a machine with what the test names, and without other files that say how names are resolved."""

    def text(self, path: str) -> str:
        return self.texts.get(path, "")

    def exists(self, path: str) -> bool:
        return path.startswith("/etc") or path == "/full/etc/hosts"

    def is_directory(self, path: str) -> bool:
        return path == "/full/etc"

    def is_writable(self, path: str) -> bool:
        return path.startswith("/own")

    def owner_of(self, path: str) -> int:
        return 100005 if path == "/mapped" else 0


def machine(**facts: Any) -> Machine:
    user = {"uid": 1000, "gid": 1000, "is_root_here": False, "is_root_on_host": False, "subuid": [], "subgid": []}
    network = {"engines": BOTH, "pasta_help": NEW, "gateways": ("192.0.2.1", "fe80::1"), "texts": RESOLV}
    return Machine(**{**user, "in_userns": False, **network, **facts})


def step(host: Host, **settings: Any) -> ConnectNetwork:
    """Return the step that flags lead to."""
    spec = apply_settings(default_config(True, 1000, 1000), Settings(base="/", bundle="/b", **settings), host)
    made = compile_network(Node(spec)["annotations"], compile_namespaces(Node(spec)["linux"], host), host)
    assert made
    return made


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("8080:80", "8080:80/tcp"), ("53:53/udp", "53:53/udp"), ("127.0.0.1:1:2/tcp", "127.0.0.1:1:2/tcp"),
        ("[::1]:8080:80", "[::1]:8080:80/tcp"), ("53:53/UDP", "53:53/udp"), ("0.0.0.0:65535:1", "0.0.0.0:65535:1/tcp"),
    ],
)  # fmt: skip
def test_a_port(text: str, port: str) -> None:
    assert str(read_port(text)) == port and str(read_port(port)) == port


@pytest.mark.parametrize(
    "text",
    [
        "", "80", ":80", "80:", "0:80", "80:0", "65536:1", "a:b", "1:2:3", "::1:8080:80", "[::1]8080:80", "[::1:1:2",
        "8080:80/sctp", "8080:80/", "300.0.0.1:1:2", "[127.0.0.1]:1:2:3", "host:1:2", "-1:80", "8000-8010:8000", "٣:80",
    ],
)  # fmt: skip
def test_what_is_not_a_port(text: str) -> None:
    with pytest.raises(RootlessError) as caught:
        apply_settings(default_config(True, 1000, 1000), Settings(base="/", publish=[text]), machine())
    assert caught.value.where.startswith("--publish") and "[IP:]HOST:CONTAINER[/udp]" in caught.value.hint


def test_pasta_gets_exactly_what_is_published() -> None:
    made = step(machine(), publish=["8080:80", "[::1]:53:5353/udp"])
    assert (made.engine, made.program) == ("pasta", "/usr/bin/pasta")
    text = " ".join(made.args)
    assert "-t 8080:80 -u ::1/53:5353 -T none -U none" in text
    assert "-t none -u none -T none -U none" in " ".join(step(machine(), network="auto").args)


def test_the_name_of_the_host() -> None:
    """It means the gateway under an old pasta, unless that needs a scope, and an address of its own under a new one."""
    new, old = step(machine(), network="pasta"), step(machine(pasta_help=OLD), network="pasta")
    assert "--map-host-loopback 169.254.1.2" in " ".join(new.args)
    assert "169.254.1.2 host.rootless.internal\n" in new.names["hosts"]
    assert old.names["hosts"] == "127.0.0.1 localhost\n192.0.2.1 host.rootless.internal\n"
    assert "10.0.2.2 host.rootless.internal\n" in step(machine(), network="slirp4netns").names["hosts"]


@pytest.mark.parametrize(("engine", "flag"), [("pasta", "--no-map-gw"), ("slirp4netns", "--disable-host-loopback")])
def test_the_hosts_loopback_can_be_left_out(engine: str, flag: str) -> None:
    made = step(machine(), network=engine, no_host_loopback=True)
    assert flag in made.args and "host.rootless.internal" not in made.names["hosts"]


@pytest.mark.parametrize(
    ("servers", "resolved", "expected"),
    [
        ("192.0.2.53", "", "192.0.2.53"),
        ("127.0.0.53", "nameserver 192.0.2.53\n", "192.0.2.53"),  # systemd-resolved keeps the real ones
        ("127.0.0.1", "", "engine's"),  # dnsmasq
        ("fe80::1%eth0", "", "engine's"),
        ("", "", "engine's"),
    ],
)
@pytest.mark.parametrize(("engine", "own"), [("pasta", "169.254.1.1"), ("slirp4netns", "10.0.2.3")])
def test_name_servers(engine: str, own: str, servers: str, resolved: str, expected: str) -> None:
    texts = {"/etc/resolv.conf": f"nameserver {servers}\noptions edns0\nsearch example.org\n"}
    host = machine(texts={**texts, "/run/systemd/resolve/resolv.conf": resolved})
    made = step(host, network=engine)
    server = own if expected == "engine's" else expected
    assert made.names["resolv.conf"] == f"nameserver {server}\noptions edns0\nsearch example.org\n"
    assert ("--dns-forward" in made.args) == (engine == "pasta" and expected == "engine's")


def test_a_name_server_that_means_the_host_inside() -> None:
    """Under an old pasta the gateway is the host itself, so a router that resolves names gets another address."""
    texts = {"/etc/resolv.conf": "nameserver 192.0.2.1\n"}
    assert step(machine(texts=texts), network="pasta").names["resolv.conf"] == "nameserver 192.0.2.1\n"
    old = step(machine(texts=texts, pasta_help=OLD), network="pasta")
    assert old.names["resolv.conf"] == "nameserver 169.254.1.1\n"


def test_udp_under_another_number() -> None:
    """An old pasta loses the replies, so `auto` takes slirp4netns, and --network pasta says why it cannot be used."""
    remapped = ["5353:53/udp"]
    assert step(machine(), publish=remapped).engine == "pasta"
    assert step(machine(pasta_help=OLD), publish=remapped).engine == "slirp4netns"
    assert step(machine(pasta_help=OLD), publish=["53:53/udp", "8080:80"]).engine == "pasta"
    for engines, network in ((BOTH, "pasta"), ({"pasta": "/usr/bin/pasta"}, "auto")):
        with pytest.raises(RootlessError, match=r"loses the replies of a UDP port.*5353:53/udp"):
            step(machine(pasta_help=OLD, engines=engines), network=network, publish=remapped)


def test_one_number_on_two_addresses() -> None:
    """An old pasta ends with "Overlapping port specifier", so `auto` takes slirp4netns where all addresses are IPv4."""
    two = ["127.0.0.1:8080:80", "192.0.2.1:8080:80"]
    assert step(machine(), publish=two).engine == "pasta"
    assert step(machine(pasta_help=OLD), publish=two).engine == "slirp4netns"
    assert step(machine(pasta_help=OLD), publish=["8080:80", "8080:80/udp"], network="slirp4netns")
    assert step(machine(pasta_help=OLD), publish=["8080:8080", "8080:8080/udp"]).engine == "pasta"
    for ports, network in ((two, "pasta"), (["127.0.0.1:8080:80", "[::1]:8080:80"], "auto")):
        with pytest.raises(RootlessError, match=r"not on two: .*:8080:80/tcp") as caught:
            step(machine(pasta_help=OLD), network=network, publish=ports)
        assert "leave the addresses out" in caught.value.hint


def test_a_range_of_ports_and_dockers_bridge_say_what_does_it() -> None:
    with pytest.raises(RootlessError, match="no ranges of ports"):
        step(machine(), publish=["8000-8010:8000-8010"])
    with pytest.raises(RootlessError, match="unknown network") as caught:
        step(machine(), network="bridge")
    assert caught.value.hint.startswith("auto ")


def test_engines_that_are_not_installed() -> None:
    none = machine(engines={})
    with pytest.raises(RootlessError, match="neither pasta nor slirp4netns is installed: --network auto") as caught:
        step(none, network="auto")
    for system in ("Debian", "Fedora", "Alpine", "Arch", "openSUSE", "passt"):
        assert system in caught.value.hint
    with pytest.raises(RootlessError, match="slirp4netns is not installed"):
        step(machine(engines={"pasta": "/usr/bin/pasta"}), network="slirp4netns")
    assert step(machine(engines={"slirp4netns": "/s"}), network="auto").engine == "slirp4netns"


def test_a_host_without_a_default_route() -> None:
    alone = {"gateways": ("", "")}
    assert step(machine(**alone), network="auto").engine == "pasta"
    assert step(machine(**alone, pasta_help=OLD), network="auto").engine == "slirp4netns"
    with pytest.raises(RootlessError, match="needs a default route"):
        step(machine(**alone, pasta_help=OLD), network="pasta")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"network": "host", "publish": ["1:1"]}, "the host's network has the container's ports already"),
        ({"network": "none", "publish": ["1:1"]}, "no engine connects it: --network none"),
        ({"no_host_loopback": True}, "no engine connects the container"),
        ({"publish": ["1:1", "1:1/tcp"]}, "port 1/tcp is published twice"),
        ({"publish": ["8080:80", "127.0.0.1:8080:80"]}, "port 8080/tcp is published twice"),
        ({"publish": ["127.0.0.1:8080:80", "0.0.0.0:8080:80"]}, "port 8080/tcp is published twice"),
        ({"network": "slirp4netns", "publish": ["[::1]:1:1"]}, "IPv4 only"),
        ({"network": "pasta", "publish": ["127.0.0.1:1:1", "127.0.0.2:1:2"]}, "different ports of the container"),
        ({"network": "pastas"}, "unknown network: --network pastas"),
        ({"network": "auto", "annotations": ["org.rootless.network=host"]}, "found 'host'"),
        ({"network": "auto", "annotations": ["org.rootless.publish=8080"]}, "the port of the container is missing"),
        ({"annotations": ["org.rootless.publish=1:1"]}, "no engine connects the container"),
        ({"network": "host", "annotations": ["org.rootless.network=auto"]}, "needs a new network namespace"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(RootlessError) as caught:
        step(machine(), **settings)
    assert text in str(caught.value)


def test_names_are_mounted_unless_the_bundle_mounts_its_own() -> None:
    host = machine()
    made = step(host, network="auto")

    def targets(spec: Any, rootfs: str = "/own", on: Machine = host) -> list[tuple[str, str]]:
        return [(m.target, m.source) for m in mount_names(made, Node(spec), on, rootfs, "/state/c")]

    spec = {"annotations": {}, "mounts": [{"destination": "/etc/hosts/"}]}
    assert targets(spec) == [("/etc/resolv.conf", "/state/c/resolv.conf"), ("/etc/hostname", "/etc/hostname")]
    assert targets({"mounts": [{"destination": "/etc"}]}) == []
    assert len(targets({"mounts": [{"destination": "/etc"}], "annotations": {"org.rootless.root": "empty"}})) == 3
    # Another user's rootfs takes what it has a file for; an overlay, and a rootfs of subordinate ids, take all.
    assert targets({}, "/full") == [("/etc/hosts", "/state/c/hosts")] and targets({}, "/others") == []
    assert len(targets({"mounts": [{"destination": "/"}]}, "/others")) == 3
    assert len(targets({}, "/mapped", machine(subuid=[(100000, 65536)]))) == 3


@pytest.mark.parametrize("names", [True, False])
def test_a_container_on_the_hosts_network_gets_the_hosts_names(names: bool) -> None:
    """Our flags do this; a config that a client wrote does not change."""
    spec = default_config(True, 1000, 1000)
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "network"]
    settings = Settings(base="/", bundle="/own", env=["A=1"], gives_names=names)
    changed = apply_settings(spec, settings, machine())
    places = [m["destination"] for m in changed["mounts"] if m["destination"].startswith("/etc")]
    assert places == (["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"] if names else [])


def test_list_shows_ports() -> None:
    assert ports_of({"org.rootless.publish": "8080:80 127.0.0.1:53:53/udp"}) == "8080:80/tcp,127.0.0.1:53:53/udp"
    assert ports_of({}) == ports_of({"org.rootless.publish": "\x1b"}) == "-"


def test_gateways() -> None:
    """The gateways are those of the routes with the lowest metric."""
    head = "eth0 00000000 010200C0 0003 0 0 {} 00000000 0 0 0"
    lines = [head.format(100).split(), head.replace("01", "02", 1).format(50).split(), ["eth0", "000200C0", "0", "1"]]
    assert _gateway4(lines) == "192.0.2.2" and _gateway4([]) == ""
    zero = "0" * 32
    line = f"{zero} 00 {zero} 00 {'fd' + '0' * 29 + '1'} 00000400 1 0 3 eth0".split()
    unreachable = f"{zero} 00 {zero} 00 {zero} ffffffff 1 0 200200 lo".split()
    assert _gateway6([unreachable, line]) == "fd00::1" and _gateway6([unreachable]) == ""
