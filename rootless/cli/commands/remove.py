"""`remove`: take a bundle away, files of subordinate ids and unwritable directories included."""

from __future__ import annotations

import os

from oci.mounts import refuse_mounts
from rootless.cli.commands.convert import translated
from rootless.errors import NoSuchContainer, RootlessError
from rootless.kernel.host import Host
from rootless.userns import job
from rootless.userns import run as userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.options import Options
    from rootless.runtime.container import State


def main(options: Options) -> int:
    """`rootless remove [--force] BUNDLE`: refuses what is no bundle, in use, or has something mounted in it."""
    path = os.path.abspath(options.bundle)
    if os.path.islink(path) or not os.path.isdir(path):
        raise RootlessError("no such bundle", options.bundle)
    if not os.path.isfile(f"{path}/config.json"):
        raise RootlessError("this is no bundle: it holds no config.json", options.bundle)

    for container_id in users_of(path, options):
        if not options.force:
            raise in_use(container_id, options.bundle, hint="--force ends it first")
        _end(container_id, options)
    host = Host()
    with translated():
        refuse_mounts(path, elsewhere=True)
    return job.remove(path, ([], []) if host.privileged else userns.default_maps(host))


def users_of(bundle: str, options: Options) -> list[str]:
    """Return the ids of the containers that have processes and were made of this bundle, or have their root in it."""
    from rootless.cli.containers import state_root
    from rootless.runtime.container import Container
    from rootless.runtime.state import StateDir, ids

    place, root, found = os.path.realpath(bundle), state_root(options), []
    for container_id in ids(root):
        try:
            directory = StateDir.open(root, container_id)
        except NoSuchContainer:
            continue
        try:
            nothing: State = {}
            state = directory.read("state.json") or nothing
        except RootlessError:  # damaged: it cannot say where it runs, but its mounts are seen if it does
            state = {}
        try:
            used = [os.path.realpath(state[key]) for key in ("bundle", "rootfs") if state.get(key)]
            inside = any(f"{path}/".startswith(f"{place}/") for path in used)
            if inside and Container(directory, state).status() != "stopped":
                found.append(container_id)
        finally:
            directory.close()
    return found


def in_use(container_id: str, bundle: str, hint: str) -> RootlessError:
    """Return the error for a bundle whose container runs."""
    return RootlessError(f'container "{container_id}" runs in this bundle', bundle, hint=hint)


def _end(container_id: str, options: Options) -> None:
    from rootless.cli.containers import state_root
    from rootless.runtime.delete import delete, load_by_force

    with load_by_force(state_root(options), container_id) as container:
        delete(container, force=True)
