"""Make unix sockets, send fds over them, and connect to paths of any length (unix(7)).

Every socket, and every fd that arrives, is close-on-exec, because no program that the runtime executes may inherit it.
"""

from __future__ import annotations

from _socket import (
    AF_UNIX,
    CMSG_LEN,
    MSG_CMSG_CLOEXEC,
    SCM_CREDENTIALS,
    SCM_RIGHTS,
    SOCK_CLOEXEC,
    SOCK_SEQPACKET,
    SOL_SOCKET,
    socket,
    socketpair,
)
from errno import ETOOMANYREFS
from struct import pack, unpack

from rootless.startup import lean_os as os

_PATH_LIMIT = 107  # bytes of sun_path, without the NUL
_MOST_FDS = 4  # in one message


def pair() -> tuple[socket, socket]:
    """Return a connected pair that keeps messages apart (SOCK_SEQPACKET). Raises OSError."""
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)


def create(kind: int) -> socket:
    """Return a new socket; kind: SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET. Raises OSError."""
    return socket(AF_UNIX, kind | SOCK_CLOEXEC)


def send_fds(sock: socket, data: bytes, fds: tuple[int, ...], *, sender: int = 0) -> int:
    """Send data and descriptors in one message; return how many bytes were sent. Raises OSError.

    sender: the pid that a receiver with SO_PASSCRED sees, 0 for this process's own. Another's takes CAP_SYS_ADMIN in
    the user namespace of the pid namespace (unix(7), SCM_CREDENTIALS).
    """
    ancillary = [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(fds)}i", *fds))]
    if sender:
        ancillary.append((SOL_SOCKET, SCM_CREDENTIALS, pack("3i", sender, os.getuid(), os.getgid())))
    return send_message(sock, data, ancillary)


def send_message(sock: socket, data: bytes, ancillary: list[tuple[int, int, bytes]], patience: float = 10.0) -> int:
    """Call sendmsg(2); return how many bytes were sent. Raises OSError.

    All processes of a user may together have no more descriptors on the way than the sender may open (RLIMIT_NOFILE).
    So ETOOMANYREFS means to wait, at most `patience` seconds, until other receivers have taken theirs.
    """
    end = 0.0
    while True:
        try:
            return sock.sendmsg([data], ancillary)
        except OSError as error:
            if error.errno != ETOOMANYREFS or not patience:
                raise
            from time import monotonic, sleep  # built in, so also init can load it

            end = end or monotonic() + patience
            if monotonic() >= end:
                raise
            sleep(0.001)


def receive_fds(sock: socket, size: int) -> tuple[bytes, list[int]]:
    """Return (data, descriptors) of the next message, of at most `size` bytes and 4 descriptors. Raises OSError."""
    data, ancillary, _, _ = sock.recvmsg(size, CMSG_LEN(_MOST_FDS * 4), MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for _, kind, raw in ancillary:
        if kind == SCM_RIGHTS:
            fds += unpack(f"{len(raw) // 4}i", raw[: len(raw) & ~3])
    return data, fds


def connect(sock: socket, path: str) -> None:
    """Connect to the socket at a path of any length, or to `@NAME`, an abstract address. Raises OSError.

    A path that does not fit into sun_path goes by an fd of its directory, through /proc.
    """
    if path.startswith("@"):
        sock.connect("\0" + path[1:])
    elif len(os.fsencode(path)) <= _PATH_LIMIT:
        sock.connect(path)
    else:
        parent, _, name = path.rpartition("/")
        directory = os.open(parent or ("/" if path[:1] == "/" else "."), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connect_at(sock, directory, name)
        finally:
            os.close(directory)


def connect_at(sock: socket, directory: int, name: str) -> None:
    """Connect to the socket of that name in a directory that is open. Raises OSError."""
    sock.connect(address_at(directory, name))


def address_at(directory: int, name: str) -> str:
    """Return the address of a name in a directory that is open, however long the directory's own path is."""
    return f"/proc/self/fd/{directory}/{name}"
