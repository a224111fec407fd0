"""`pause`: stop all processes of a container where they are (cgroup.freeze)."""

from __future__ import annotations

from rootless.cgroup.freezer import freeze
from rootless.cli.containers import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """`rootless pause ID`; returns when the kernel says that all stand still."""
    with load(options, lock=True) as container:
        container.require("created", "running", action="pause")
        freeze(container.cgroup())
    return 0
