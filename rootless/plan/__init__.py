"""From config.json and host facts to a complete plan: `compile(spec, host, call)` is the only way to one.

The compiler is in compiler.py. This package loads it on the first call, because `exec` compiles a process alone and
does without the rest.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import Host
    from rootless.node import Node
    from rootless.plan.compiler import Plan


class Call:
    """What the caller asks for beside config.json.

    bundle: the absolute directory that relative paths count from; cgroup_manager: "" to choose; listen_fds: how many
    sockets from fd 3 on the program gets (sd_listen_fds(3)).
    """

    __slots__ = ("bundle", "cgroup_manager", "container_id", "listen_fds")

    def __init__(
        self, bundle: str, container_id: str = "container", *, cgroup_manager: str = "", listen_fds: int = 0
    ) -> None:
        self.bundle = bundle
        self.container_id = container_id
        self.cgroup_manager = cgroup_manager
        self.listen_fds = listen_fds


def compile(spec: Node, host: Host, call: Call) -> Plan:
    """Return the plan for a config on this machine. Raises SpecError and RootlessError (compiler.py)."""
    from rootless.plan import compiler

    return compiler.compile(spec, host, call)
