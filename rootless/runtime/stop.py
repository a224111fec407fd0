"""Stop a container with its stop signal, and with KILL if that does not help."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from rootless.kernel import proc
from rootless.kernel.waiting import wait_for
from rootless.runtime.escalation import ends_by_default
from rootless.runtime.kill import kill_all, send

if TYPE_CHECKING:
    from rootless.runtime.container import Container

GRACE = 10.0  # seconds, like docker stop
_STOP_SIGNAL = "org.opencontainers.image.stopSignal"
_TERM = 15


def ask(container: Container, grace: float = GRACE) -> tuple[int, float] | None:
    """Send the stop signal to a container's init; return what `finish` takes, None if the container has stopped.

    The signal is the image's (image-spec, annotation stopSignal), TERM without one. A pid 1 without a handler for it
    never gets it (pid_namespaces(7)), so `finish` kills it at once. Raises RootlessError.
    """
    pidfd = proc.open_pidfd(container.pid) if container.pid else -1
    if pidfd < 0:
        return None
    if not container.alive():
        os.close(pidfd)
        return None
    try:
        signum = _stop_signal(container)
        if container.status() == "paused":
            from rootless.cgroup.freezer import thaw

            thaw(container.cgroup())
        deadline = 0.0
        if grace and not ends_by_default(container.pid, signum):
            send(container, signum)
            deadline = time.monotonic() + grace
    except BaseException:
        os.close(pidfd)
        raise
    return pidfd, deadline


def finish(container: Container, asked: tuple[int, float]) -> None:
    """Wait for a container's end, and kill all of it after the time that `ask` gave it. Raises RootlessError."""
    pidfd, deadline = asked
    try:
        if deadline and wait_for(pidfd, max(0.0, deadline - time.monotonic())):
            return
        kill_all(container, 9)
        send(container, 9)
        wait_for(pidfd)
    finally:
        os.close(pidfd)


def _stop_signal(container: Container) -> int:
    name = str((container.state.get("annotations") or {}).get(_STOP_SIGNAL, ""))
    if not name:
        return _TERM
    from rootless.errors import RootlessError
    from rootless.kernel.signals import parse_signal

    try:
        return parse_signal(name)
    except RootlessError:  # an image may name a signal that does not exist
        return _TERM
