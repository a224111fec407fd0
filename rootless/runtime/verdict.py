"""Tell `start` and `exec` whether execve succeeded, which runc's exec FIFO cannot do.

The process sends EXECUTING right before execve. If the end of the socket follows, the program runs, because execve
closes it. If an error message follows, execve failed. The end without EXECUTING means that the process died. Between
the two the fd of a seccomp listener may come, which is passed to the agent, or that of root emulation, which gets a
supervisor.
"""

from __future__ import annotations

from rootless.errors import RootlessError
from rootless.kernel import channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from rootless.runtime.container import Container


def connect_agent(container: Container) -> socket | None:
    """Connect to the agent of a seccomp filter that notifies; return None without such a filter. Raises RootlessError.

    Call this before the program may start, because its system calls wait for the agent.
    """
    if not container.state.get("listener"):
        return None
    from rootless.process.seccomp import connect_listener

    return connect_listener(container.state["listener"][0])


def await_exec(sock: socket, container: Container, agent: socket | None, status: str, pid: int = 0) -> None:
    """Wait until execve has succeeded. Raises EOFError if the process died before, RootlessError if execve failed.

    status: the container's status for the agent; it is `creating` until the container's own program runs
    (config-linux.md#containerprocessstate; like runc and crun). pid: the process, 0 for init.
    """
    channel.receive(sock, channel.EXECUTING)
    try:
        while True:
            tag, ids, fds = channel.receive(sock, channel.LISTENER, channel.EMULATED)
            if tag == channel.EMULATED:
                from rootless.emulation.load import start_supervisor

                # By the namespaces of init, whose program runs: before its execve, a process of `exec` is not dumpable,
                # because its ids have changed, and nobody may open its /proc/PID/ns (proc(5)).
                supervisor = start_supervisor(fds[0], container.pid, ids)
                if not pid:  # that of `exec` ends with its program
                    from rootless.runtime.helpers import note_helper

                    note_helper(container.directory, "supervisor", *supervisor)
                continue
            if agent is None:
                raise RootlessError("no agent for the seccomp listener", "/linux/seccomp/listenerPath")
            from rootless.process.seccomp import send_listener

            send_listener(agent, fds[0], container.report(status), container.state["listener"][1], pid)
    except EOFError:
        return
