"""Find cgroups of containers whose state directory is gone, by the mark that `create` sets (runtime/create.py).

systemd-logind removes /run/user/UID, and the states in it, at the user's last log-out. The containers may run on.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from rootless.cli.doctor.line import LIMITED, Line
from rootless.kernel import cgroup_view
from rootless.kernel.hints import hint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.kernel.hints import Hint
    from rootless.kernel.host import Host

_MARK = "user.rootless"
_DEEPEST = 3  # levels of cgroups below ours that are looked at


def lost_containers(_host: Host) -> Iterator[Line]:
    """Check that no container runs without a state directory. There is no line if none does."""
    for path, state in running():
        cost = "no command sees this container"
        yield Line("lost-container", LIMITED, f"it runs in {path}, and its state {state} is gone", cost, way_out(path))


def way_out(path: str) -> Hint:
    """Return the hint for a cgroup with processes that no state directory knows."""
    return hint("lost-container", path=shlex.quote(path))


def running() -> list[tuple[str, str]]:
    """Return (cgroup, state directory) of this user's containers that run, and whose state directory is gone."""
    found = []
    for path in candidates():
        state = gone_state(path)
        if state and _has_processes(path):
            found.append((path, state))
    return found


def candidates() -> Iterator[str]:
    """Yield the cgroups where this user's containers come to lie, and those below; deepest first."""
    view = cgroup_view.read()
    if not view.mount or not view.own:
        return
    own = os.path.normpath(f"{view.mount}/{view.own}")
    for place in {own, os.path.dirname(own)} if own != os.path.normpath(view.mount) else {own}:
        yield from _below(place, 0)


def children(directory: str) -> list[str]:
    """Return the cgroups right below one, [] if it is gone."""
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def gone_state(path: str) -> str:
    """Return the state directory of a cgroup's mark if it does not exist; "" if it does, or the cgroup is not ours.

    One that this user may not look at may exist (EACCES).
    """
    state = _mark(path)
    try:
        if not state or os.stat(path).st_uid != os.geteuid():
            return ""
        os.lstat(state)
    except (FileNotFoundError, NotADirectoryError):
        return state
    except OSError:
        pass
    return ""


def _below(directory: str, depth: int) -> Iterator[str]:
    for child in children(directory):
        if depth < _DEEPEST:
            yield from _below(child, depth + 1)
        yield child


def _mark(path: str) -> str:
    try:
        return os.fsdecode(os.getxattr(path, _MARK))
    except OSError:
        return ""


def _has_processes(path: str) -> bool:
    """Return whether a container's processes are in its cgroup, or in one that it has made below.

    A cgroup below with a mark is another container's, which is looked at itself.
    """
    try:
        with open(f"{path}/cgroup.procs") as procs:
            if procs.read():
                return True
    except OSError:
        pass  # it is gone, or it is one of threads
    return any(not _mark(child) and _has_processes(child) for child in children(path))
