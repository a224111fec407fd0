"""Run the program of a created container."""

from __future__ import annotations

from _socket import SOCK_SEQPACKET

from rootless import log
from rootless.errors import RootlessError, SpecError
from rootless.kernel import channel, sockets
from rootless.runtime import verdict
from rootless.runtime.container import START_SOCKET, Container, TakingBack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

    from rootless.runtime.notify import Listener


def connect(container: Container, name: str = START_SOCKET) -> socket:
    """Return a connection to the container's init. Raises OSError. name: the current name of its socket."""
    sock = sockets.create(SOCK_SEQPACKET)
    try:
        sockets.connect_at(sock, container.directory.fd, name)
    except OSError:
        sock.close()
        raise
    return sock


def start(
    container: Container, sock: socket | None = None, await_hooks: Callable[[socket], None] | None = None
) -> Listener | None:
    """Run the program of a created container; return after execve and the poststart hooks. Raises RootlessError.

    sock: a connection to init, None to connect here; await_hooks: is called with it when init has been told to go on.
    The result receives what the program tells a service manager, None without one. After an error the caller must end
    the container.
    """
    if container.state.get("without_process"):
        raise _no_process_error()
    agent = verdict.connect_agent(container)
    listener = None
    try:
        sock = sock or connect(container)
        if container.state.get("notify"):
            from rootless.runtime import notify

            listener = notify.receive(sock)
        container.directory.unlink(START_SOCKET)
        channel.send(sock, channel.RUN, b"1" if log.debugging() else b"0")
        if await_hooks:
            await_hooks(sock)
        verdict.await_exec(sock, container, agent, "creating")
    except (EOFError, ConnectionResetError, ConnectionRefusedError, BrokenPipeError):
        raise _init_died_error(container) from None
    finally:
        if sock:
            sock.close()
    if container.state.get("time_limit"):
        from rootless.runtime.monitor_client import tell_started

        tell_started(container)
    poststart = container.hooks("poststart")
    if poststart:
        from rootless.process.hooks import HookContext
        from rootless.runtime.hooks import run_hooks

        run_hooks({"poststart": poststart}, "poststart", HookContext(container.report("running"), "running"))
    return listener


def start_or_end(container: Container) -> Listener | None:
    """Start a container; end it if its program cannot run. Raises RootlessError."""
    try:
        return start(container)
    except BaseException as error:
        with TakingBack(container):
            from rootless.runtime.delete import end, remove
            from rootless.runtime.hooks import failed_in_hook

            if failed_in_hook(error):
                remove(container)  # runtime.md#lifecycle: a failed hook destroys the container (steps 8, 9, 12)
            else:
                end(container)
        raise


def end_without_process(container: Container) -> int:
    """Log that the container has no process, end it, and return 0 like crun.

    runtime.md#errors leaves open how an error is reported, and the public test suite expects this command to succeed.
    """
    from rootless.runtime.delete import end

    log.error(_no_process_error().message())
    end(container)
    return 0


def _no_process_error() -> SpecError:
    return SpecError("is required when `start` is called", "/process", hint="create it again with a process")


def _init_died_error(container: Container) -> RootlessError:
    return RootlessError("the container's init died before it could run the program", hint=container.oom_hint())
