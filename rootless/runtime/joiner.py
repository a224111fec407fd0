"""Wait in the runtime for the pid of the process that a joiner clones."""

from __future__ import annotations

from rootless.errors import RootlessError
from rootless.kernel import channel
from rootless.kernel.files import close_at_last
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable


def await_child(joiner: int, sync: socket, write_maps: Callable[[int], None] | None = None) -> tuple[int, int]:
    """Return (pid, pidfd) of the process that the joiner cloned. Raises RootlessError.

    write_maps: called with the joiner's pid if it has made a user namespace. After an error this function closes the
    socket and reaps the joiner.
    """
    # A joiner that is killed after clone(2) leaves a child that holds the other end of the socket and waits too, so the
    # end of the socket would never come: the joiner itself is watched.
    alive = -1
    try:
        alive = os.pidfd_open(joiner)
        tag, number, fds = channel.receive(sync, channel.PID, channel.UNMAPPED, sender=alive)
        if tag == channel.UNMAPPED and write_maps:
            write_maps(joiner)
            channel.send(sync, channel.JOINER_MAPPED)
            _, number, fds = channel.receive(sync, channel.PID, sender=alive)
        return int(number), fds[0]
    except BaseException as error:
        sync.close()  # the joiner may wait for an answer
        os.waitpid(joiner, 0)
        if isinstance(error, (EOFError, BrokenPipeError)):
            raise RootlessError("the process that joins the namespaces was killed") from None
        raise
    finally:
        close_at_last(alive)
