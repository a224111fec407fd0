"""`start`: let a created container run its program."""

from __future__ import annotations

import os

from rootless.container import load
from rootless.errors import RootlessError
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
    except BaseException as error:
        from rootless.commands.delete import end, remove

        if isinstance(error, RootlessError) and error.where.startswith("/hooks/"):
            remove(container)  # runtime.md#lifecycle: after a failed hook it is stopped and destroyed, steps 8, 9, 12
        else:
            end(container)
        raise
    if listener:
        container.close()
        listener.wait(container.pid)
    return 0
