"""`delete`: delete a stopped or created container, or any with --force, and everything that was created for it."""

from __future__ import annotations

from rootless.cli.containers import each_match, load, name_of, state_root
from rootless.errors import NoSuchContainer
from rootless.runtime.delete import delete, load_by_force

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless delete [--force] ID`."""
    if options.regex:
        return each_match(options, main)
    try:
        if options.force:
            loaded = load_by_force(state_root(options), name_of(options.container_id))
        else:
            loaded = load(options, lock=True)
    except NoSuchContainer:
        if options.force:
            return 0
        raise
    with loaded as container:
        delete(container, force=bool(options.force))
    return 0
