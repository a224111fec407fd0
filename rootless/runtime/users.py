"""Find the containers with processes that use a bundle."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless.errors import NoSuchContainer, RootlessError
from rootless.kernel.paths import is_below
from rootless.runtime.container import Container
from rootless.runtime.state import StateDir, ids

if TYPE_CHECKING:
    from rootless.runtime.container import State


def users_of(bundle: str, root: str) -> list[str]:
    """Return the ids of the containers with a process that use this bundle, or have their root in it."""
    place, users = os.path.realpath(bundle), []
    for container_id in ids(root):
        try:
            directory = StateDir.open(root, container_id)
        except NoSuchContainer:
            continue
        except RootlessError:
            if _is_foreign(f"{root}/{container_id}"):
                continue
            raise
        try:
            nothing: State = {}
            state = directory.read("state.json") or nothing
        except RootlessError:  # a damaged state does not say where; the callers look for mounts in the bundle, too
            state = {}
        try:
            used = [os.path.realpath(state[key]) for key in ("bundle", "rootfs") if state.get(key)]
            inside = any(is_below(path, place) for path in used)
            if inside and Container(directory, state).status() != "stopped":
                users.append(container_id)
        finally:
            directory.close()
    return users


def _is_foreign(path: str) -> bool:
    """Return whether something in the state root is no container's: a file or a link that somebody has put there."""
    return os.path.islink(path) or not os.path.isdir(path)


def in_use(container_id: str, bundle: str, hint: str) -> RootlessError:
    """Return the error for a bundle whose container runs."""
    return RootlessError(f'container "{container_id}" runs in this bundle', bundle, hint=hint)
