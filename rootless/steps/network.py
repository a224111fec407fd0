"""Connect a container's network namespace to the host's network through an engine: pasta(1) or slirp4netns(1)."""

from __future__ import annotations

from rootless.steps import RUNTIME, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.steps import Words
    from rootless.steps.context import Runtime


class Port:
    """A port of the host that leads into the container.

    address: the host's address, "" for all of them; host, container: port numbers; protocol: tcp or udp.
    """

    __slots__ = ("address", "container", "host", "protocol")

    def __init__(self, address: str, host: int, container: int, protocol: str) -> None:
        self.address = address
        self.host = host
        self.container = container
        self.protocol = protocol

    def __str__(self) -> str:
        """Return `[IP:]HOST:CONTAINER/PROTOCOL`, as `list` shows it."""
        address = f"[{self.address}]:" if ":" in self.address else f"{self.address}:" if self.address else ""
        return f"{address}{self.host}:{self.container}/{self.protocol}"


class ConnectNetwork(Step):
    """Start an engine that carries the container's packets, and wait until it is ready (outside/engine.py).

    engine: pasta or slirp4netns; program: its path; args: its arguments, without those that name the container; ports:
    what it publishes; names: {file name: text} of the names that the container gets (plan/network.py).
    """

    __slots__ = ("args", "engine", "names", "ports", "program")
    where = RUNTIME

    def __init__(self, pointer: str, engine: str, program: str, args: list[str], ports: list[Port]) -> None:
        super().__init__(pointer)
        self.engine = engine
        self.program = program
        self.args = args
        self.ports = ports
        self.names: dict[str, str] = {}

    def words(self) -> Words:
        return "network", self.engine, *map(str, self.ports), *self.args

    def execute(self, context: Runtime) -> None:
        context.connect_network(self)
