"""Carry out exec, pause, resume, stats and update for a running container, in a copy of the launcher."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rootless import cgroup
from rootless.api import named, wire
from rootless.api.clones import read_call
from rootless.api.running import Running
from rootless.cgroup import files, freezer, stats
from rootless.config_node import Node
from rootless.errors import RootlessError, advice
from rootless.kernel import channel, child, proc
from rootless.kernel.host import Host
from rootless.plan.seccomp import compile_seccomp
from rootless.plan.settings import Settings, apply_settings
from rootless.process import attributes
from rootless.runtime import container as containers
from rootless.runtime.container import Container
from rootless.runtime.exec import ExecRequest, RunningContainer, Task, compile_process_of, spawn
from rootless.runtime.state import default_root
from rootless.startup import jsonlite

if TYPE_CHECKING:
    from _socket import socket

    from rootless.api.running import Own
    from rootless.cgroup.driver import Cgroup
    from rootless.init.launched import Call

_STREAMS = 2


def clone_control(
    target: Running, number: int, verdict: socket, fds: list[int], action: str, words: Any, own: Own
) -> Running:
    """Clone the process that does it. Raises OSError."""

    def live() -> None:
        own.leave()
        try:
            if action == "exec":
                _exec(target, verdict, fds, words)
            else:
                text = _ACTIONS[action](_cgroup_of(target, action), words)
                channel.send(verdict, channel.EXECUTING, text.encode())
        except BaseException as error:
            named.refuse(verdict, error)
        os._exit(0)

    end = os.dup(fds[0])
    try:
        pid, pidfd = child.clone(0, live)
    except BaseException:
        os.close(end)
        raise
    return Running(number, pid, pidfd, end)


def _container_of(target: Running) -> Container:
    """Return the container: from its state directory, or made up of what the launcher knows."""
    compiled = target.compiled
    assert compiled
    if compiled.needs_runtime:
        host = Host()
        return containers.load(default_root(host.uid, host.uid == 0 and host.in_userns), target.container_id)
    state: Any = {"pid": target.pid, "start_time": proc.start_time(target.pid), "created": "-"}
    state["annotations"] = compiled.plan.annotations
    if target.group:
        state["cgroup"] = target.group.record
    made_up = Container(None, state)  # type: ignore[arg-type]
    made_up._config = compiled.spec
    return made_up


def _cgroup_of(target: Running, action: str) -> Cgroup:
    group = _container_of(target).cgroup()
    if not group.path:
        hint = advice("python-cgroup")
        raise RootlessError(f"{action}: the container has no cgroup", hint=hint)
    return group


def _pause(group: Cgroup, _: Any) -> str:
    freezer.freeze(group)
    return ""


def _resume(group: Cgroup, _: Any) -> str:
    freezer.thaw(group)
    return ""


def _stats(group: Cgroup, _: Any) -> str:
    return jsonlite.dumps(stats.collect(group))


def _update(group: Cgroup, limits: dict[str, Any]) -> str:
    if not limits:
        raise RootlessError("update: nothing to change", hint="memory=, cpus= or pids=")
    unknown = sorted(set(limits) - {"memory", "cpus", "pids"})
    if unknown:
        raise RootlessError(f"update: {unknown[0]} cannot be changed", hint="memory=, cpus= or pids=")
    changed = apply_settings({"linux": {}}, Settings(**limits), Host())
    group.apply(files.compile_files(Node(changed)["linux"]["resources"]))
    return ""


_ACTIONS = {"pause": _pause, "resume": _resume, "stats": _stats, "update": _update}


def _exec(target: Running, verdict: socket, fds: list[int], words: Any) -> None:
    """Run one more process in the container; its wait status goes to the caller."""
    call_words, ids = words
    call = read_call(call_words, fds[_STREAMS:])
    container = _container_of(target)
    container._config = container.config  # read now: its directory is closed next
    verdict, end = named.arrange(call, verdict, fds[0])
    try:
        _exec_call(target, container, call, ids, verdict, end)
    except BaseException as error:
        named.refuse(verdict, error)


def _process_of(container: Container, call: Call, ids: dict[str, Any]) -> dict[str, Any]:
    """Return the process of this call: the container's own, with what the call asks for. Raises RootlessError.

    ids: user, group and groups, None for the container's own; names are those of the container as it is now.
    """
    process: dict[str, Any] = named.process_of(call, container.config["process"])
    if any(value is not None for value in ids.values()):
        from rootless.api.users import find_user

        user = process.get("user") or {}
        entry = find_user(user, ids, f"/proc/{container.pid}/root")
        process["user"] = {**user, "uid": entry.uid, "gid": entry.gid, "additionalGids": entry.groups}
    return process


def _keyring_of(target: Running, container: Container, running: RunningContainer) -> str:
    """Return the name of the container's session keyring."""
    assert target.compiled
    if target.compiled.needs_runtime:
        return f"_ses.{container.container_id}"
    return target.compiled.prepared.keyring or attributes.keyring_of(running.proc_fd, str(container.pid))


def _exec_call(
    target: Running, container: Container, call: Call, ids: dict[str, Any], verdict: socket, end: int
) -> None:
    running = RunningContainer(container)
    request = ExecRequest([os.fsdecode(arg) for arg in call.args])
    process = compile_process_of(request, container, running, _process_of(container, call, ids))
    task = Task(process, compile_seccomp(Node(container.config)))
    task.emulate(container)
    task.keyring = _keyring_of(target, container, running)
    task.foreground = True
    task.options = call.options
    task.preserve_fds = max((number - 2 for _, number in call.passed), default=0)
    group = cgroup.open(container.cgroup_record) if container.cgroup_path else None
    if group and freezer.is_frozen(group):  # the program would join the frozen cgroup, and its caller wait for ever
        raise RootlessError("cannot exec in a paused container", hint="resume() lets it continue")
    spawned = spawn(running, task, group.join_fd(container.pid) if group else -1)
    try:
        channel.send(spawned.sync, channel.MAY_SPEAK)
        channel.receive(spawned.sync, channel.EXECUTING)
        try:
            while True:
                _, emulated, fds = channel.receive(spawned.sync, channel.EMULATED)
                from rootless.emulation.load import start_supervisor

                start_supervisor(fds[0], container.pid, emulated)
        except EOFError:
            pass  # it runs
    except BaseException:
        proc.end(spawned.pid, spawned.pidfd)
        raise
    finally:
        spawned.sync.close()
        spawned.reap()
    named.tell_start(verdict, spawned.pid)
    named.release(call)
    _, status = os.waitpid(spawned.pid, 0)
    os.write(end, wire.STATUS + wire.pack_end(status, 0)[1:5])
