"""`stop`: end a container's program with its stop signal, and kill it if that does not help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless.cli.containers import each_named, name_of, state_root
from rootless.errors import RootlessError
from rootless.kernel.units import parse_duration
from rootless.runtime import container, stop

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless stop [--time DURATION] ID...`. All get their signal first, so they end together.

    Raises RootlessError.
    """
    grace = _grace(options.time) if "time" in options.given else stop.GRACE
    loaded, asked = {}, {}

    def begin(container_id: str) -> None:
        loaded[container_id] = container.load(state_root(options), name_of(container_id))
        asked[container_id] = stop.ask(loaded[container_id], grace)

    def finish(container_id: str) -> None:
        if waits := asked.pop(container_id, None):
            stop.finish(loaded[container_id], waits)

    each_named(options, begin, finish)
    return 0


def _grace(text: str) -> float:
    if text == "0":
        return 0.0
    try:
        return parse_duration(text)
    except ValueError:
        raise RootlessError("not a duration", f"--time {text}", hint="such as 10, 1.5s or 2m") from None
