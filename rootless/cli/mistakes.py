"""Add to an error what only the command line and the state root tell: near IDs, and what has the ID already."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from rootless.config_node import closest
from rootless.errors import IdInUse, NoSuchContainer, RootlessError, SpecError, advice, printable

if TYPE_CHECKING:
    from rootless.cli.options import Options


def complete(error: RootlessError, options: Options) -> None:
    """Complete an error before it is shown. Whatever fails here is left out: the error itself is what matters."""
    if isinstance(error, NoSuchContainer):
        error.hint = error.hint or _near_id(error.container_id, options)
    elif isinstance(error, IdInUse):
        _say_who_has_it(error, options)
    elif isinstance(error, SpecError):
        if options.command == "update":
            error.file = options.resources or "the limits"
        elif options.command != "exec":  # its line begins with `exec failed`, which clients look for
            error.file = getattr(options, "config", "") or "config.json"


def _near_id(container_id: str, options: Options) -> str:
    """Return the hint for an ID that no container has."""
    from rootless.cli.containers import state_root
    from rootless.runtime.state import ids

    known = ids(state_root(options))
    longer = [each for each in known if container_id and each.startswith(container_id)]
    return f"did you mean {longer[0]!r}?" if len(longer) == 1 else closest(container_id, known)


def _say_who_has_it(error: IdInUse, options: Options) -> None:
    """Say what the container does that has the ID, and what the user may want with it."""
    from rootless.runtime import container

    with container.load(error.root, error.container_id) as holder:
        report = holder.report()
    name, since = error.container_id, _clock(report["created"])
    error.what += f": it is {report['status']}{f' since {since}' if since else ''}"
    key = "id-in-use" if report["status"] in ("running", "paused") else "id-taken"
    if key == "id-in-use" and "name" in options.given:  # an image's bundle is in the cache, where nobody looks
        key = "name-in-use"
    asked = options.bundle or (options.container_id if "/" in options.container_id else "")
    bundle = printable(asked or _short(report["bundle"]))
    error.hint = advice(key, id=name, command=options.command, bundle=bundle)


def _short(path: str) -> str:
    """Return a path relative to the working directory, if it is in it."""
    here = os.getcwd().rstrip("/") + "/"
    return path.removeprefix(here) if path.startswith(here) else path


def _clock(created: str) -> str:
    """Return the local time of a time of RFC 3339, with the date if it was more than a day ago; "" if it is not one."""
    import calendar

    try:
        seconds = calendar.timegm(time.strptime(created[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return ""
    form = "%H:%M" if time.time() - seconds < 86400 else "%Y-%m-%d %H:%M"
    return time.strftime(form, time.localtime(seconds))
