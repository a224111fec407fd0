"""Exchange messages between runtime, joiner and init over a SOCK_SEQPACKET pair (unix(7)).

A message is one tag byte and a payload; fds travel with it (SCM_RIGHTS). A message that the receiver does not expect is
an error.
"""

from __future__ import annotations

from rootless import log
from rootless.errors import RootlessError, unexpected
from rootless.kernel import sockets
from rootless.kernel.files import write_at_once
from rootless.startup import jsonlite
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

# Each tag has one meaning, so that a message out of turn is recognised.
MAPPED = b"u"  # runtime -> init: the id maps are written
SAVED = b"s"  # runtime -> init: state.json names init, which is found from now on
MOUNTED = b"m"  # init -> runtime: mounts and devices are there, the hooks may run
HOOKED = b"h"  # runtime -> init: the hooks and the network are done
CONSOLE = b"t"  # init, exec's process -> runtime: the master of the terminal, as an fd
CREATED = b"c"  # init -> runtime: only `start` is missing
FAILED = b"x"  # any -> runtime: what failed, as JSON
STEP = b"d"  # any -> runtime: a step that is executed, for --debug
RUN = b"g"  # start -> init: run the program; the payload says whether start logs steps
EXECUTING = b"E"  # init, exec's process -> start, exec: execve is next
STARTED = b"S"  # a container's small init -> its caller in Python: execve has succeeded
LISTENER = b"l"  # init, exec's process -> start, exec: seccomp's notification fd
EMULATED = b"r"  # init, exec's process -> start, exec: the notification fd of root emulation
NOTIFY = b"n"  # init -> start: the socket that NOTIFY_SOCKET names in the container, as an fd
PID = b"p"  # joiner -> runtime: the pid of what it cloned
UNMAPPED = b"j"  # joiner -> runtime: its new user namespace needs maps
JOINER_MAPPED = b"w"  # runtime -> joiner: the id maps are written
MAY_SPEAK = b"k"  # runtime -> exec's process: its pid is known, so it may send messages now
TERMINAL_READY = b"z"  # runtime -> exec's process: the terminal has its size
DEVICE = b"v"  # the process that makes device nodes -> runtime: a mount of one, as an fd
USERNS = b"y"  # the process in a user namespace for an id-mapped mount -> its parent: its /proc, as an fd

_NAMES = {
    MAPPED: "mapped", SAVED: "saved", MOUNTED: "mounted", HOOKED: "hooks done", CONSOLE: "console", CREATED: "created",
    FAILED: "failed", STEP: "step", RUN: "run", EXECUTING: "executing", STARTED: "started", LISTENER: "listener",
    EMULATED: "root emulation", NOTIFY: "notify socket", PID: "pid", UNMAPPED: "unmapped",
    JOINER_MAPPED: "joiner mapped", MAY_SPEAK: "may speak",
    TERMINAL_READY: "terminal ready", DEVICE: "device", USERNS: "user namespace",
}  # fmt: skip
_LIMIT = 65536


def pair() -> tuple[socket, socket]:
    """Return a connected pair of close-on-exec sockets. Raises OSError."""
    return sockets.pair()


def send(sock: socket, tag: bytes, payload: bytes = b"", fds: tuple[int, ...] = ()) -> None:
    """Send one message. Raises OSError."""
    if fds:
        sockets.send_fds(sock, tag + payload, fds)
    else:
        write_at_once(sock.fileno(), tag + payload)  # the seccomp filter may be active, and few deny write(2)


def receive(sock: socket, *expected: bytes, sender: int = -1) -> tuple[bytes, bytes, list[int]]:
    """Return (tag, payload, fds) of the next message. Messages about executed steps are logged and skipped.

    sender: the pidfd of the process that sends it, if others hold the other end as well. Raises the RootlessError that
    the other side sent, EOFError if it is gone, and RuntimeError for a message whose tag is not in `expected`.
    """
    while True:
        if sender >= 0:
            _await_message(sock, sender)
        tag, payload, fds = _receive_one(sock)
        if tag == STEP:
            log.debug(payload.decode("utf-8", "surrogateescape"))
        elif tag == FAILED:
            raise read_failure(payload)
        elif tag in expected:
            return tag, payload, fds
        else:
            for fd in fds:
                os.close(fd)
            raise RuntimeError(f"message {_NAMES.get(tag, repr(tag))} out of turn")


def _await_message(sock: socket, sender: int) -> None:
    """Wait for a message, or for the sender's end. Raises EOFError if the sender has ended and has sent nothing."""
    import select

    poller = select.poll()
    poller.register(sock, select.POLLIN)
    poller.register(sender, select.POLLIN)
    if sock.fileno() in dict(poller.poll()):
        return
    poller.unregister(sender)
    if not poller.poll(0):  # what it sent right before it ended is in the socket now
        raise EOFError


def _receive_one(sock: socket) -> tuple[bytes, bytes, list[int]]:
    try:
        data, fds = sockets.receive_fds(sock, _LIMIT)
    except ConnectionResetError:  # the other side has ended with unread data; its last message comes after this error
        data, fds = sockets.receive_fds(sock, _LIMIT)
    if not data:
        raise EOFError
    return data[:1], data[1:], fds


def send_failure(sock: socket, error: BaseException, step: str = "", pointer: str = "") -> None:
    """Send the other side the error that ends this process. step, pointer: what and where, for a bare OSError."""
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
            known = unexpected(error)  # it says where in the code, and asks for a report
            place = ": ".join(filter(None, (pointer, known.where)))
            error = RootlessError(f"{step or 'init'}: {known.what}", place, known.errno, known.raw_hint)
    text = jsonlite.dumps([error.what[:4000], error.where[:4000], error.errno, error.raw_hint[:4000]])
    message = FAILED + text.encode("utf-8", "surrogateescape")
    fd = sock.fileno()
    # The seccomp filter may already be active. write(2) is the call that filters most rarely deny.
    for say in (os.write, lambda _, data: sock.send(data), lambda _, data: sock.sendmsg([data]), _writev):
        try:
            say(fd, message)
            return
        except OSError:
            continue  # denied, or the other side is gone


def _writev(fd: int, data: bytes) -> None:
    os.writev(fd, [data])


def read_failure(payload: bytes) -> RootlessError:
    """Return the error that `send_failure` has packed."""
    what, where, number, hint = jsonlite.loads(payload)
    return RootlessError(what, where, number, hint)
