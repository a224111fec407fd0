"""NOTIFY_SOCKET: a service manager waits for READY=1 of the program (sd_notify(3)), which cannot reach its socket.

The container gets a socket of its own on /run/notify, in a directory that is mounted read-only; whoever runs the
program listens there, tells the manager READY=1 and the main process, and waits until it has read that.
"""

from __future__ import annotations

import select
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_DGRAM, SOL_SOCKET, socket
from struct import pack

from rootless import lean_os as os
from rootless import log
from rootless.console import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.state import StateDir

DIRECTORY = "notify"  # of the state directory
_SOCKET = "notify.sock"
_INSIDE = "/run/notify"
_PATIENCE = 30  # seconds that the manager has to read what it was sent: sd_notify_barrier(3)
_LIMIT = 4096


def extend_spec(spec: dict[str, Any], source: str) -> None:
    """The mount of `source` and the variable, as runc adds them; for the first process alone, `exec` gets neither."""
    options = ["bind", "nosuid", "noexec", "nodev", "ro"]
    mounts, process = spec.get("mounts") or [], spec.get("process")
    if type(mounts) is not list or type(process) is not dict or type(process.get("env") or []) is not list:
        return  # the compiler says what is wrong with it
    spec["mounts"] = [*mounts, {"destination": _INSIDE, "source": source, "options": options}]
    process["env"] = [*(process.get("env") or ()), f"NOTIFY_SOCKET={_INSIDE}/{_SOCKET}"]


class Listener:
    """The container's end; `host` is the manager's socket."""

    def __init__(self, directory: StateDir, host: str) -> None:
        self.host = host
        self.sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
        directory.unlink(f"{DIRECTORY}/{_SOCKET}")
        path = f"/proc/self/fd/{directory.fd}/{DIRECTORY}/{_SOCKET}"
        self.sock.bind(path)
        os.chmod(path, 0o777)  # the program may be any of the container's users

    def fileno(self) -> int:
        """Readable when the container has said something."""
        return self.sock.fileno()

    def wait(self, pid: int) -> None:
        """Until the container is ready or its init `pid` has ended. That process is the manager's main one then."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
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


def listen(directory: StateDir) -> Listener | None:
    """Listen, where a manager waits and `create` has prepared for it."""
    host = os.environ.get("NOTIFY_SOCKET", "")
    return Listener(directory, host) if host and directory.has(DIRECTORY) else None


def _tell(host: str, lines: list[bytes], patience: float) -> None:
    """Send the lines, then BARRIER=1 with a pipe: its end is closed when the manager has read all."""
    sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        if host.startswith("@"):
            sock.connect(f"\0{host[1:]}")
        else:
            connect(sock, host)
        for line in lines:
            sock.send(line + b"\n")
        try:
            sock.sendmsg([b"BARRIER=1"], [(SOL_SOCKET, SCM_RIGHTS, pack("i", writer))])
        finally:
            os.close(writer)
        if patience and not select.select([reader], [], [], patience)[0]:
            log.warn("NOTIFY_SOCKET: the service manager does not read what it is told")
    finally:
        os.close(reader)
        sock.close()
