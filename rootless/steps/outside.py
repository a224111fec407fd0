"""Change a container from outside. The runtime executes these steps, because only it is in the host's namespaces."""

from __future__ import annotations

from rootless.errors import printable
from rootless.steps import RUNTIME, Step, in_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.steps import Words
    from rootless.steps.context import Runtime

    NetDevice = tuple[str, str, str]  # name on the host, name in the container (may hold %d), JSON pointer


class EnterResctrlGroup(Step):
    """Put init into a class of cache and memory bandwidth (outside/resctrl.py).

    clos_id: "" for the container's id, "/" for the root class; l3_and_mb, schemata: lines to write, in this order;
    monitoring: whether it gets a monitoring group; mount: where resctrl is mounted.
    """

    __slots__ = ("clos_id", "l3_and_mb", "monitoring", "mount", "schemata")
    where = RUNTIME

    def __init__(self, clos_id: str, l3_and_mb: list[str], schemata: list[str], *, monitoring: bool) -> None:
        super().__init__("/linux/intelRdt")
        self.clos_id = clos_id
        self.l3_and_mb = l3_and_mb
        self.schemata = schemata
        self.monitoring = monitoring
        self.mount = ""

    def words(self) -> Words:
        monitoring = ["monitoring"] if self.monitoring else []
        return "intel_rdt", self.clos_id or "(own)", *self.l3_and_mb, *self.schemata, *monitoring

    def execute(self, context: Runtime) -> None:
        context.enter_resctrl_group(self)


class MoveNetDevices(Step):
    """Move network devices of the host into the container (outside/net_devices.py): all of them, or none."""

    __slots__ = ("devices",)
    where = RUNTIME

    def __init__(self, devices: list[NetDevice]) -> None:
        super().__init__("/linux/netDevices")
        self.devices = devices

    def words(self) -> Words:
        return "net_device", *(name for device in self.devices for name in device[:2])

    def lines(self) -> list[str]:
        return [
            f"{in_words(('net_device', name, new_name))} [{printable(pointer)}]"
            for name, new_name, pointer in self.devices
        ]

    def execute(self, context: Runtime) -> None:
        context.move_net_devices(self)
