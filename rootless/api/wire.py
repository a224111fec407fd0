"""Exchange messages between a Python process and its launcher: one SOCK_SEQPACKET message a request, with its fds.

A request is marshal data, because both sides are the same interpreter and each trusts the other. A request that is
larger than a message travels in a memfd, whose fd comes first.

Each container answers over two sockets of its own, so that no thread waits for another's answer:

- the verdict (SOCK_SEQPACKET), as in runtime/verdict.py. The program's process holds the other end.
- the end. The container's small init sends `S` and the wait status. When nothing of the container is left, the launcher
  sends `Z`, the wait status and the number of OOM kills.
"""

from __future__ import annotations

import marshal
from _socket import CMSG_SPACE, MSG_CMSG_CLOEXEC, MSG_CTRUNC, SCM_RIGHTS, SOL_SOCKET
from errno import EINVAL, EMFILE
from struct import calcsize, pack, unpack, unpack_from

from rootless.kernel.sockets import send_message
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

_INLINE = 60_000  # bytes; the kernel's default limit of a message is 212,992 with its own overhead
_MOST_FDS = 253  # unix(7), SCM_RIGHTS
_SPACE = CMSG_SPACE(_MOST_FDS * calcsize("i"))
STATUS, END = b"S", b"Z"


class TooFewFiles(OSError):
    """The message has come, but this process may not have so many open files.

    The kernel closes those that are too much (unix(7), MSG_CTRUNC). fds: the others, in their order; message: None if
    it was in one of them.
    """

    def __init__(self, fds: list[int], message: Any = None) -> None:
        super().__init__(EMFILE, os.strerror(EMFILE))
        self.fds = fds
        self.message = message


def send(sock: socket, message: Any, fds: list[int], patience: float = 10.0) -> None:
    """Send one message. patience: as in sockets.send_message, 0 for a sender whom receivers wait for.

    Raises OSError, ValueError if the message is not plain data.
    """
    data = marshal.dumps(message)
    if len(data) <= _INLINE:
        _send(sock, b"i" + data, fds, patience)
        return
    fd = os.memfd_create("rootless-request", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", buffering=0, closefd=False) as file:
            file.write(data)
        _send(sock, b"m", [fd, *fds], patience)
    finally:
        os.close(fd)


def _send(sock: socket, data: bytes, fds: list[int], patience: float) -> None:
    if len(fds) > _MOST_FDS:
        raise OSError(EINVAL, f"a call takes at most {_MOST_FDS} descriptors: its sockets, the streams and pass_fds")
    ancillary = [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(fds)}i", *fds))] if fds else []
    send_message(sock, data, ancillary, patience)


def receive(sock: socket) -> tuple[Any, list[int]]:
    """Return one message and its fds. Raises EOFError if the other side is gone, TooFewFiles, and OSError."""
    data, ancillary, flags, _ = sock.recvmsg(_INLINE + 64, _SPACE, MSG_CMSG_CLOEXEC)
    if not data:
        raise EOFError
    fds: list[int] = []
    for _, _, raw in ancillary:
        fds += unpack(f"{len(raw) // 4}i", raw[: len(raw) & ~3])
    if flags & MSG_CTRUNC:
        if data[:1] == b"m" and fds:
            os.close(fds.pop(0))
        raise TooFewFiles(fds, None if data[:1] == b"m" else marshal.loads(data[1:]))
    if data[:1] == b"m":
        fd = fds.pop(0)
        with open(fd, "rb", buffering=0) as file:
            file.seek(0)
            return marshal.loads(file.readall() or b""), fds
    return marshal.loads(data[1:]), fds


def pack_end(status: int, kills: int) -> bytes:
    """Return the launcher's last message about a container."""
    return END + pack("ii", status, kills)


def unpack_end(data: bytes) -> tuple[bytes, int, int]:
    """Return (STATUS or END, wait status, OOM kills). Raises ValueError for anything else."""
    if data[:1] == STATUS and len(data) == 1 + calcsize("i"):
        return STATUS, *unpack_from("i", data, 1), 0
    if data[:1] == END and len(data) == 1 + calcsize("ii"):
        status, kills = unpack_from("ii", data, 1)
        return END, status, kills
    raise ValueError("no message of a launcher")
