"""`resume`: thaw the processes of a paused container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless.cgroup.freezer import is_frozen, thaw
from rootless.cli.containers import load
from rootless.errors import RootlessError

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless resume ID`, also for a container that was paused before its start."""
    with load(options, lock=True) as container:
        status = container.require("created", "running", "paused", action="resume")
        group = container.cgroup()
        if not is_frozen(group):
            raise RootlessError(
                f"cannot resume a container in the {status} state: container not paused", options.container_id
            )
        thaw(group)
    return 0
