"""`events`: print a container's statistics, once or at an interval, and its OOM kills, one JSON object a line."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Any

from rootless.cgroup.oom import Watch
from rootless.cgroup.stats import collect
from rootless.cli.containers import load
from rootless.errors import RootlessError
from rootless.kernel import proc
from rootless.kernel.files import write_all
from rootless.runtime.container import Container
from rootless.startup.jsonlite import dumps

if TYPE_CHECKING:
    from rootless.cli.options import Options

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def main(options: Options) -> int:
    """Run `rootless events [--stats | --interval DURATION] ID`; without --stats it ends with the container."""
    interval = read_duration(options.interval or "5s")
    container = load(options)
    container.require("created", "running", "paused", action="watch")
    if not container.cgroup().path:
        raise RootlessError("events: the container has no cgroup", hint="it was created without one")
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
            ready = dict(poller.poll(max(0.0, following - time.monotonic()) * 1000))
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


def read_duration(text: str) -> float:
    """Return the seconds of a duration in Go's form, such as 5s or 1m30s. Raises RootlessError."""
    seconds, number, unit = 0.0, "", ""
    wrong = RootlessError(f"invalid duration {text!r}", hint="such as 5s, 500ms or 1m30s")
    for char in [*text, "0"]:
        if char.isdigit() or char == ".":
            if unit:
                if unit not in _SECONDS or not number or number.count(".") > 1 or number == ".":
                    raise wrong
                seconds += float(number) * _SECONDS[unit]
                number = unit = ""
            number += char
        else:
            unit += char
    if number != "0" or seconds <= 0:
        raise wrong
    return seconds


def _print(container: Container, kind: str, data: dict[str, Any] | None) -> None:
    """Print one line in the form of `runc events`."""
    event: dict[str, Any] = {"type": kind, "id": container.container_id}
    if data is not None:
        event["data"] = data
    write_all(1, f"{dumps(event)}\n".encode())
