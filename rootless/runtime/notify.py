"""Pass READY=1 of the program on to the service manager (NOTIFY_SOCKET, sd_notify(3)), whose socket it cannot reach.

The container gets its own socket. `create` binds it in the state directory, and init keeps it open. The command that
runs the program gets the socket from init, receives READY=1 there, sends it to the manager with the pid of the main
process, and waits until the manager has read it. Only the socket is mounted into the container, not its directory,
because a container with CAP_SYS_ADMIN could make a directory writable and fill the host's /run.
"""

from __future__ import annotations

import select
from _socket import SOCK_DGRAM, socket

from rootless import log
from rootless.errors import RootlessError
from rootless.kernel import channel, proc, sockets
from rootless.kernel.waiting import wait_for
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.runtime.bundle import Bundle
    from rootless.runtime.state import StateDir

SOCKET = "notify.sock"  # in the state directory
_INSIDE = "/run/notify/notify.sock"
_PATIENCE = 30  # seconds that the manager has to read the message: sd_notify_barrier(3)
_LIMIT = 4096


def extend_config(bundle: Bundle, root: str) -> None:
    """Add the mount of the container's socket, and NOTIFY_SOCKET, to config.json, like runc. `exec` gets neither.

    Only this run gets them, not the text that the state directory keeps. root: the state root.
    """
    spec, source = bundle.spec, f"{root}/{bundle.container_id}/{SOCKET}"
    options = ["bind", "nosuid", "noexec", "nodev", "ro"]
    mounts, process = spec.get("mounts") or [], spec.get("process")
    if type(mounts) is not list or type(process) is not dict or type(process.get("env") or []) is not list:
        return  # the compiler of the plan reports the wrong type
    spec["mounts"] = [*mounts, {"destination": _INSIDE, "source": source, "options": options}]
    process["env"] = [*(process.get("env") or ()), f"NOTIFY_SOCKET={_INSIDE}"]


class Listener:
    """Listen on the container's socket. fd: its descriptor; host: the address of the manager's socket."""

    def __init__(self, fd: int, host: str) -> None:
        self.host = host
        self.sock = socket(fileno=fd)

    def fileno(self) -> int:
        """Return the descriptor, which is readable when the container has sent a message."""
        return self.sock.fileno()

    def wait(self, pid: int) -> None:
        """Wait until the container is ready, or init (`pid`) has ended. init becomes the manager's main process."""
        pidfd = proc.open_pidfd(pid)
        if pidfd < 0:
            return
        poller = select.poll()
        poller.register(self.fileno(), select.POLLIN)
        poller.register(pidfd, select.POLLIN)
        while self.fileno() in dict(poller.poll()):
            if self.forward(pid, _PATIENCE):
                break
        os.close(pidfd)

    def forward(self, main_pid: int, patience: float = 0) -> bool:
        """Read one message, and pass only READY on. Return whether the message held it."""
        lines = self.sock.recv(_LIMIT).split(b"\n")
        ready = next((line for line in lines if line.startswith(b"READY=")), b"")
        if ready:
            try:
                _tell(self.host, [ready, b"MAINPID=%d" % main_pid], patience)
            except OSError as error:
                log.warn(f"NOTIFY_SOCKET: {error.strerror}")
        return bool(ready)


def bind(directory: StateDir) -> int:
    """Bind the container's socket in the state directory; return its descriptor. Raises RootlessError."""
    sock = sockets.create(SOCK_DGRAM)
    try:
        path = sockets.address_at(directory.fd, SOCKET)
        sock.bind(path)
        os.chmod(path, 0o777)  # because the program may run as any user of the container
    except OSError as error:
        sock.close()
        raise RootlessError.from_os(error, "cannot make the notify socket", SOCKET) from None
    return sock.detach()


def receive(sock: socket) -> Listener | None:
    """Receive the container's socket from init. Return a listener, None if no manager waits for this command.

    Raises EOFError if init is gone.
    """
    _, _, (fd,) = channel.receive(sock, channel.NOTIFY)
    host = os.environ.get("NOTIFY_SOCKET", "")
    if host:
        return Listener(fd, host)
    os.close(fd)
    return None


def _tell(host: str, lines: list[bytes], patience: float) -> None:
    """Send lines to the manager, then BARRIER=1 with a pipe, which the manager closes when it has read them.

    patience: seconds to wait for that, 0 for not at all. Raises OSError.
    """
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
        if patience and not wait_for(reader, patience):
            log.warn("NOTIFY_SOCKET: the service manager does not read its messages")
    finally:
        os.close(reader)
        sock.close()
