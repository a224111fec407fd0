"""`start`: run the program of a created container."""

from __future__ import annotations

from rootless.cli.containers import load
from rootless.runtime.start import end_without_process, start_or_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless start ID`."""
    with load(options, lock=True) as container:
        container.require("created", action="start")
        if container.state.get("without_process"):
            return end_without_process(container)
        listener = start_or_end(container)
        pid = container.pid
    if listener:
        listener.wait(pid)
    return 0
