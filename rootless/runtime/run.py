"""Run a container in the foreground or detached: create, start, wait, delete."""

from __future__ import annotations

from rootless import log
from rootless.kernel.signals import ENDING, FORWARDED, block, end_on_signals, unblock
from rootless.runtime.container import CREATING_SOCKET, TakingBack
from rootless.runtime.create import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

    from rootless.cgroup.oom import Watch
    from rootless.kernel.host import Host
    from rootless.runtime.bundle import CreateRequest
    from rootless.runtime.container import Container
    from rootless.runtime.create import Created
    from rootless.runtime.notify import Listener


class _Ahead:
    """Prepare `start` while init sets up its mounts and the runtime would only wait.

    load_modules: imports the modules that `run` needs later.
    """

    def __init__(self, load_modules: Callable[[], None], *, detached: bool) -> None:
        self.load_modules = load_modules
        self.detached = detached
        self.reader = -1
        self.sock: socket | None = None

    def __call__(self, container: Container) -> None:
        self.load_modules()
        from rootless.runtime.foreground import listen
        from rootless.runtime.start import connect

        if not self.detached:
            self.reader = listen(ready=False)
        try:
            self.sock = connect(container, CREATING_SOCKET)
        except (ConnectionRefusedError, FileNotFoundError):
            pass  # init has exited; its error message is still in the set-up socket and is read next


def run(
    request: CreateRequest,
    host: Host,
    load_modules: Callable[[], None],
    *,
    keep: bool = False,
    at_start: Callable[[Created], None] | None = None,
    at_end: Callable[[], int] | None = None,
) -> int:
    """Run the container; return the program's exit code, 0 when detached. Raises RootlessError.

    load_modules: imports what is needed later, while the runtime would only wait; keep: do not delete the container;
    at_start: called when the container is created and before its program runs; at_end: called when the program has
    ended and before the container is deleted (its exit code counts if it is not 0).
    """
    ahead = _Ahead(load_modules, detached=request.detached)
    end_on_signals()
    block(set(FORWARDED).difference(ENDING))
    created = create(request, host, ahead)
    container = created.container
    oom, listener = _start(created, ahead, at_start)
    if request.detached:
        if listener:
            listener.wait(container.pid)
        return 0
    code = _wait(created, ahead, oom, listener, request.timeout)
    if oom and (said := container.describe_end(oom, code)):
        log.warn(said)
    try:
        if at_end:
            code = at_end() or code
    finally:
        if not keep:
            from rootless.runtime.delete import remove_after

            remove_after(container)
    return code


def _start(
    created: Created, ahead: _Ahead, at_start: Callable[[Created], None] | None
) -> tuple[Watch | None, Listener | None]:
    """Start the program; return what watches its memory limit, and the listener of a service. A failure undoes all."""
    container, oom = created.container, None
    try:
        unblock(ENDING)
        from rootless.runtime.foreground import adopt, be_ready, be_ready_with_hooks
        from rootless.runtime.start import start

        hooks = {"startContainer", "poststart"}.intersection(container.state.get("hooks", ()))
        await_hooks = None
        if not ahead.detached:
            if hooks:
                await_hooks = be_ready_with_hooks(poststart="poststart" in hooks)
            else:
                be_ready()
            oom = container.watch_oom()
            if created.master >= 0:
                adopt(created.master)
        if at_start:
            at_start(created)
        listener = start(container, ahead.sock, await_hooks)
        if await_hooks:
            be_ready()
        if ahead.detached:
            container.close()
        return oom, listener
    except BaseException:
        with TakingBack(container):
            from rootless.runtime.delete import remove

            remove(container)
        raise


def _wait(created: Created, ahead: _Ahead, oom: Watch | None, listener: Listener | None, timeout: float) -> int:
    """Wait for the end of the program; return its exit code. A failure removes the container."""
    container, limit = created.container, None
    try:
        from rootless.runtime.foreground import wait

        container.directory.lock.give_up()
        if timeout:
            from rootless.runtime.limit import EXIT_TIMEOUT, TimeLimit

            limit = TimeLimit(timeout, container.pid, created.pidfd)
        engine = created.engine
        code = wait(
            container.pid, created.pidfd, ahead.reader, created.master, oom=oom, listener=listener, limit=limit,
            engine=engine,
        )  # fmt: skip
        if engine:
            engine.end()
        return EXIT_TIMEOUT if limit and limit.over else code
    except BaseException:
        with TakingBack(container):
            from rootless.runtime.delete import remove_failed

            remove_failed(container)
        raise
