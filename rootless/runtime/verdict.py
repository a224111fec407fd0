"""The verdict on a program that was let go, for `start` and `exec`: an exec FIFO cannot give it.

`E` and the end: it runs. `E` and a message: execve failed. The end without `E`: it died before. Between the two a
filter's listener may come, which goes on to the agent: it answers from then on.
"""

from __future__ import annotations

from rootless.errors import RootlessError
from rootless.kernel import channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from rootless.runtime.container import Container


def connect_agent(container: Container) -> socket | None:
    """A connection to the agent of a filter that notifies, before the program may go; None without such a filter."""
    if not container.state.get("listener"):
        return None
    from rootless.process.seccomp import connect_listener

    return connect_listener(container.state["listener"][0])


def receive(sock: socket, container: Container, agent: socket | None, status: str, pid: int = 0) -> None:
    """Wait for it. Raises EOFError where the program died before execve, RootlessError where execve failed.

    status, pid: what the agent is told of the container, and of the process if it is not its init. Before the
    container's own program runs the status is `creating` (config-linux.md#containerprocessstate; runc and crun too).
    """
    channel.receive(sock, channel.EXECUTING)
    try:
        while True:
            _, _, fds = channel.receive(sock, channel.LISTENER)
            if agent is None:
                raise RootlessError("a seccomp listener, and nobody to send it to", "/linux/seccomp/listenerPath")
            from rootless.process.seccomp import send_listener

            send_listener(agent, fds[0], container.report(status), container.state["listener"][1], pid)
    except EOFError:
        return
