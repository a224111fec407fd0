"""`convert`: make a bundle from an image archive.

The package `oci` does the work. This module chooses the id maps, handles signals and prints the result.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NoReturn

import oci.bundle
from oci.cache import Cache
from oci.errors import OciError
from oci.image import Image, choose, read_images
from oci.image.blobs import open_archive
from oci.layer import MAX_FILES
from oci.owners import IdMap, Owners
from oci.remove import remove_tree
from rootless import log
from rootless.cli.images import read_size, translated
from rootless.cli.output import say, tell
from rootless.cli.table import laid_out, size
from rootless.errors import RootlessError
from rootless.kernel.hints import HINTS
from rootless.kernel.host import Host
from rootless.userns import job
from rootless.userns.run import default_maps

if TYPE_CHECKING:
    from rootless.cli.options import Options

_HOW = ("map", "xattr", "squash", "strict")


def main(options: Options) -> int:
    """Run `rootless convert IMAGE [-o BUNDLE]`, which prints the bundle's path, or `rootless convert --list IMAGE`."""
    with translated():
        target = options.output or (oci.bundle.bundle_name(options.image) if options.image != "-" else "")
        is_itself = not options.output and os.path.abspath(target) == os.path.abspath(options.image)
        if target and not options.list and not is_itself:  # the name has no suffix: first see whether it is an archive
            check_target(options, target)
        place = os.path.dirname(os.path.abspath(target or "."))
        max_size = read_size(options.max_size)
        with job.interruptible(lambda: open_archive(options.image, place, max_size)) as archive:
            images = read_images(archive)
            if options.list:
                return _list(images, as_json=options.json)
            say = (lambda text: None) if options.quiet else log.warn
            image = choose(images, options.tag, options.platform, archive.source, say)
            if is_itself:
                check_target(options, target)
            if not target and image.names:
                target = image.names[0].rpartition("/")[2].replace(":", "-")
            return build(options, image, target or _nameless())


def check_target(options: Options, target: str) -> None:
    """Refuse an existing target. With --force, refuse only one that is not a bundle or in which a container runs."""
    if options.force and os.path.isdir(target):
        from rootless.cli.containers import state_root
        from rootless.runtime.users import in_use, users_of

        options.root = getattr(options, "root", "")
        for container_id in users_of(target, state_root(options)):
            raise in_use(container_id, target, hint=f"rootless delete --force {container_id} ends it")
    oci.bundle.check_target(target, force=options.force)


def build(options: Options, image: Image, target: str) -> int:
    """Write the bundle in the user's id map and print its path; return the exit code. A signal removes all again."""
    host = Host()
    if options.shared and options.owners not in ("", "squash"):
        raise RootlessError("a shared bundle keeps no owners", f"--owners {options.owners}", hint="leave it out")
    owners, uid_map, gid_map = choose_owners(host, "squash" if options.shared else options.owners or "")
    in_namespace = owners.mode == "map" and not host.is_root_here
    request = oci.bundle.ConvertRequest(
        image, target, owners, uid_map, gid_map,
        source="" if options.image == "-" else options.image,
        args=list(getattr(options, "arg", None) or []),
        terminal=options.tty, force=options.force, shared=options.shared,
        devices=host.is_root_here and not host.in_userns,
        volumes=_volumes(options), cache=_cache() if getattr(options, "cache", False) else None,
        max_size=read_size(options.max_size), max_files=options.max_files or MAX_FILES,
        progress=not options.quiet, temporary=oci.bundle.temporary_name(target), finishing=job.finishing,
    )  # fmt: skip
    maps = (uid_map, gid_map) if in_namespace else ([], [])
    code = job.run_interruptible(
        lambda: _build(request, quiet=options.quiet), maps, request.temporary, lambda: _take_back(request)
    )
    if code == 0:
        tell(target if "/" in target else f"./{target}")
    return code


def _cache() -> Cache:
    return Cache()


def _take_back(request: oci.bundle.ConvertRequest) -> None:
    remove_tree(request.temporary)
    if request.cache:
        request.cache.prune(request.cache.max_size)


def choose_owners(host: Host, how: str) -> tuple[Owners, IdMap, IdMap]:
    """Return (how owners are written, uid map, gid map for config.json). Raises RootlessError.

    how: the value of --owners; "" chooses map if the user has a range of subordinate ids, else xattr. Root keeps all
    ids and needs no user namespace, so its maps are empty.
    """
    if how and how not in _HOW:
        raise RootlessError(f"unknown --owners {how!r}", hint=", ".join(_HOW))
    if host.is_root_here:
        ids = (host.uid_map, host.gid_map) if host.in_userns else ([], [])
        mode = how if how in ("xattr", "squash") else "map"
        return Owners(mode, *ids, strict=how == "strict"), [], []
    uid_map, gid_map = default_maps(host)
    ranged = len(uid_map) > 1
    if how in ("map", "strict") and not ranged:
        raise RootlessError(f"--owners {how} needs a range of ids", hint=HINTS["no-subids"].text)
    if not ranged or how in ("xattr", "squash"):
        return Owners(how or "xattr", alone=not how), [(0, host.uid, 1)], [(0, host.gid, 1)]
    return Owners("map", uid_map, gid_map, strict=how == "strict"), uid_map, gid_map


def _build(request: oci.bundle.ConvertRequest, *, quiet: bool) -> int:
    notes: list[str] = []
    request.note = notes.append
    try:
        oci.bundle.build(request)
    except OciError as error:
        log.error(error.message())
        return 1
    for note in [] if quiet else notes:
        log.warn(note)
    return 0


def _volumes(options: Options) -> str:
    volumes = str(getattr(options, "volumes", "") or "")
    if volumes not in ("", "tmpfs", "bind"):
        raise RootlessError(f"unknown --volumes {volumes!r}", hint="tmpfs or bind")
    return volumes


def _nameless() -> NoReturn:
    raise RootlessError("a bundle from standard input needs a name", hint="--output BUNDLE")


def _list(images: list[Image], *, as_json: bool) -> int:
    if as_json:
        keys = ("family", "names", "digest", "platform", "size")
        listed = [{key: getattr(image, key) for key in keys} | {"layers": len(image.layers)} for image in images]
        say(json.dumps(listed, indent=2))
        return 0
    rows = [("NAME", "DIGEST", "PLATFORM", "LAYERS", "SIZE")]
    for image in images:
        short = image.digest.removeprefix("sha256:")[:12]
        for name in image.names or ("-",):
            rows.append((name, short, image.platform, str(len(image.layers)), size(image.size)))
    say(laid_out(rows, right=(3, 4)).rstrip("\n"))
    return 0
