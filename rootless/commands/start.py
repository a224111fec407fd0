"""`start`: let a created container run its program."""

from __future__ import annotations

from rootless import lean_os as os
from rootless import verdict
from rootless.container import START_SOCKET, Container, load
from rootless.errors import RootlessError, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from rootless.options import Options


def main(options: Options) -> int:
    """`rootless start ID`."""
    container = load(options, lock=True)
    container.require("created", action="start")
    listener = None
    if os.environ.get("NOTIFY_SOCKET"):
        from rootless.notify import listen

        listener = listen(container.directory)
    try:
        start(container)
    except BaseException as error:
        from rootless.commands.delete import end, remove
        from rootless.hooks import failed_in

        if failed_in(error):
            remove(container)  # runtime.md#lifecycle: after a failed hook it is stopped and destroyed, steps 8, 9, 12
        else:
            end(container)
        raise
    if listener:
        container.close()
        listener.wait(container.pid)
    return 0


def start(container: Container, gone: tuple[socket, socket | None] | None = None) -> None:
    """Let a container that is known to be created run its program; returns when execve has happened, and the poststart
    hooks. `gone`: what verdict.let_go returned, where GO has been said already.

    Raises RootlessError with the reason where it did not: the caller ends the container.
    """
    if container.state.get("without_process"):
        raise SpecError("is required when `start` is called", "/process", hint="create it again with a process")
    try:
        sock, agent = gone or verdict.let_go(container, START_SOCKET)
        try:
            verdict.receive(sock, container, agent)
        finally:
            sock.close()
    except (EOFError, ConnectionResetError, ConnectionRefusedError, BrokenPipeError):
        raise _lost(container) from None
    poststart = container.hooks("poststart")
    if poststart:
        from rootless import hooks

        hooks.run(poststart, "poststart", container.report("running"), "running")


def _lost(container: Container) -> RootlessError:
    return RootlessError("the container's init died before it could run the program", hint=container.oom_hint())
