"""`stop`: end a container's program with its stop signal, and kill it if that does not help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless.cli.containers import load
from rootless.errors import RootlessError
from rootless.kernel.units import parse_duration
from rootless.runtime.stop import GRACE, stop

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless stop [--time DURATION] ID`. Raises RootlessError."""
    stop(load(options), _grace(options.time) if options.time else GRACE)
    return 0


def _grace(text: str) -> float:
    if text == "0":
        return 0.0
    try:
        return parse_duration(text)
    except ValueError:
        raise RootlessError("not a duration", f"--time {text}", hint="such as 10, 1.5s or 2m") from None
