"""Compile config.json and facts about the host into a plan. Everything in this package is pure.

`compile(spec, host, call)` is the only way to a plan. The compiler is in compiler.py and is loaded on the first call,
because `exec` compiles only a process and does not need the rest.
"""

from __future__ import annotations

from rootless.plan.call import Call as Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node
    from rootless.kernel.host import Host
    from rootless.plan.compiler import Plan


def compile(spec: Node, host: Host, call: Call) -> Plan:
    """Return the plan for a config on this machine. Raises SpecError and RootlessError (compiler.py)."""
    from rootless.plan import compiler

    return compiler.compile(spec, host, call)
