"""`cache`: unpack an image ahead of its first run; list or prune images, layers of `convert --cache`, and old code."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import attrs

from oci.cache import Cache
from oci.errors import printable
from oci.image.blobs import open_input
from rootless.cli import archive, image_store, old_code
from rootless.cli.containers import state_root
from rootless.cli.images import read_size, translated
from rootless.cli.output import say, tell
from rootless.cli.table import age, laid_out, size
from rootless.errors import RootlessError
from rootless.kernel.host import Host
from rootless.runtime import upper
from rootless.userns import job
from rootless.userns.run import default_maps

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless cache add IMAGE`, `cache ls` or `cache prune [--max-size SIZE]`; no size prunes all."""
    if options.action == "add":
        return _add(options)
    if options.image and options.action in ("ls", "prune"):
        what = f"cache {options.action}: unexpected argument {printable(repr(options.image))}"
        raise RootlessError(what, hint="it is about the whole cache; --max-size SIZE keeps a part")
    cache = Cache()
    options.root = getattr(options, "root", "")
    if options.action == "ls":
        return _list(cache, as_json=options.json)
    if options.action != "prune":
        raise RootlessError(f"unknown action {options.action!r}", hint="add, ls or prune")
    limit = read_size(options.max_size) if options.max_size else 0

    def prune() -> int:
        with translated():
            removed = cache.prune(limit)
            images = image_store.prune(limit, used)
        if options.json:
            tell(json.dumps({
                kind: {"removed": len(gone), "bytes": sum(each.size for each in gone)}
                for kind, gone in (("trees", removed), ("images", images), ("code", old))
            }, indent=2))  # fmt: skip
            return 0
        tell(f"{len(removed)} trees removed, {sum(tree.size for tree in removed)} bytes")
        tell(f"{len(images)} images removed, {sum(image.size for image in images)} bytes")
        if old:
            tell(f"code of {len(old)} old installations removed, {sum(code.size for code in old)} bytes")
        return 0

    used = image_store.busy(state_root(options))
    for place in upper.abandoned():
        upper.remove_upper(place)
    old = old_code.prune()
    host = Host()
    return job.run_interruptible(prune, ([], []) if host.is_root_here else default_maps(host))


def _add(options: Options) -> int:
    """Unpack an image as `run IMAGE` does, if it is not in the cache, and print its bundle's directory."""
    if not options.image:
        raise RootlessError("the image is missing", hint="rootless cache add IMAGE.tar")
    if not archive.is_image(options.image):
        if not os.path.exists(options.image):
            with translated():
                os.close(open_input(options.image))  # raises the error that says why
        raise RootlessError(
            "not an image archive", printable(options.image), hint="a file, an OCI layout, or - for stdin"
        )
    bundle = archive.unpack(options.image, options.tag, options.platform).bundle
    tell(json.dumps({"bundle": bundle}) if options.json else bundle)
    return 0


def _list(cache: Cache, *, as_json: bool) -> int:
    with translated():
        trees = cache.trees()
    images = image_store.kept()
    if as_json:
        listed = [attrs.asdict(tree) for tree in trees]
        listed += [{"kind": "image", **attrs.asdict(image)} for image in images]
        listed += [{"kind": "code", **attrs.asdict(code)} for code in old_code.kept()]
        say(json.dumps(listed, indent=2))
        return 0
    rows = [("TREE", "OWNERS", "LAYERS", "SIZE", "LAST USED", "NAMES")]
    for tree in trees:
        names = ", ".join(tree.names) or "-"
        rows.append((tree.key[:12], tree.owners, str(len(tree.layers)), size(tree.size), age(tree.used), names))
    for image in images:
        names = ", ".join(image.names) or "-"
        rows.append((image.key[:12], "image", "-", size(image.size), age(image.used), names))
    for code in old_code.kept():
        rows.append(("-", "code", "-", size(code.size), age(code.used), f"{code.package} (not there any more)"))
    say(laid_out(rows, right=(2, 3)).rstrip("\n"))
    return 0
