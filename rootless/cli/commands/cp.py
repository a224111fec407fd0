"""`cp`: copy files between a container and the host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci.root import Root
from rootless.cli.containers import name_of, state_root
from rootless.errors import RootlessError
from rootless.kernel.host import Host, read_id_map
from rootless.runtime import container
from rootless.runtime.copy import copy, find_in, find_on_host, kernel_devices, open_root
from rootless.runtime.copy_tar import read_tar, write_tar
from rootless.userns.run import default_maps, run_in_userns

if TYPE_CHECKING:
    from rootless.cli.options import Options
    from rootless.kernel.host import IdMap

_HINT = "rootless cp ID:PATH DEST, or rootless cp SRC ID:PATH; - is a tar stream"


def main(options: Options) -> int:
    """Run `rootless cp ID:PATH DEST|-` or `rootless cp SRC|- ID:PATH`. Raises RootlessError."""
    source, target = _split(options.source), _split(options.target)
    if bool(source) == bool(target):
        what = "one of the two has to be in a container" if not source else "only one of the two can be in a container"
        raise RootlessError(what, f"{options.source} {options.target}", hint=_HINT)
    if source and options.target == "-" and os.isatty(1):
        raise RootlessError("a tar stream does not go to a terminal", hint="> FILE.tar, or | tar -x")
    container_id, path = source or target or ("", "")
    with container.load(state_root(options), name_of(container_id)) as loaded:
        root_fd = open_root(loaded)
        left_out = kernel_devices(loaded.pid) if source and loaded.alive() else frozenset()
        theirs = _maps(loaded)
    host = Host()
    maps = ([], []) if host.is_root_here else default_maps(host)
    has_one_id = [size for _, _, size in theirs[0]] == [1]
    from_path = source[1] if source else options.source
    # docker: a link at the end of the source is copied as a link, unless it is followed by a slash.
    follow = options.follow_link or from_path.endswith(("/", "/."))
    contents = from_path == "." or from_path.endswith("/.")

    def work() -> int:
        root = Root(root_fd)
        inside = find_in(root, path, f"{container_id}:{path}", follow=follow or not source)
        if source and options.target == "-":
            with open(1, "wb", closefd=False) as out:
                write_tar(inside, out, "." if contents else _name(path) or ".", left_out, recorded=has_one_id)
        elif source:
            name = _name(path) or container_id
            copy(inside, find_on_host(options.target), name, contents=contents, left_out=left_out)
        elif options.source == "-":
            with open(0, "rb", closefd=False) as stream:
                read_tar(stream, inside, owners=theirs == maps and not has_one_id, recorded=has_one_id)
        else:
            outside = find_on_host(options.source, follow=follow)
            copy(outside, inside, _name(options.source), contents=contents, into=True)
        return 0

    # As root of the user's ids: files of subordinate ids can be read, and what is made belongs to the user.
    return run_in_userns(*maps, work)


def _maps(loaded: container.Container) -> tuple[IdMap, IdMap]:
    """Return the id maps of a container; empty ones if it has no user namespace of its own."""
    if loaded.alive():
        theirs = read_id_map(f"/proc/{loaded.pid}/uid_map"), read_id_map(f"/proc/{loaded.pid}/gid_map")
        return theirs if theirs != (Host().uid_map, Host().gid_map) else ([], [])
    linux = loaded.config.get("linux") or {}
    uids, gids = (
        [(entry["containerID"], entry["hostID"], entry["size"]) for entry in linux.get(key) or []]
        for key in ("uidMappings", "gidMappings")
    )
    return uids, gids


def _split(argument: str) -> tuple[str, str] | None:
    """Return (id, path) of `ID:PATH`, None for a path of the host: one with a slash before the colon, as docker's."""
    container_id, colon, path = argument.partition(":")
    if not colon or "/" in container_id or container_id in (".", ".."):
        return None
    return container_id, path


def _name(path: str) -> str:
    return os.path.basename(os.path.normpath(path)).strip("/") if path.strip("/") else ""
