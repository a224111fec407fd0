"""Run the monitor: a parent process that waits for the end of a detached container.

A container has one only if a log file, a time limit, --rm, a later `wait`, or a helper such as a network engine needs
it. The monitor ends the program at its time limit, ends the helpers when the container has ended (runtime/helpers.py),
and writes the exit code and the time into the state. It sends the exit code to every `wait` that is connected to its
socket in the state directory. If it is killed, the container and its helpers continue, and `delete --force` ends them.
"""

from __future__ import annotations

import os
import select
import time
from signal import SIG_DFL, SIG_IGN, signal
from socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_SEQPACKET, socket
from typing import TYPE_CHECKING

from rootless import log
from rootless.errors import NoSuchContainer, RootlessError, unexpected
from rootless.kernel import child, proc
from rootless.kernel.files import write_at_once
from rootless.process.program import all_passed_on
from rootless.runtime.container import Container, TakingBack
from rootless.runtime.create import create
from rootless.runtime.foreground import exit_code
from rootless.runtime.interpreter import protect
from rootless.runtime.limit import EXIT_TIMEOUT, TimeLimit
from rootless.runtime.monitor_client import SOCKET, START_TOLD_SOCKET
from rootless.runtime.start import start
from rootless.startup import jsonlite
from rootless.userns.run import default_maps

if TYPE_CHECKING:
    from rootless.cgroup.oom import Watch
    from rootless.kernel.host import Host
    from rootless.runtime.bundle import CreateRequest

_STARTED = b"s"
_HUP, _INT, _QUIT, _TERM = 1, 2, 3, 15


def run_monitored(request: CreateRequest, host: Host, log_file: str = "", *, keep: bool = True) -> int:
    """Run a detached container with a monitor; return 0 when its program runs. Raises RootlessError.

    log_file: gets the program's output, "" for this command's standard streams; keep: do not delete the container when
    it ends.
    """
    protect(*default_maps(host))  # before the fork: the copy would fork again
    output = _open_log(log_file) if log_file else -1
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def live() -> None:
        os.close(reader)
        os.setsid()
        try:
            _monitor(request, host, writer, output, keep=keep)
        except BaseException as error:
            log.trace(error)
            failure = unexpected(error)
            words = [failure.what, failure.where, failure.errno, failure.hint, type(failure).__name__]
            write_at_once(writer, jsonlite.dumps(words).encode())
            os._exit(1)
        os._exit(0)

    _, pidfd = child.clone(0, live)
    os.close(pidfd)
    os.close(writer)
    if output >= 0:
        os.close(output)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    if said == _STARTED:
        return 0
    if not said:
        raise RootlessError("the container's monitor died before the program ran", request.container_id)
    what, where, number, hint, kind = jsonlite.loads(said)
    if kind == "IdInUse":
        from rootless.errors import IdInUse

        raise IdInUse(request.container_id, where)
    raise RootlessError(what, where, number, hint)


def _open_log(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot open the log file", path) from None


def _monitor(request: CreateRequest, host: Host, writer: int, output: int, *, keep: bool) -> None:
    for signum in (_HUP, _INT, _QUIT):
        signal(signum, SIG_IGN)  # they are for the caller's terminal, and the container must continue
    signal(_TERM, SIG_DFL)
    errors = os.dup(2)
    if output >= 0:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd, source in ((0, null), (1, output), (2, output)):
            os.dup2(source, fd)
        os.close(null)
        os.close(output)
    created = create(request, host)
    container = created.container
    try:
        oom = container.watch_oom()
        listener = _listen(container, SOCKET)
        started = _listen(container, START_TOLD_SOCKET) if request.timeout and not request.starts else None
        notified = start(container) if request.starts else None
        container.directory.note(" ".join(map(str, proc.own_identity())), "monitor")
        container.directory.lock.give_up()
    except BaseException:
        os.dup2(errors, 2)
        with TakingBack(container):
            from rootless.runtime.delete import remove

            remove(container)
        raise
    os.close(errors)
    if notified:
        notified.wait(container.pid)
    write_at_once(writer, _STARTED)
    os.close(writer)
    _close_streams()
    waiting: list[socket] = []
    if started:
        waiting = _watch(created.pidfd, listener, oom, None, until=started)
    limit = TimeLimit(request.timeout, container.pid, created.pidfd) if request.timeout else None
    waiting += _watch(created.pidfd, listener, oom, limit)
    code = exit_code(container.pid)
    if created.engine:
        created.engine.end()  # also if the state directory, which notes it, is gone
    if limit and limit.over:
        code = EXIT_TIMEOUT
    _record(container, code, oom.kills or int(oom.is_probable(code)) if oom else 0, keep=keep)
    _tell(listener, waiting, code)


def _listen(container: Container, name: str) -> socket:
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK)
    listener.bind(f"/proc/self/fd/{container.directory.fd}/{name}")
    listener.listen(64)
    return listener


def _close_streams() -> None:
    """Close what the caller gave the program in this process, so that a pipe's reader waits for the program alone."""
    for fd in all_passed_on():
        os.close(fd)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def _watch(
    pidfd: int, listener: socket, oom: Watch | None, limit: TimeLimit | None, until: socket | None = None
) -> list[socket]:
    """Wait for init's end; return the connections of the commands that wait for it, too.

    until: return also when somebody connects to this socket.
    """
    waiting: list[socket] = []
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.register(listener.fileno(), select.POLLIN)
    if until:
        poller.register(until.fileno(), select.POLLIN)
    if oom and oom.fd >= 0:
        poller.register(oom.fd, select.POLLPRI)
    while True:
        events = poller.poll(limit.timeout() if limit else None)
        if limit:
            limit.look()
        for fd, _ in events:
            if fd == pidfd:
                if oom:
                    oom.look()
                return waiting
            if until and fd == until.fileno():
                return waiting
            if fd == listener.fileno():
                waiting += _accept(listener)
            elif oom:
                oom.look()


def _accept(listener: socket) -> list[socket]:
    connections: list[socket] = []
    while True:
        try:
            fd, _ = listener._accept()  # type: ignore[attr-defined]
        except OSError:  # EAGAIN: no more connections
            return connections
        connections.append(socket(AF_UNIX, SOCK_SEQPACKET, 0, fd))


def _record(container: Container, code: int, kills: int, *, keep: bool) -> None:
    """Write the exit code into the state, or delete the container, unless another `delete` was faster."""
    directory = container.directory
    try:
        directory.lock.take(proc.own_identity())
    except NoSuchContainer:
        return
    if not keep:
        from rootless.runtime.delete import remove

        remove(container)
        return
    from rootless.runtime.helpers import end_helpers

    end_helpers(directory)
    state = directory.read("state.json") or container.state
    state["exit_code"] = code
    state["finished"] = log.rfc3339(time.time())
    if kills:
        state["oom_kills"] = kills
    Container(directory, state).save()
    directory.unlink(SOCKET)
    directory.lock.give_up()


def _tell(listener: socket, waiting: list[socket], code: int) -> None:
    for connection in [*waiting, *_accept(listener)]:
        try:
            connection.send(str(code).encode())
        except OSError:  # the other command has ended
            pass
        connection.close()
