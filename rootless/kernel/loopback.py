"""Set `lo` up, because it is down in a new network namespace (netdevice(7))."""

from __future__ import annotations

from _socket import AF_INET, SOCK_CLOEXEC, SOCK_DGRAM
from struct import pack

from rootless.kernel import syscalls as sc
from rootless.startup import lean_os as os

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def loopback_up() -> None:
    """Set `lo` of this network namespace up. Raises OSError."""
    sock = sc.syscall("socket", AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    try:
        sc.syscall("ioctl", sock, _SIOCSIFFLAGS, pack("16sH22x", b"lo", _IFF_UP))
    finally:
        os.close(sock)
