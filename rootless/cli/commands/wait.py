"""`wait`: wait for a container's end and print the exit code of its program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless.cli.containers import each_named, name_of, state_root
from rootless.kernel.files import write_out
from rootless.runtime.monitor_client import wait_for

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless wait ID...`, one line each, in that order. Raises RootlessError if an exit code is unknown."""

    def wait(container_id: str) -> None:
        write_out(f"{wait_for(state_root(options), name_of(container_id))}\n".encode())

    each_named(options, wait)
    return 0
