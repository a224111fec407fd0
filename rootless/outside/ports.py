"""Check, before anything is made, that published ports are free and that an engine can open /dev/net/tun."""

from __future__ import annotations

import errno
from _socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SO_REUSEADDR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)

from rootless.errors import RootlessError
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.hints import Hint
    from rootless.steps.network import ConnectNetwork, Port

TUN = "/dev/net/tun"
_FIRST_FREE = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EINVAL)  # IPv6 is switched off


def check(step: ConnectNetwork) -> None:
    """Bind and close each published port, then open the tun device, as the engine will do it. Raises RootlessError."""
    for port in step.ports:
        _bind(port, only_ipv4=step.engine == "slirp4netns")
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        from rootless.kernel.hints import hint

        what = f"{step.engine} cannot connect the container"
        raise RootlessError.from_os(error, what, TUN, hint("no-tun").text) from None


def _bind(port: Port, *, only_ipv4: bool) -> None:
    if port.address:
        pairs = [(AF_INET6 if ":" in port.address else AF_INET, port.address)]
    else:
        pairs = [(AF_INET, "0.0.0.0"), *([] if only_ipv4 else [(AF_INET6, "::")])]
    kind = SOCK_STREAM if port.protocol == "tcp" else SOCK_DGRAM
    for family, address in pairs:
        try:
            probe = socket(family, kind | SOCK_CLOEXEC)
            try:
                if family == AF_INET6:
                    probe.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
                if kind == SOCK_STREAM:  # a port whose last connection waits for its end (TIME_WAIT) is free
                    probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
                probe.bind((address, port.host))
            finally:
                probe.close()
        except OSError as error:
            if not port.address and family == AF_INET6 and error.errno in _NO_FAMILY:
                continue
            what = f"cannot publish port {port.host}/{port.protocol}"
            raise RootlessError.from_os(error, what, f"--publish {port}", _hint(error, port)) from None


def low_port_hint(port: int, to: int) -> Hint:
    """Return the hint for a port of the host that only root may have. to: the container's port."""
    from rootless.kernel.hints import hint

    with open(_FIRST_FREE, "rb") as file:
        first = int(file.read())
    return hint("low-port", first=first, port=port, other=8000 + port % 1000, to=to)


def _hint(error: OSError, port: Port) -> str:
    if error.errno == errno.EACCES:
        return low_port_hint(port.host, port.container).text
    if error.errno == errno.EADDRINUSE:
        return f"another program has it (`ss -lnp sport = :{port.host}` shows it); choose another number"
    if error.errno == errno.EADDRNOTAVAIL:
        return "the address is not one of this machine (`ip address` lists them)"
    return ""
