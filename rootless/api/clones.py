"""Clone from the launcher a container, or a copy of the launcher as the runtime of one that takes more than a clone."""

from __future__ import annotations

from _socket import socket

from rootless import cgroup
from rootless.api import wire
from rootless.api.running import Running
from rootless.errors import RootlessError
from rootless.init import launched
from rootless.init.launched import Call, Life
from rootless.kernel import channel, child, proc
from rootless.kernel import syscalls as sc
from rootless.process import program
from rootless.startup import lean_os as os
from rootless.userns.idmap import write_maps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.api.plans import Compiled
    from rootless.api.running import Own
    from rootless.cgroup.driver import Cgroup

_STREAMS = 2  # where the streams begin among a request's fds
_RESTORES, _PID1 = 5, 8  # where a call holds `restore` and `pid1` (init/launched.py, Call)


def read_call(words: Any, fds: list[int]) -> Call:
    """Return the call that a request holds. closed: which of 0, 1 and 2 has no fd among them."""
    *plain, closed, numbers = words
    call = Call(*plain)
    rest = iter(fds)
    call.streams = [-1 if number in closed else next(rest) for number in range(3)]
    call.passed = [(next(rest), number) for number in numbers]
    return call


def is_pid1(words: Any) -> bool:
    """Return whether the program of a call is to be pid 1 itself (Call.pid1)."""
    return bool(words[_PID1])


def restores_signals(words: Any) -> bool:
    """Return whether the program of a call gets the default handlers of all signals (Call.options)."""
    return bool(words[_RESTORES])


def refuse(error: Exception, fds: list[int]) -> None:
    """Answer a request with an error. fds: those that were received with it, which this closes."""
    if len(fds) > 1:
        verdict = socket(fileno=fds.pop(1))
        channel.send_failure(verdict, error, "run", "")
        verdict.close()
    for fd in fds:
        os.close(fd)


def clone_container(
    compiled: Compiled, number: int, verdict: socket, fds: list[int], words: Any, own: Own, answers: int = -1
) -> Running:
    """Clone a container without a state directory. Raises RootlessError and OSError.

    words: the call, None for a container that waits for it; answers: what a spare sends to its caller (api/spares.py),
    -1 for no spare.
    """
    end = os.dup(fds[0])  # first, because without one nobody would wait for the container
    try:
        pid, pidfd, group = _clone_init(compiled, number, verdict, fds, words, own, answers)
    except BaseException:
        os.close(end)
        raise
    running = Running(number, pid, pidfd, end)
    running.group = group
    return running


def _clone_init(
    compiled: Compiled, number: int, verdict: socket, fds: list[int], words: Any, own: Own, answers: int
) -> tuple[int, int, Cgroup | None]:
    """Clone a container's init; return its pid, its pidfd and its cgroup."""
    plan, prepared = compiled.plan, compiled.prepared
    call = read_call(words, fds[_STREAMS:]) if words is not None else None
    group = _make_cgroup(compiled, number, verdict)
    ours = theirs = None
    if plan.namespaces.uid_map and not compiled.maps_itself:
        ours, theirs = channel.pair()
    life = Life(
        plan, prepared, verdict, fds[0], own.pidfd, call, theirs, keeps_ids=compiled.keeps_ids, spawns=compiled.spawns,
        answers=answers,
    )  # fmt: skip

    def live() -> None:
        own.leave()
        launched.main(life, receive_call)

    try:
        flags = plan.namespaces.new & ~(sc.CLONE_NEWCGROUP | sc.CLONE_NEWTIME)
        pid, pidfd = child.clone(flags, live, cgroup_fd=group.fd if group else -1)
    except BaseException as error:
        if group:
            group.remove()
        if isinstance(error, OSError):
            from rootless.userns.hints import clone_error

            raise clone_error(error) from None
        raise
    try:
        if ours and theirs:
            theirs.close()
            _write_maps(compiled, ours, pid)
    except BaseException:
        proc.end(pid, pidfd)
        if group:
            group.remove()
        raise
    if group:
        group.close()
    return pid, pidfd, group


def _write_maps(compiled: Compiled, sync: socket, pid: int) -> None:
    """Write the id maps that init cannot write itself, and tell it."""
    namespaces = compiled.plan.namespaces
    try:
        setgroups = write_maps(
            compiled.prepared.proc_fd, pid, namespaces.uid_map, namespaces.gid_map, compiled.host,
            is_default=namespaces.map_is_default,
        )  # fmt: skip
        channel.send(sync, channel.MAPPED, b"1" if setgroups else b"0")
    finally:
        sync.close()


def receive_call(life: Life) -> Call:
    """Wait in a warm container for its call. Raises EOFError if none comes any more.

    A spare gets its caller's verdict with the call, before the streams.
    """
    error = None
    try:
        words, fds = wire.receive(life.verdict)
    except wire.TooFewFiles as too_few:
        words, fds, error = None, too_few.fds, too_few
    if life.answers >= 0 and fds:
        life.verdict.close()
        life.verdict = type(life.verdict)(fileno=fds.pop(0))
    if error:
        raise error
    return read_call(words, fds)


def _make_cgroup(compiled: Compiled, number: int, verdict: socket) -> Cgroup | None:
    """Make the container's cgroup with its limits, None if it has none. Raises RootlessError."""
    for line in compiled.plan.warnings:
        channel.send(verdict, channel.STEP, line.encode("utf-8", "surrogateescape"))
    if not compiled.limited:
        return None
    try:
        group = cgroup.open(compiled.record(f"{os.getpid()}-{number}"))
        if group.needs_pid:
            raise RootlessError("the cgroup takes a runtime", group.path)  # plans.py has given it one
        if not group.path:
            return None
        _sweep(os.path.dirname(group.path))
        group.create()
    except RootlessError as error:
        if not compiled.best_effort:
            error.hint = f'{error.hint}; limits="best-effort" runs it without them'.lstrip("; ")
            raise
        line = f"the container runs without limits: {error}"
        channel.send(verdict, channel.STEP, line.encode("utf-8", "surrogateescape"))
        return None
    return group


def _sweep(parent: str) -> None:
    """Remove what killed launchers have left: empty cgroups whose name holds the pid of a process that is gone."""
    try:
        names = [name for name in os.listdir(parent) if name.startswith("rootless-") and name.count("-") == 2]
    except OSError:  # not there yet
        return
    for name in names:
        _, pid, number = name.split("-")
        if pid.isdigit() and number.isdigit() and not os.path.exists(f"/proc/{pid}"):
            try:
                os.rmdir(f"{parent}/{name}")
            except OSError:
                continue  # a process is in it, or another launcher has removed it meanwhile


def clone_runtime(compiled: Compiled, number: int, verdict: socket, fds: list[int], words: Any, own: Own) -> Running:
    """Clone the runtime of a container that has a state directory (api/named.py).

    The runtime sets the container up when the call has come. To do so before would save nothing.
    """
    from rootless.api import named

    call = read_call(words, fds[_STREAMS:]) if words is not None else None

    def live() -> None:
        own.leave()
        if not call:  # a warm container may wait long, and must not hold other containers' sockets open meanwhile
            program.close_all_but([verdict.fileno(), fds[0], own.pidfd])
        try:
            its_call = call or read_call(*wire.receive(verdict))
        except EOFError:
            return  # the caller has closed the socket: no call comes
        named.main(compiled, container_id, its_call, verdict, fds[0], own.pidfd)

    container_id = compiled.name or f"rootless-{os.urandom(6).hex()}"
    end = os.dup(fds[0])
    try:
        pid, pidfd = child.clone(0, live)
    except BaseException:
        os.close(end)
        raise
    running = Running(number, pid, pidfd, end)
    running.container_id = container_id
    running.named = bool(compiled.name)
    return running
