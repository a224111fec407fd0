"""`wait`: wait for a container's end and print the exit code of its program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless.cli.containers import name_of, state_root
from rootless.kernel.files import write_out
from rootless.runtime.monitor_client import wait_for

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless wait ID`. Raises RootlessError if the exit code is unknown."""
    code = wait_for(state_root(options), name_of(options.container_id))
    write_out(f"{code}\n".encode())
    return 0
