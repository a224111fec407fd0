"""`events`: print a container's statistics, once or at an interval, and its OOM kills, one JSON object a line."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Any

from rootless.cgroup.oom import Watch
from rootless.cgroup.stats import collect
from rootless.cli.containers import load
from rootless.errors import RootlessError, advice, printable
from rootless.kernel import proc
from rootless.kernel.files import write_out
from rootless.kernel.units import parse_duration
from rootless.kernel.waiting import milliseconds
from rootless.runtime.container import Container
from rootless.startup.jsonlite import dumps

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless events [--stats | --interval DURATION] ID`; without --stats it ends with the container."""
    interval = read_interval(options.interval or "5s")
    container = load(options)
    container.require("created", "running", "paused", action="watch")
    if not container.cgroup().path:
        raise RootlessError("events: the container has no cgroup", hint=advice("made-without-cgroup"))
    if options.stats:
        _print(container, "stats", collect(container.cgroup()))
    else:
        watch(container, interval)
    return 0


def watch(container: Container, interval: float) -> None:
    """Print the statistics every `interval` seconds, and each OOM kill at once, until the container ends.

    poll(2) reports both: the end as POLLIN on init's pidfd, an OOM kill as POLLPRI on memory.events.
    """
    group = container.cgroup()
    poller = select.poll()
    pidfd = proc.open_pidfd(container.pid)
    if pidfd < 0:
        return
    poller.register(pidfd, select.POLLIN)
    oom = Watch(group)
    if oom.fd >= 0:
        poller.register(oom.fd, select.POLLPRI)
    following = time.monotonic() + interval
    try:
        while True:
            ready = dict(poller.poll(milliseconds(following - time.monotonic())))
            for _ in range(oom.look()):
                _print(container, "oom", None)
            if pidfd in ready:
                return
            if time.monotonic() >= following:
                _print(container, "stats", collect(group))
                following += interval
    finally:
        os.close(pidfd)
        oom.close()


def read_interval(text: str) -> float:
    """Return the seconds of --interval. Raises RootlessError."""
    try:
        return parse_duration(text)
    except ValueError:
        what = f"invalid duration {printable(repr(text))}"
        raise RootlessError(what, hint="such as 5s, 500ms or 1m30s") from None


def _print(container: Container, kind: str, data: dict[str, Any] | None) -> None:
    """Print one line in the form of `runc events`."""
    event: dict[str, Any] = {"type": kind, "id": container.container_id}
    if data is not None:
        event["data"] = data
    write_out(f"{dumps(event)}\n".encode())
