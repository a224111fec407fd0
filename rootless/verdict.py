"""The verdict on a program that was let go, for `start` and `exec`: an exec FIFO cannot give it.

`E` and the end: it runs. `E` and a message: execve failed. The end without `E`: it died before. Between the two a
filter's listener may come, which goes on to the agent: it answers from then on.
"""

from __future__ import annotations

from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket

from rootless import channel
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container import Container


def let_go(container: Container, name: str) -> tuple[socket, socket | None]:
    """Say GO at the start socket, which has that name until then: (where the verdict comes, its filter's agent).

    Init takes it as soon as it is created. Raises ConnectionRefusedError or BrokenPipeError where it has ended.
    """
    agent = connect_agent(container)
    sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{container.directory.fd}/{name}")
        container.directory.unlink(name)
        channel.send(sock, channel.GO)
    except BaseException:
        sock.close()
        raise
    return sock, agent


def connect_agent(container: Container) -> socket | None:
    """A connection to the agent of a filter that notifies, before the program may go; None without such a filter."""
    if not container.state.get("listener"):
        return None
    from rootless.seccomp import connect_listener

    return connect_listener(container.state["listener"][0])


def receive(sock: socket, container: Container, agent: socket | None) -> None:
    """Wait for it. Raises EOFError where the program died before execve, RootlessError where execve failed."""
    channel.receive(sock, channel.EXECUTING)
    try:
        while True:
            _, _, fds = channel.receive(sock, channel.LISTENER)
            if agent is None:
                raise RootlessError("a seccomp listener, and nobody to send it to", "/linux/seccomp/listenerPath")
            from rootless.seccomp import send_listener

            send_listener(agent, fds[0], container.report("running"), container.state["listener"][1])
    except EOFError:
        return
