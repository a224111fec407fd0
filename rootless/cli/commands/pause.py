"""`pause`: freeze all processes of a container (cgroup.freeze)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless.cgroup.freezer import freeze
from rootless.cli.containers import load

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless pause ID`; return when the kernel reports that all processes are frozen."""
    with load(options, lock=True) as container:
        container.require("created", "running", action="pause")
        freeze(container.cgroup())
    return 0
