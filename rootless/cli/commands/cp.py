"""`cp`: copy files between a container and the host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci.root import Root
from rootless.cli.containers import name_of, state_root
from rootless.errors import RootlessError
from rootless.kernel.host import Host
from rootless.runtime import container
from rootless.runtime.copy import copy, find_in, find_on_host, open_root, read_tar, write_tar
from rootless.userns.run import default_maps, run_in_userns

if TYPE_CHECKING:
    from rootless.cli.options import Options

_HINT = "rootless cp ID:PATH DEST, or rootless cp SRC ID:PATH; - is a tar stream"


def main(options: Options) -> int:
    """Run `rootless cp ID:PATH DEST|-` or `rootless cp SRC|- ID:PATH`. Raises RootlessError."""
    source, target = _split(options.source), _split(options.target)
    if bool(source) == bool(target):
        what = "one of the two has to be in a container" if not source else "only one of the two can be in a container"
        raise RootlessError(what, f"{options.source} {options.target}", hint=_HINT)
    container_id, path = source or target or ("", "")
    with container.load(state_root(options), name_of(container_id)) as loaded:
        root_fd = open_root(loaded)
    host = Host()

    def work() -> int:
        root = Root(root_fd)
        inside = find_in(root, path, f"{container_id}:{path}")
        if source and options.target == "-":
            with open(1, "wb", closefd=False) as out:
                write_tar(inside, out, _name(path) or "root")
        elif source:
            copy(inside, find_on_host(options.target), _name(path) or container_id, contents=path.endswith("/."))
        elif options.source == "-":
            with open(0, "rb", closefd=False) as stream:
                read_tar(stream, inside)
        else:
            contents = options.source.endswith("/.") or options.source == "."
            copy(find_on_host(options.source), inside, _name(options.source), contents=contents)
        return 0

    # As root of the user's ids: files of subordinate ids can be read, and what is made belongs to the user.
    return run_in_userns(*(([], []) if host.is_root_here else default_maps(host)), work)


def _split(argument: str) -> tuple[str, str] | None:
    """Return (id, path) of `ID:PATH`, None for a path of the host: one with a slash before the colon, as docker's."""
    container_id, colon, path = argument.partition(":")
    if not colon or "/" in container_id or container_id in (".", ".."):
        return None
    return container_id, path


def _name(path: str) -> str:
    return os.path.basename(os.path.normpath(path)).strip("/") if path.strip("/") else ""
