"""`remove`: delete a bundle, including files of subordinate ids and directories that nobody may write."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci.mounts import refuse_mounts
from rootless.cli.containers import state_root
from rootless.cli.images import translated
from rootless.errors import RootlessError
from rootless.kernel.closed import closed_above
from rootless.kernel.host import Host
from rootless.runtime.delete import delete, load_by_force
from rootless.runtime.nothing_there import no_such_bundle
from rootless.runtime.users import in_use, users_of
from rootless.userns import job
from rootless.userns.run import default_maps

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless remove [--force] BUNDLE`. Refuse what is not a bundle, is in use, or has a mount in it."""
    path = os.path.abspath(options.bundle)
    if os.path.islink(path) or not os.path.isdir(path):
        raise (
            no_such_bundle(options.bundle, is_new=False)
            if not os.path.lexists(path)
            else RootlessError("not a bundle: it is not a directory", options.bundle)
        )
    if not os.path.isfile(f"{path}/config.json"):
        missing = RootlessError("not a bundle: it has no config.json", options.bundle)
        raise closed_above(f"{path}/config.json") or missing

    for container_id in users_of(path, state_root(options)):
        if not options.force:
            raise in_use(container_id, options.bundle, hint="--force ends it first")
        _end(container_id, options)
    host = Host()
    with translated():
        refuse_mounts(path, elsewhere=True)
    return job.remove(path, ([], []) if host.is_root_here else default_maps(host))


def _end(container_id: str, options: Options) -> None:
    with load_by_force(state_root(options), container_id) as container:
        delete(container, force=True)
