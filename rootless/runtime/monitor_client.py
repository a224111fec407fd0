"""Talk to the monitor of a container from another command: wait for the end, and say that the program runs."""

from __future__ import annotations

import errno
import os
from socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket

from rootless import log
from rootless.errors import RootlessError, advice
from rootless.kernel import proc
from rootless.kernel.pidfd import wait_status
from rootless.runtime.container import Container, load

SOCKET = "monitor.sock"  # in the state directory while the monitor runs
START_TOLD_SOCKET = "started.sock"  # `start` connects to it, so that the time limit of a created container begins


def tell_started(container: Container) -> None:
    """Tell the monitor that the program runs. A monitor that has been killed ends no program in time."""
    connection = _connect(container, START_TOLD_SOCKET)
    if connection is None:
        log.warn("the container's monitor has ended: the program has no time limit")
    else:
        connection.close()
        container.directory.unlink(START_TOLD_SOCKET)


def wait_for(root: str, container_id: str) -> int:
    """Wait for a container's end; return its program's exit code. Raises RootlessError if that cannot be known."""
    container = load(root, container_id)
    pidfd = proc.open_pidfd(container.pid) if container.pid else -1
    is_alive = pidfd >= 0 and container.alive()
    # The program may have ended and its monitor may not have written the exit code yet; then it still answers here.
    connection = _connect(container)
    if connection is not None:
        said = connection.recv(16)
        if said.isdigit():
            return int(said)
    number = wait_status(pidfd) if is_alive else None
    if number is not None:
        code = os.waitstatus_to_exitcode(number)
        return code if code >= 0 else 128 - code
    return _known(container)


def _connect(container: Container, name: str = SOCKET) -> socket | None:
    connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{container.directory.fd}/{name}")
    except OSError as error:
        connection.close()
        if error.errno not in (errno.ENOENT, errno.ECONNREFUSED):
            raise
        return None
    return connection


def _known(container: Container) -> int:
    state = container.directory.read("state.json") or {}
    code = state.get("exit_code")
    if type(code) is int:
        return code
    hint = advice("exit-code-unknown")
    raise RootlessError("exit code unknown: the container has ended", f'"{container.container_id}"', hint=hint)
