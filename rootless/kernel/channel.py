"""The wire between R, J and I: one SOCK_SEQPACKET pair, one named message a step, none out of turn.

A message is one tag byte and a payload; fds travel beside it (unix(7), SCM_RIGHTS).
"""

from __future__ import annotations

from _socket import (
    AF_UNIX,
    CMSG_LEN,
    MSG_CMSG_CLOEXEC,
    SCM_RIGHTS,
    SOCK_CLOEXEC,
    SOCK_SEQPACKET,
    SOL_SOCKET,
    socketpair,
)
from struct import pack, unpack

from rootless.errors import RootlessError
from rootless.kernel.files import write_at_once
from rootless.startup import jsonlite
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

MAPPED = b"u"  # R -> I: the id maps are written
SAVED = b"s"  # R -> I: state.json names I, which is found from now on
MOUNTED = b"m"  # I -> R: mounts and devices are there, the hooks may run
HOOKED = b"h"  # R -> I: the hooks and the network are done
CONSOLE = b"t"  # I -> R: the master of the terminal, as an fd
CREATED = b"c"  # I -> R: only `start` is missing
FAILED = b"x"  # I -> R: what failed, as JSON
GO = b"g"  # start -> I: run the program
EXECUTING = b"E"  # I -> start: execve is next
PID = b"p"  # J -> R: the pid of what J cloned
UNMAPPED = b"j"  # J -> R: its new user namespace needs maps
NOTIFY = b"n"  # I -> start: the socket that NOTIFY_SOCKET names in the container, as an fd
LISTENER = b"l"  # I -> start: seccomp's notification fd

_NAMES = {
    MAPPED: "mapped", SAVED: "saved", MOUNTED: "mounted", HOOKED: "hooks done", CONSOLE: "console", CREATED: "created",
    FAILED: "failed", GO: "go", EXECUTING: "executing", PID: "pid", UNMAPPED: "unmapped", LISTENER: "listener",
    NOTIFY: "notify socket",
}  # fmt: skip
_LIMIT = 65536


def pair() -> tuple[socket, socket]:
    """A connected pair, close-on-exec."""
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)


def send(sock: socket, tag: bytes, payload: bytes = b"", fds: tuple[int, ...] = ()) -> None:
    """One message."""
    if fds:
        sock.sendmsg([tag + payload], [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(fds)}i", *fds))])
    else:
        write_at_once(sock.fileno(), tag + payload)  # I speaks under its filter, and few deny write(2)


def receive(sock: socket, *expected: bytes) -> tuple[bytes, bytes, list[int]]:
    """(tag, payload, fds) of the next message.

    Raises the RootlessError that the other side sent, EOFError where it is gone, and RuntimeError for a message out
    of turn.
    """
    try:
        data, ancillary, _, _ = sock.recvmsg(_LIMIT, CMSG_LEN(16), MSG_CMSG_CLOEXEC)
    except ConnectionResetError:  # once, where the other side has left something unread: what it said comes after it
        data, ancillary, _, _ = sock.recvmsg(_LIMIT, CMSG_LEN(16), MSG_CMSG_CLOEXEC)
    fds = [fd for _, _, raw in ancillary for (fd,) in [unpack("i", raw[i : i + 4]) for i in range(0, len(raw) & ~3, 4)]]
    if not data:
        raise EOFError
    tag, payload = data[:1], data[1:]
    if tag == FAILED:
        raise read_failure(payload)
    if tag not in expected:
        for fd in fds:
            os.close(fd)
        raise RuntimeError(f"message {_NAMES.get(tag, repr(tag))} out of turn")
    return tag, payload, fds


def send_failure(sock: socket, error: BaseException, step: str = "", pointer: str = "") -> None:
    """Tell the other side why it ends here; `step` and `pointer` are used for a bare OSError."""
    if not isinstance(error, RootlessError):
        if isinstance(error, OSError) and error.errno:
            where = error.filename if error.filename is not None else ""
            place = os.fsdecode(where) if isinstance(where, (str, bytes)) else ""
            what = error.strerror.rpartition(": ")[0] if error.strerror and ": " in error.strerror else ""
            error = RootlessError(
                f"{step}: {what}" if step and what else step or what or "failed",
                f"{pointer}: {place}" if pointer and place else pointer or place,
                error.errno,
            )
        else:
            error = RootlessError(f"{step or 'init'}: {type(error).__name__}: {error}", pointer)
    text = jsonlite.dumps([error.what[:4000], error.where[:4000], error.errno, error.hint[:4000]])
    message = FAILED + text.encode("utf-8", "surrogateescape")
    fd = sock.fileno()
    # A filter may deny one of them; a program that may do none of them could not say anything either.
    for say in (os.write, lambda _, data: sock.send(data), lambda _, data: sock.sendmsg([data]), _writev):
        try:
            say(fd, message)
            return
        except OSError:
            continue  # or nobody is left to be told


def _writev(fd: int, data: bytes) -> None:
    os.writev(fd, [data])


def read_failure(payload: bytes) -> RootlessError:
    """The error that `send_failure` packed."""
    what, where, number, hint = jsonlite.loads(payload)
    return RootlessError(what, where, number, hint)
