"""`start`: let a created container run its program."""

from __future__ import annotations

import os

from rootless.container import load
from rootless.launch import start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.options import Options


def main(options: Options) -> int:
    """`rootless start ID`."""
    container = load(options, lock=True)
    container.require("created", action="start")
    listener = None
    if os.environ.get("NOTIFY_SOCKET"):
        from rootless.notify import listen

        listener = listen(container.directory)
    try:
        start(container)
    except BaseException:
        from rootless.commands.delete import end

        end(container)  # runtime.md#lifecycle: what fails from here on stops the container
        raise
    if listener:
        container.close()
        listener.wait(container.pid)
    return 0
