"""Be the runtime of one container, in a copy of the launcher: of one with a name, or with what takes more than a clone.

Such a container has a state directory, so `rootless list`, `exec` and `kill` see it. Its runtime stays until the
container ends, and removes it. A container with a name may outlive the Python process. One without ends with it,
because the kernel then sends SIGTERM to the runtime, which ends the container and leaves nothing of it.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from typing import TYPE_CHECKING, Any

from rootless import log
from rootless.api import wire
from rootless.errors import RootlessError
from rootless.kernel import channel, signals
from rootless.kernel import syscalls as sc
from rootless.kernel.host import Host
from rootless.kernel.waiting import wait_for
from rootless.process import program
from rootless.runtime.bundle import Bundle, CreateRequest
from rootless.runtime.create import Created, create
from rootless.runtime.delete import remove, remove_after
from rootless.runtime.start import start
from rootless.runtime.state import default_root
from rootless.startup import jsonlite

if TYPE_CHECKING:
    from _socket import socket

    from rootless.api.plans import Compiled
    from rootless.cgroup.oom import Watch
    from rootless.init.launched import Call
    from rootless.process.child_options import ChildOptions

_HIGH = 64  # our own descriptors move here, so that those of pass_fds can have their numbers


def main(compiled: Compiled, container_id: str, call: Call, verdict: socket, end: int, launcher: int) -> None:
    """Create, start, wait and delete; the verdict and the end go to the caller. launcher: a pidfd of it."""
    try:
        _end_on_sigterm(launcher if not compiled.name else -1)
        verdict, end = arrange(call, verdict, end)
        log.tell_warnings(lambda line: channel.send(verdict, channel.STEP, line.encode("utf-8", "surrogateescape")))
        created = _create(compiled, container_id, call, end)
    except BaseException as error:
        refuse(verdict, error)
        return
    container = created.container
    try:
        signals.unblock(signals.ENDING)  # `create` has blocked them until here
        oom = container.watch_oom()
        start(container)
        pid = container.pid if call.pid1 else _program_of(container.pid)
        log.tell_warnings(None)
        tell_start(verdict, pid)
        release(call, speaks="poststop" in container.state.get("hooks", ()))
        container.directory.lock.give_up()
    except BaseException as error:
        remove(container)
        refuse(verdict, error)
        return
    _await_end(created, call, end, oom)
    os._exit(0)


def _create(compiled: Compiled, container_id: str, call: Call, end: int) -> Created:
    """Create the container, without limits if the caller allows it and they cannot be set. Raises RootlessError."""
    spec = compiled.spec
    if compiled.warning:
        log.warn(compiled.warning)
    try:
        return create(_request(compiled, spec, container_id, call, end), Host())
    except RootlessError as error:
        if not error.where.startswith("/linux/resources"):
            raise
        if not compiled.best_effort:
            error.hint = f'{error.hint}; limits="best-effort" runs it without them'.lstrip("; ")
            raise
        log.warn(f"the container runs without limits: {error}")
    spec = {**spec, "linux": {key: value for key, value in spec["linux"].items() if key != "resources"}}
    return create(_request(compiled, spec, container_id, call, end), Host())


def _end_on_sigterm(launcher: int) -> None:
    """Raise SIGTERM as Interrupted, which the launcher has ignored so far; get one when the launcher has ended.

    launcher: a pidfd of it, -1 for a container that outlives it.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signals.end_on_signals()
    if launcher >= 0:
        sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGTERM)
        if wait_for(launcher, 0):  # it has ended before that call
            os._exit(1)


def _wait(created: Created, oom: Watch | None) -> int:
    """Return the wait status of the container's init; SIGTERM kills it first.

    OOM kills are counted as they happen, because systemd removes a scope, and its count, as soon as it is empty.
    """
    poller = select.poll()
    poller.register(created.pidfd, select.POLLIN)
    if oom and oom.fd >= 0:
        poller.register(oom.fd, select.POLLPRI)
    while True:
        try:
            ready = poller.poll()
        except signals.Interrupted:
            signal.pidfd_send_signal(created.pidfd, signal.SIGKILL)
            continue
        if oom:
            oom.look()
        if (created.pidfd, select.POLLIN) in ready:
            return os.waitpid(created.container.pid, 0)[1]


def _await_end(created: Created, call: Call, end: int, oom: Watch | None) -> None:
    container = created.container
    status = _wait(created, oom)
    code = os.waitstatus_to_exitcode(status)
    kills = oom.kills or int(oom.is_probable(code if code >= 0 else 128 - code)) if oom else 0
    if created.engine:
        created.engine.end()
    try:
        remove_after(container)
    finally:
        if call.pid1:
            _report(end, wire.STATUS + wire.pack_end(status, 0)[1:5])
        _report(end, wire.pack_end(status, kills))


def _report(end: int, data: bytes) -> None:
    try:
        os.write(end, data)
    except OSError:
        pass  # nobody waits for it any more


def refuse(verdict: socket, error: BaseException) -> None:
    """Tell the caller why no container was started. A missing program becomes ENOENT, as from execve(2)."""
    if isinstance(error, RootlessError) and error.where.startswith("/process/args") and not error.errno:
        error.errno = errno.ENOENT
    channel.send_failure(verdict, error, "run", "")


def tell_start(verdict: socket, pid: int) -> None:
    """Tell the caller that the program runs: its pid, and a pidfd, which there is none of if it was reaped already."""
    pidfds: tuple[int, ...] = ()
    try:
        pidfds = (os.pidfd_open(pid),)
    except ProcessLookupError:
        pass
    channel.send(verdict, channel.EXECUTING, b"%d" % pid, pidfds)
    for pidfd in pidfds:
        os.close(pidfd)
    verdict.close()


def arrange(call: Call, verdict: socket, end: int) -> tuple[socket, int]:
    """Put the caller's streams and pass_fds on their numbers, and what is ours out of their way."""
    sources = [*call.streams, *(fd for fd, _ in call.passed)]
    targets = [0, 1, 2, *(number for _, number in call.passed)]
    high = max(_HIGH, *targets) + 1
    copies = [program.move_up(fd, high) if fd >= 0 else -1 for fd in sources]
    moved = type(verdict)(fileno=program.move_up(verdict.fileno(), high))
    moved_end = program.move_up(end, high)
    verdict.detach()
    program.close_all_but([moved.fileno(), moved_end, *(fd for fd in copies if fd >= 0)])
    for copy, target in zip(copies, targets, strict=True):
        if copy >= 0:
            os.dup2(copy, target)
            os.close(copy)
        elif target == 0 or target > 2:
            os.close(target)
        else:  # a socket of ours must not get the number of a closed stream
            os.dup2(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), target)
    if call.streams[0] < 0:
        os.open("/dev/null", os.O_RDONLY)
    return moved, moved_end


def release(call: Call, *, speaks: bool = False) -> None:
    """Give up the program's streams and pass_fds. The other side then sees at once that the program has closed one.

    speaks: keep stderr, because a hook that runs at the end may have something to say.
    """
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1) if speaks else (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    for _, number in call.passed:
        if number > 2:
            os.close(number)


def process_of(call: Call, process: dict[str, Any]) -> dict[str, Any]:
    """Return config.json's process with what the call asks for, but for `call.options`, which init applies."""
    changed = {**process, "args": [os.fsdecode(arg) for arg in call.args], "terminal": False}
    if call.umask >= 0:
        user = process.get("user")
        changed["user"] = {**(user if isinstance(user, dict) else {}), "umask": call.umask}
    return changed


def _saved(spec: dict[str, Any], options: ChildOptions) -> bytes:
    """Return the config.json of the state directory: later processes begin where the program does (`rootless exec`)."""
    process = spec["process"]
    if options.env is not None:
        process = {**process, "env": options.env}
    if options.cwd.startswith("/"):
        process = {**process, "cwd": options.cwd}
    return jsonlite.dumps({**spec, "process": process}, 1).encode("utf-8", "surrogatepass")


def _request(
    compiled: Compiled, spec: dict[str, Any], container_id: str, call: Call, end: int
) -> CreateRequest:  # fmt: skip
    host = compiled.host
    spec = {**spec, "process": process_of(call, spec["process"])}
    return CreateRequest(
        Bundle(container_id, compiled.bundle, spec, _saved(spec, call.options)),
        root=default_root(host.uid, host.uid == 0 and host.in_userns),
        detached=False,
        preserve_fds=max((number - 2 for _, number in call.passed), default=0),
        init=not call.pid1,
        options=call.options,
        status_fd=-1 if call.pid1 else end,
    )


def _program_of(init: int) -> int:
    """Return the pid of the program that the small init has started: proc_pid_task_children(5)."""
    try:
        with open(f"/proc/{init}/task/{init}/children", "rb") as file:
            return int(file.read().split()[0])
    except (OSError, IndexError):  # a kernel without that file, or it has ended
        return init
