"""Make the container's cgroup, with its limits, as one step. The cgroup's driver does the work."""

from __future__ import annotations

from rootless.errors import printable
from rootless.steps import RUNTIME, Step, in_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.cgroup.record import Record
    from rootless.steps import Words
    from rootless.steps.context import Runtime


class CreateCgroup(Step):
    """Make the cgroup and set its limits, as the record says (cgroup/record.py).

    refusal: why the limits cannot be set here, "" if they can. `create` fails with it; --dry-run warns.
    """

    __slots__ = ("record", "refusal")
    where = RUNTIME

    def __init__(self, record: Record, refusal: str = "") -> None:
        super().__init__("/linux/cgroupsPath")
        self.record = record
        self.refusal = refusal

    def words(self) -> Words:
        record = self.record
        return "cgroup", record["manager"], record["path"] or f"{record['slice']}/{record['unit']}"

    def lines(self) -> list[str]:
        if self.record["manager"] == "disabled":
            return []
        entries = [(self.pointer, self.words()), *self.entries()]
        return [f"{in_words(words)} [{printable(pointer)}]" for pointer, words in entries]

    def entries(self) -> Iterator[tuple[str, Words]]:
        """Yield (pointer, words) of what the cgroup is given: properties, limits, rules for devices."""
        for name, _, value in self.record.get("properties", ()):
            yield "/annotations", ("systemd_property", str(name), str(value))
        for file, value, pointer in self.record["files"]:
            yield pointer, ("limit", file, value)
        rules = self.record["devices"]
        if rules:
            words = (
                f"{'+' if rule[0] else '-'}{rule[1]}:{_number(rule[2])}:{_number(rule[3])}:{rule[4]}" for rule in rules
            )
            yield "/linux/resources/devices", ("device_rules", *words)

    def execute(self, context: Runtime) -> None:
        context.group.create(pid=context.pid)


def _number(number: int) -> str:
    return "*" if number == -1 else str(number)
