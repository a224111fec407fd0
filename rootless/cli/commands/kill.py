"""`kill`: send a signal to a container's init, or to all its processes."""

from __future__ import annotations

from rootless.cli.containers import each_match, load
from rootless.kernel.signals import parse_signal
from rootless.runtime.kill import kill, kill_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless kill [--all] ID [SIGNAL]`."""
    signum = parse_signal(options.signal or "TERM")
    if options.regex:
        return each_match(options, main)
    container = load(options)
    if options.all:
        kill_all(container, signum)
    else:
        kill(container, signum)
    return 0
