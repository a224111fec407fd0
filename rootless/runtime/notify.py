"""NOTIFY_SOCKET: a service manager waits for READY=1 of the program (sd_notify(3)), which cannot reach its socket.

The container gets a socket of its own, which `create` binds in the state directory and init keeps open; whoever runs
the program gets it from init, listens there, tells the manager READY=1 and the main process, and waits until it has
read that. The socket alone is mounted, not its directory: a container with CAP_SYS_ADMIN could make that writable, and
fill the host's /run.
"""

from __future__ import annotations

import select
from _socket import SOCK_DGRAM, socket

from rootless import log
from rootless.errors import RootlessError
from rootless.kernel import channel, proc, sockets
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.runtime.state import StateDir

SOCKET = "notify.sock"  # in the state directory
_INSIDE = "/run/notify/notify.sock"
_PATIENCE = 30  # seconds that the manager has to read what it was sent: sd_notify_barrier(3)
_LIMIT = 4096


def extend_spec(spec: dict[str, Any], source: str) -> None:
    """The mount of `source` and the variable, as runc adds them; for the first process alone, `exec` gets neither."""
    options = ["bind", "nosuid", "noexec", "nodev", "ro"]
    mounts, process = spec.get("mounts") or [], spec.get("process")
    if type(mounts) is not list or type(process) is not dict or type(process.get("env") or []) is not list:
        return  # the compiler says what is wrong with it
    spec["mounts"] = [*mounts, {"destination": _INSIDE, "source": source, "options": options}]
    process["env"] = [*(process.get("env") or ()), f"NOTIFY_SOCKET={_INSIDE}"]


class Listener:
    """The container's end, of which `fd` is the descriptor; `host` is the manager's socket."""

    def __init__(self, fd: int, host: str) -> None:
        self.host = host
        self.sock = socket(fileno=fd)

    def fileno(self) -> int:
        """Readable when the container has said something."""
        return self.sock.fileno()

    def wait(self, pid: int) -> None:
        """Until the container is ready or its init `pid` has ended. That process is the manager's main one then."""
        pidfd = proc.open_pidfd(pid)
        if pidfd < 0:
            return
        while self.fileno() in select.select([self.fileno(), pidfd], [], [])[0]:
            if self.forward(pid, _PATIENCE):
                break
        os.close(pidfd)

    def forward(self, main_pid: int, patience: float = 0) -> bool:
        """Read one message; pass READY on, and no more. Whether it was that."""
        lines = self.sock.recv(_LIMIT).split(b"\n")
        ready = next((line for line in lines if line.startswith(b"READY=")), b"")
        if ready:
            try:
                _tell(self.host, [ready, b"MAINPID=%d" % main_pid], patience)
            except OSError as error:
                log.warn(f"NOTIFY_SOCKET: {error.strerror}")
        return bool(ready)


def bind(directory: StateDir) -> int:
    """Make the socket that the container gets; its descriptor. Raises RootlessError."""
    sock = sockets.create(SOCK_DGRAM)
    try:
        path = sockets.address_at(directory.fd, SOCKET)
        sock.bind(path)
        os.chmod(path, 0o777)  # the program may be any of the container's users
    except OSError as error:
        sock.close()
        raise RootlessError.from_os(error, "cannot make the notify socket", SOCKET) from None
    return sock.detach()


def receive(sock: socket) -> Listener | None:
    """Take the container's socket from its init; a listener where a manager waits here too. Raises EOFError."""
    _, _, (fd,) = channel.receive(sock, channel.NOTIFY)
    host = os.environ.get("NOTIFY_SOCKET", "")
    if host:
        return Listener(fd, host)
    os.close(fd)
    return None


def _tell(host: str, lines: list[bytes], patience: float) -> None:
    """Send the lines, then BARRIER=1 with a pipe: its end is closed when the manager has read all."""
    sock = sockets.create(SOCK_DGRAM)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        sockets.connect(sock, host)
        for line in lines:
            sock.send(line + b"\n")
        try:
            sockets.send_fds(sock, b"BARRIER=1", (writer,))
        finally:
            os.close(writer)
        if patience and not select.select([reader], [], [], patience)[0]:
            log.warn("NOTIFY_SOCKET: the service manager does not read what it is told")
    finally:
        os.close(reader)
        sock.close()
