"""`run --save-changes`: pack the changes in a container's throw-away root as one more layer of its image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci.bundle import read_image_record, temporary_name
from oci.compression import check_library, kind_of_name
from oci.errors import OciError
from oci.owners import Owners
from oci.pack import PackRequest, pack
from oci.remove import remove_tree
from rootless import log
from rootless.cli.images import translated
from rootless.errors import RootlessError
from rootless.kernel import syscalls as sc
from rootless.kernel.host import Host
from rootless.plan.settings import overlay_options
from rootless.steps.upper import shorten
from rootless.userns import job
from rootless.userns.run import default_maps

if TYPE_CHECKING:
    from rootless.runtime.bundle import CreateRequest

_FORMATS = {"legacy": "docker-legacy", "docker": "docker"}  # of the archive that the image came in


def check_saving(request: CreateRequest, output: str) -> None:
    """Refuse --save-changes before the container is created if the changes could not be saved. Raises RootlessError."""
    flag = f"--save-changes {output}"
    if not request.upper.startswith("/"):
        hint = "run an image, or a bundle with --ephemeral; a root in memory is gone with the container"
        raise RootlessError("the container has no throw-away root on disk", flag, hint=hint)
    if output == "-":
        raise RootlessError("standard output is the program's", flag, hint="name a file, such as new.tar")
    if os.path.lexists(output):
        raise RootlessError("the output exists already", flag, hint="choose another name")
    if not os.path.isdir(os.path.dirname(os.path.abspath(output))):
        raise RootlessError("its directory does not exist", flag, hint="mkdir makes one")
    with translated():
        check_library(kind_of_name(output), flag)
        source = request.source or read_image_record(request.bundle)["source"]
    if not source or not os.path.exists(source):
        hint = "its layers are needed: run the image from a file, not from standard input"
        raise RootlessError("the image's archive does not exist", flag, hint=hint)


def save_changes(request: CreateRequest, output: str) -> int:
    """Write the image with one more layer after the container has ended; return an exit code. Raises RootlessError."""
    with translated():
        document = read_image_record(request.bundle)
    uid_map, gid_map = ([tuple(entry) for entry in document[key]] for key in ("uidMap", "gidMap"))
    mapped = document["owners"] == "map" and bool(uid_map)
    owners = Owners(document["owners"], uid_map if mapped else [], gid_map if mapped else [])
    packing = PackRequest(
        request.bundle, output, owners, temporary=temporary_name(output), finishing=job.finishing,
        format=_FORMATS.get(document["family"], "oci"), message="rootless run --save-changes",
        base=request.source,
    )  # fmt: skip
    host = Host()
    maps: job.Maps = ([], []) if host.is_root_here else default_maps(host)
    rootfs = f"{request.bundle}/rootfs"
    is_user = not host.is_root_on_host
    return job.run_interruptible(
        lambda: _pack(packing, rootfs, request.upper, is_user=is_user),
        maps,
        packing.temporary,
        lambda: remove_tree(packing.temporary),
    )


def _pack(packing: PackRequest, rootfs: str, upper: str, *, is_user: bool) -> int:
    """Pack the container's overlay, which is mounted over the bundle's rootfs in a private mount namespace."""
    packing.note = log.warn
    try:
        sc.unshare(sc.CLONE_NEWNS)
        sc.mount(None, "/", None, sc.MS_PRIVATE | sc.MS_REC)
        options, _ = shorten(overlay_options(rootfs, upper))  # this process ends soon
        sc.mount("overlay", rootfs, "overlay", 0, ",".join([*options, *(["userxattr"] if is_user else [])]))
        pack(packing)
    except OciError as error:
        # `pack` has other words for these, and --force.
        error.hint = error.hint.replace("--output", "--save-changes").replace("--force replaces it", "choose another")
        log.error(error.message())
        return 1
    return 0
