"""`pack`: make an image archive from a bundle, with the bundle's changes as one new layer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci.bundle import read_image_record, temporary_name
from oci.errors import OciError
from oci.owners import Owners
from oci.pack import PackRequest, pack
from oci.remove import remove_tree
from rootless import log
from rootless.cli.images import translated
from rootless.cli.output import tell
from rootless.userns import job

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless pack BUNDLE [-o IMAGE.tar] [--format oci|docker|docker-legacy]`; print the archive's path."""
    with translated():
        document = read_image_record(options.bundle_dir)
    uid_map, gid_map = ([tuple(entry) for entry in document[key]] for key in ("uidMap", "gidMap"))
    mapped = document["owners"] == "map" and bool(uid_map)
    owners = Owners(document["owners"], uid_map if mapped else [], gid_map if mapped else [])
    output = options.output or default_output(options.bundle_dir)
    request = PackRequest(
        options.bundle_dir, output, owners, temporary=temporary_name(output), finishing=job.finishing,
        format=options.format or "oci", tag=options.tag, base=options.base, flatten=options.flatten,
        force=options.force, changes=list(options.change or []), message=options.message,
    )  # fmt: skip
    maps = (uid_map, gid_map) if mapped else ([], [])
    code = job.run_interruptible(
        lambda: _pack(request, quiet=options.quiet),
        maps,
        request.temporary,
        lambda: remove_tree(request.temporary),
    )
    if code == 0:
        tell(request.output)
    return code


def default_output(bundle: str) -> str:
    """Return the default path of the archive: not BUNDLE.tar, because the bundle may have been converted from that."""
    bundle = bundle.rstrip("/")
    if os.path.basename(bundle) in ("", ".", ".."):
        bundle = os.path.abspath(bundle or "/")
    return f"{bundle}-packed.tar"


def _pack(request: PackRequest, *, quiet: bool) -> int:
    if not quiet:
        request.note = log.warn
        request.progress = True
    try:
        pack(request)
    except OciError as error:
        log.error(error.message())
        return 1
    return 0
