"""Set `lo` up, because it is down in a new network namespace (netdevice(7))."""

from __future__ import annotations

import fcntl
from _socket import AF_INET, SOCK_CLOEXEC, SOCK_DGRAM, socket
from struct import pack

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def loopback_up() -> None:
    """Set `lo` of this network namespace up. Raises OSError."""
    sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        fcntl.ioctl(sock.fileno(), _SIOCSIFFLAGS, pack("16sH22x", b"lo", _IFF_UP))
    finally:
        sock.close()
