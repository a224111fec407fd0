"""Send the few requests of rtnetlink(7) that a container needs: about links and addresses.

Every function takes a socket, which stays in the network namespace where it was opened. Failures are OSErrors with the
kernel's errno.
"""

from __future__ import annotations

import os
from socket import AF_NETLINK, SOCK_RAW, socket
from struct import pack, unpack_from
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    Link = tuple[int, int, str]  # index, IFF_* flags, name
    Address = tuple[bytes, dict[int, bytes]]  # struct ifaddrmsg, attributes

# linux/netlink.h
NETLINK_ROUTE = 0
NLM_F_REQUEST = 0x001
NLM_F_ACK = 0x004
NLM_F_DUMP = 0x300
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLMSG_ERROR = 2
NLMSG_DONE = 3

# linux/rtnetlink.h
RTM_NEWLINK = 16
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_GETADDR = 22
RT_SCOPE_UNIVERSE = 0

# linux/if.h, linux/if_link.h
IFF_UP = 1
IFLA_IFNAME = 3
IFLA_NET_NS_FD = 28

# linux/if_addr.h
IFA_LABEL = 3
IFA_CACHEINFO = 6
IFA_FLAGS = 8
IFA_F_PERMANENT = 0x80
_IFA_F_CONFIGURED = 0x02 | 0x10 | 0x200 | 0x400  # flags a user sets: NODAD, HOMEADDRESS, NOPREFIXROUTE, MCAUTOJOIN


class RouteSocket(socket):
    """A `_socket.socket` that `with` closes. socket.socket does that too, but is slow to import."""

    def __enter__(self) -> RouteSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_socket() -> RouteSocket:
    """Open a route socket in the network namespace of this thread."""
    return RouteSocket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)


def links(route: socket) -> dict[str, Link]:
    """Return {name: link} of the socket's namespace. Raises OSError."""
    by_name = {}
    for payload in request(route, RTM_GETLINK, NLM_F_DUMP, _ifinfomsg()):
        _, _, index, flags, _ = unpack_from("=BxHiII", payload)
        name = os.fsdecode(attributes(payload[16:])[IFLA_IFNAME].rstrip(b"\0"))
        by_name[name] = (index, flags, name)
    return by_name


def set_link(
    route: socket, index: int, *, up: bool | None = None, name: str | None = None, netns_fd: int | None = None
) -> None:
    """Set a link up or down, rename it, and move it into another network namespace, in one request. Raises OSError."""
    change = 0 if up is None else IFF_UP
    payload = _ifinfomsg(index, IFF_UP if up else 0, change)
    if netns_fd is not None:
        payload += attribute(IFLA_NET_NS_FD, pack("=i", netns_fd))
    if name is not None:
        payload += attribute(IFLA_IFNAME, os.fsencode(name) + b"\0")
    request(route, RTM_NEWLINK, NLM_F_ACK, payload)


def permanent_addresses(route: socket, index: int) -> list[Address]:
    """Return the link's addresses that a user configured (IFA_F_PERMANENT) and that have global scope."""
    addresses = []
    for payload in request(route, RTM_GETADDR, NLM_F_DUMP, pack("=BBBBI", 0, 0, 0, 0, 0)):
        _, _, flags, scope, owner = unpack_from("=BBBBI", payload)
        values = attributes(payload[8:])
        if IFA_FLAGS in values:
            (flags,) = unpack_from("=I", values[IFA_FLAGS])
        if owner == index and scope == RT_SCOPE_UNIVERSE and flags & IFA_F_PERMANENT:
            addresses.append((payload[:8], values))
    return addresses


def add_address(route: socket, index: int, address: Address) -> None:
    """Add an address from permanent_addresses to a link. Raises OSError."""
    head, values = address
    family, prefix, flags, scope, _ = unpack_from("=BBBBI", head)
    if IFA_FLAGS in values:
        (flags,) = unpack_from("=I", values[IFA_FLAGS])
    payload = pack("=BBBBI", family, prefix, 0, scope, index) + attribute(
        IFA_FLAGS, pack("=I", flags & _IFA_F_CONFIGURED)
    )
    for kind, value in values.items():
        if kind not in (IFA_LABEL, IFA_CACHEINFO, IFA_FLAGS):  # without the label, which holds the old name
            payload += attribute(kind, value)
    request(route, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, payload)


def request(route: socket, kind: int, flags: int, payload: bytes) -> list[bytes]:
    """Send one message; return the payloads of a dump, [] for an acknowledgement. Raises OSError."""
    route.send(pack("=IHHII", 16 + len(payload), kind, NLM_F_REQUEST | flags, 1, 0) + payload)
    answers: list[bytes] = []
    while True:
        for answer, body in _messages(route.recv(1 << 16)):
            if answer == NLMSG_DONE:
                return answers
            if answer == NLMSG_ERROR:
                (code,) = unpack_from("=i", body)
                if code:
                    raise OSError(-code, f"netlink: {os.strerror(-code)}")
                return answers
            answers.append(body)


def attribute(kind: int, value: bytes) -> bytes:
    """Return one struct rtattr, padded to four bytes."""
    return pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Return {number: value} of the attributes in a message."""
    values = {}
    while len(data) >= 4:
        length, kind = unpack_from("=HH", data)
        if length < 4:
            break
        values[kind & 0x3FFF] = data[4:length]  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
        data = data[length + 3 & ~3 :]
    return values


def _ifinfomsg(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return pack("=BxHiII", 0, 0, index, flags, change)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 16:
        length, kind = unpack_from("=IH", data)
        yield kind, data[16:length]
        data = data[length + 3 & ~3 :]
