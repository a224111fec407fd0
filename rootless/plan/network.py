"""Plan how a container's own network is connected to the host's: the engine, its arguments, and the names inside. Pure.

Three annotations ask for it, so that a bundle can hold what the flags --network, --publish and --no-host-loopback say:
`org.rootless.network`, `org.rootless.publish` and `org.rootless.no-host-loopback`.
"""

from __future__ import annotations

from rootless.config_node import Node, closest
from rootless.errors import RootlessError, SpecError
from rootless.kernel import syscalls as sc
from rootless.plan.change import tidy, wrong
from rootless.plan.mounts import compile_mounts
from rootless.steps.network import ConnectNetwork, Port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import Host
    from rootless.kernel.namespaces import Namespaces
    from rootless.plan.change import Change
    from rootless.steps.mounts import Mount

NETWORK = "org.rootless.network"
PUBLISH = "org.rootless.publish"
NO_HOST_LOOPBACK = "org.rootless.no-host-loopback"
ENGINES = ("pasta", "slirp4netns")
CONNECTED = ("auto", *ENGINES)
_KINDS = ("none", "host", *CONNECTED)
_DOCKERS = ("bridge", "default", "private")  # docker's and podman's names for what is connected
HOST_NAME = "host.rootless.internal"
FORM = "[IP:]HOST:CONTAINER[/udp], such as 8080:80"

# What a pasta that knows --map-host-loopback (August 2024) translates to the host's loopback, and to its name server.
_HOST4, _HOST6 = "169.254.1.2", "fd72:6f6f:746c:6573::2"
_DNS4 = "169.254.1.1"
_SLIRP_HOST4, _SLIRP_HOST6, _SLIRP_DNS4 = "10.0.2.2", "fd00::2", "10.0.2.3"
_RESOLVERS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
NAMES = ("/etc/resolv.conf", "/etc/hosts", "/etc/hostname")


# ------------------------------------------------------------------------------------------- flags and keywords


def read_port(text: str) -> Port:
    """Return the port that `[IP:]HOST:CONTAINER[/tcp|/udp]` publishes. Raises ValueError, which says what is wrong."""
    numbers, slash, protocol = text.partition("/")
    protocol = protocol.lower()
    if slash and protocol not in ("tcp", "udp"):
        raise ValueError("the protocol is neither tcp nor udp")
    address, bracket, rest = "", "", numbers
    if numbers.startswith("["):
        address, bracket, rest = numbers[1:].partition("]:")
        if not bracket:
            raise ValueError("not a port")
    elif numbers.count(":") == 2:
        address, _, rest = numbers.partition(":")
    if (bracket or address) and not _is_address(address):
        raise ValueError("not an IP address of the host" + ", which stands in brackets" * (":" in address))
    host, colon, container = rest.partition(":")
    if not colon:
        raise ValueError("the port of the container is missing")
    if "-" in rest.strip("-"):
        raise ValueError("there are no ranges of ports, so each port has a --publish of its own")
    ports = [int(word) if word.isascii() and word.isdigit() and len(word) < 6 else 0 for word in (host, container)]
    if not all(0 < port < 65536 for port in ports):
        raise ValueError("a port is a number from 1 to 65535")
    return Port(address, ports[0], ports[1], protocol or "tcp")


def _is_address(text: str) -> bool:
    from _socket import AF_INET, AF_INET6, inet_pton

    try:
        inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


def apply_network(change: Change, network: str) -> None:
    """Give config.json a network: none, host, ns:PATH, or one that an engine connects. Raises RootlessError."""
    kind, colon, path = network.partition(":")
    linux = change.part("linux")
    others = [n for n in change.array(linux, "namespaces") if type(n) is not dict or n.get("type") != "network"]
    annotations = change.spec.get("annotations")
    if type(annotations) is dict:
        annotations.pop(NETWORK, None)
    if network in CONNECTED:
        linux["namespaces"] = [*others, {"type": "network"}]
        change.part("annotations")[NETWORK] = network
        # Ask now, so that an error names the flag. The compiler asks again, for configs that hold the annotation.
        ports = [] if change.settings.publish else published(Node(change.part("annotations")))
        choose_engine(network, ports, change.host, f"--network {network}")
    elif network == "none":
        linux["namespaces"] = [*others, {"type": "network"}]
    elif network == "host":
        linux["namespaces"] = others
        bind_names(change)
    elif kind == "ns" and colon:
        if not path.startswith("/"):
            raise wrong("network", network, "the namespace's path is not absolute", "ns:/run/netns/NAME")
        if not change.host.exists(path):
            raise wrong("network", network, "there is no such namespace", "ip netns list")
        linux["namespaces"] = [*others, {"type": "network", "path": path}]
        _share_owner(change, path)
    else:
        allowed = "none, host, auto, pasta, slirp4netns or ns:PATH"
        near = "auto connects it as docker's bridge does" if network in _DOCKERS else closest(network, _KINDS)
        raise wrong("network", network, "unknown network", near or allowed)


def _share_owner(change: Change, path: str) -> None:
    """Join the user namespace that owns a network namespace, such as another container's, instead of making one.

    The kernel lets nobody else enter the network namespace. The maps are then those of that container.
    """
    linux = change.part("linux")
    namespaces = change.array(linux, "namespaces")
    mine = next((n for n in namespaces if type(n) is dict and n.get("type") == "user" and not n.get("path")), None)
    owner = change.host.userns_of(path) if mine else ""
    if owner:
        linux["namespaces"] = [{"type": "user", "path": owner} if n is mine else n for n in namespaces]
        for key in ("uidMappings", "gidMappings"):
            linux.pop(key, None)


def apply_publish(change: Change, texts: list[str]) -> None:
    """Publish ports of the container on the host. Without --network, an engine connects it. Raises RootlessError."""
    network = change.settings.network
    if network and network not in CONNECTED:
        what = "the host's network has the container's ports already" if network == "host" else "no engine connects it"
        raise wrong("publish", texts[0], f"{what}: --network {network}", "--network auto")
    ports = []
    for text in texts:
        try:
            ports.append(read_port(text))
        except ValueError as error:
            raise wrong("publish", text, str(error), FORM) from None
    annotations = change.part("annotations")
    if not network and annotations.get(NETWORK) not in CONNECTED:
        linux = change.part("linux")
        others = [n for n in change.array(linux, "namespaces") if type(n) is not dict or n.get("type") != "network"]
        linux["namespaces"] = [*others, {"type": "network"}]
        annotations[NETWORK] = "auto"
    annotations[PUBLISH] = " ".join(map(str, ports))
    _refuse_twice(ports, f"--publish {texts[0]}")
    choose_engine(annotations[NETWORK], ports, change.host, f"--publish {texts[0]}")


def apply_no_host_loopback(change: Change, _: bool) -> None:
    """Keep the host's loopback device out of the container's reach. Raises RootlessError."""
    annotations = change.part("annotations")
    if annotations.get(NETWORK) not in CONNECTED:
        what = "no engine connects the container, so the host's loopback device is out of its reach"
        raise RootlessError(what, "--no-host-loopback", hint="--network auto")
    annotations[NO_HOST_LOOPBACK] = "true"


def bind_names(change: Change, *, asked: bool = True) -> None:
    """Give the program the host's resolver and names, unless config.json mounts its own.

    asked: whether the user asked for the host's network. Otherwise a rootfs that cannot take a file stays as it is.
    """
    mounts = change.array(change.spec, "mounts")
    for path in _free(NAMES, mounts, change.spec.get("annotations")):
        if change.host.exists(path) and (asked or change.settings.upper or _takes(_rootfs(change), path, change.host)):
            options = ["rbind", "ro", "nosuid", "nodev", "noexec"]
            mounts.append({"destination": path, "type": "bind", "source": path, "options": options})


def _rootfs(change: Change) -> str:
    path = change.part("root").get("path")
    if type(path) is not str:
        return ""
    return path if path.startswith("/") else f"{change.settings.bundle}/{path}"


def _takes(rootfs: str, path: str, host: Host) -> bool:
    """Return whether the rootfs has a place for a file, or the container's root can make one.

    It cannot in another user's rootfs, which then stays as it is.
    """
    if host.exists(f"{rootfs}{path}"):
        return True
    directory = f"{rootfs}/etc" if host.is_directory(f"{rootfs}/etc") else rootfs
    owner = host.owner_of(directory)
    return host.is_writable(directory) or any(first <= owner < first + count for first, count in host.subuid)


def _free(paths: tuple[str, ...], mounts: object, annotations: object) -> list[str]:
    """Return the paths that config.json mounts nothing on. The host's own /etc (plan/host_system.py) does not count."""
    taken = [tidy(m.get("destination")) for m in mounts if type(m) is dict] if type(mounts) is list else []
    is_host = type(annotations) is dict and annotations.get("org.rootless.root") == "empty"
    return [path for path in paths if path not in taken and ("/etc" not in taken or is_host)]


# ------------------------------------------------------------------------------------------- the plan


def published(annotations: Node) -> list[Port]:
    """Return the ports that a config publishes. Raises SpecError."""
    node = annotations[PUBLISH]
    ports = []
    for text in node.string().replace(",", " ").split():
        try:
            ports.append(read_port(text))
        except ValueError as error:
            raise node.error(f"{text!r}: {error}", FORM) from None
    _refuse_twice(ports, node.pointer)
    return ports


def _refuse_twice(ports: list[Port], where: str) -> None:
    """Refuse a port of the host that two of these need. One without an address, or with 0.0.0.0, needs it on all."""
    seen: list[Port] = []
    for port in ports:
        for other in seen:
            is_same = (port.host, port.protocol) == (other.host, other.protocol)
            if is_same and _overlap(port.address, other.address):
                what = f"port {port.host}/{port.protocol} is published twice"
                raise RootlessError(what, where, hint="leave one out")
        seen.append(port)


def _overlap(one: str, other: str) -> bool:
    if one == other or "" in (one, other):
        return True
    return (":" in one) == (":" in other) and any(address in ("0.0.0.0", "::") for address in (one, other))


def compile_network(annotations: Node, namespaces: Namespaces, host: Host) -> ConnectNetwork | None:
    """Return the step that connects the container, None if the annotations ask for none. Raises SpecError."""
    node = annotations[NETWORK]
    network = node.string()
    if network in ("", "none"):
        if annotations[PUBLISH]:
            annotations[PUBLISH].refuse("no engine connects the container", f'add "{NETWORK}": "auto"')
        return None
    if network not in CONNECTED:
        hint = "linux.namespaces says it" if network == "host" else closest(network, CONNECTED)
        raise node.error(f"found {network!r}, allowed is auto, pasta, slirp4netns, none", hint)
    if not namespaces.new & sc.CLONE_NEWNET:
        what, hint = "needs a new network namespace", 'add {"type": "network"} to /linux/namespaces'
        node.refuse(what, hint, about="/linux/namespaces")
        return None
    ports = published(annotations)
    engine = choose_engine(network, ports, host, node.pointer)
    no_loopback = annotations[NO_HOST_LOOPBACK].choice({"true": True, "false": False}, False)
    if engine == "pasta":
        arguments, addresses, servers = _pasta(host, ports, no_loopback=no_loopback)
    else:
        arguments, addresses, servers = _slirp(host, namespaces, no_loopback=no_loopback)
    step = ConnectNetwork(node.pointer, engine, host.engines[engine], arguments, ports)
    step.names = {"resolv.conf": _resolver(host, servers), "hosts": _hosts(host, addresses)}
    return step


def mount_names(step: ConnectNetwork, spec: Node, host: Host, rootfs: str, place: str) -> list[Mount]:
    """Return the mounts of resolv.conf, hosts and hostname, except those of config.json.

    rootfs: its absolute path; place: the state directory.
    """
    asked = spec["mounts"].value if type(spec["mounts"].value) is list else []
    has_own_root = any(type(m) is dict and tidy(m.get("destination")) in ("/", "/etc") for m in asked)
    options = ["bind", "ro", "nosuid", "nodev", "noexec"]
    mounts = []
    for path in _free(NAMES, asked, spec["annotations"].value):
        name = path.rpartition("/")[2]
        source = f"{place}/{name}" if name in step.names else path
        if source == path and not host.exists(path):
            continue
        if not has_own_root and not _takes(rootfs, path, host):
            continue
        mounts.append({"destination": path, "type": "bind", "source": source, "options": options})
    return compile_mounts(Node(mounts, step.pointer), "/", "/\0", [])


def choose_engine(network: str, ports: list[Port], host: Host, where: str) -> str:
    """Return the engine to use for a network of CONNECTED. Raises RootlessError."""
    names = ENGINES if network == "auto" else (network,)
    installed = [name for name in names if name in host.engines]
    if not installed:
        from rootless.kernel.hints import hint

        missing = hint("no-engine" if network != "slirp4netns" else "no-slirp4netns").text
        what = "neither pasta nor slirp4netns is installed" if network == "auto" else f"{network} is not installed"
        raise RootlessError(what, where, hint=missing)
    reasons = [_why_not(name, ports, host) for name in installed]
    for name, (reason, _) in zip(installed, reasons, strict=True):
        if not reason:
            return name
    raise RootlessError("; ".join(reason for reason, _ in reasons), where, hint=reasons[0][1])


def _why_not(engine: str, ports: list[Port], host: Host) -> tuple[str, str]:
    """Return (why an engine cannot publish these ports, what to do instead), ("", "") if it can."""
    if engine == "slirp4netns":
        six = next((port for port in ports if ":" in port.address), None)
        if six:
            return f"slirp4netns publishes on addresses of IPv4 only, not {six}", "--network pasta"
        return "", ""
    if not any(host.gateways) and not _is_modern(host):
        return "this pasta needs a default route on the host", "--network slirp4netns, or a newer pasta"
    targets: dict[tuple[int, str], int] = {}
    for port in ports:
        if port.protocol == "udp" and port.host != port.container and not _is_modern(host):
            what = f"this pasta loses the replies of a UDP port that is published under another number: {port}"
            return what, "the same number on both sides, --network slirp4netns, or a pasta of August 2024 or later"
        if (port.host, port.protocol) in targets and not _is_modern(host):  # it calls that an overlap, and ends
            what = f"this pasta publishes a number on one address or on all, not on two: {port}"
            return what, "leave the addresses out, --network slirp4netns, or a pasta of August 2024 or later"
        if targets.setdefault((port.host, port.protocol), port.container) != port.container:
            what = f"pasta cannot lead one number to different ports of the container: {port}"
            return what, "another number, or --network slirp4netns"
    return "", ""


def _is_modern(host: Host) -> bool:
    """Return whether pasta has the UDP flow table and --map-host-loopback, which came in July and August 2024."""
    return "--map-host-loopback" in host.pasta_help


def _pasta(host: Host, ports: list[Port], *, no_loopback: bool) -> tuple[list[str], list[str], list[str]]:
    """Return (pasta's arguments, the host's addresses inside, name servers).

    -T none and -U none: by default the container's connections to 127.0.0.1 reach the host's (pasta(1)).
    """
    arguments = ["--config-net"]
    for flag, protocol in (("-t", "tcp"), ("-u", "udp")):
        asked = [port for port in ports if port.protocol == protocol]
        for port in asked:
            arguments += [flag, f"{port.address}/{port.host}:{port.container}".lstrip("/")]
        if not asked:
            arguments += [flag, "none"]
    arguments += ["-T", "none", "-U", "none"]
    gateways = host.gateways
    addresses: list[str] = []
    if no_loopback:
        arguments.append("--no-map-gw")
    elif _is_modern(host):
        addresses = [_HOST4, *([_HOST6] if gateways[1] else [])]
        for address in addresses:
            arguments += ["--map-host-loopback", address]
    else:  # the gateway's address stands for the host. One of IPv6 that needs a scope does not fit into /etc/hosts
        addresses = [address for address in gateways if address and not address.startswith("fe80:")]
    hidden = [] if no_loopback or _is_modern(host) else [address for address in gateways if address]
    servers = _name_servers(host, hidden)
    if not servers:
        arguments += ["--dns-forward", _DNS4]
        servers = [_DNS4]
    return arguments, addresses, servers


def _slirp(host: Host, namespaces: Namespaces, *, no_loopback: bool) -> tuple[list[str], list[str], list[str]]:
    """Return the same for slirp4netns. It publishes ports when it runs, through its API socket (slirp4netns(1))."""
    arguments = ["--configure", "--mtu=65520", "--enable-ipv6", "--enable-seccomp"]
    has_root = all(any(first == 0 for first, _, _ in ids) for ids in (namespaces.uids, namespaces.gids))
    if has_root or not namespaces.new & sc.CLONE_NEWUSER:  # in its sandbox it becomes root of the user namespace
        arguments.append("--enable-sandbox")
    if no_loopback:
        arguments.append("--disable-host-loopback")
    addresses = [] if no_loopback else [_SLIRP_HOST4, _SLIRP_HOST6]
    return arguments, addresses, _name_servers(host, [*addresses]) or [_SLIRP_DNS4]


def _name_servers(host: Host, hidden: list[str]) -> list[str]:
    """Return the host's name servers that the container reaches, too; [] if there are none.

    systemd-resolved and dnsmasq listen on a loopback address, which inside is the container's own. systemd-resolved
    keeps a list of the real ones. hidden: addresses that mean the host itself inside.
    """
    for path in _RESOLVERS:
        servers = [
            words[1]
            for words in map(str.split, host.text(path).splitlines())
            if words[:1] == ["nameserver"] and words[1:]
        ]
        reachable = [s for s in servers if not s.startswith("127.") and s not in ("::1", "0.0.0.0") and "%" not in s]
        reachable = [s for s in reachable if not s.startswith("fe80:") and s not in hidden]
        if reachable:
            return reachable
    return []


def _resolver(host: Host, servers: list[str]) -> str:
    """Return the container's resolv.conf: the host's search domains and options, and name servers that it reaches."""
    kept = [
        line
        for line in host.text(_RESOLVERS[0]).splitlines()
        if line.split()[:1] in (["search"], ["domain"], ["options"])
    ]
    return "".join(f"{line}\n" for line in [*(f"nameserver {server}" for server in servers), *kept])


def _hosts(host: Host, addresses: list[str]) -> str:
    """Return the container's /etc/hosts: the host's, and the addresses at which the host's loopback is reached."""
    text = host.text("/etc/hosts") or "127.0.0.1 localhost\n::1 localhost\n"
    if not text.endswith("\n"):
        text += "\n"
    return text + "".join(f"{address} {HOST_NAME}\n" for address in addresses)


def ports_of(annotations: dict[str, str]) -> str:
    """Return the published ports of a container for `list`, "-" for none."""
    try:
        ports = published(Node(annotations)) if annotations.get(PUBLISH) else []
    except (RootlessError, SpecError):
        return "-"
    return ",".join(map(str, ports)) or "-"
