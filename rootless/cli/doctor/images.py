"""Say what of a bundle or of an archive of images cannot work on this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci.bundle import META, read_image_record
from oci.errors import OciError
from oci.image import Image, choose, read_images
from oci.image.blobs import open_archive
from rootless.cli.archive import is_image
from rootless.cli.doctor import places
from rootless.cli.doctor.line import LIMITED, MISSING, OK, Line, failed
from rootless.cli.doctor.trial import config
from rootless.cli.images import read_size, translated
from rootless.errors import RootlessError, printable
from rootless.kernel.closed import closed_above
from rootless.kernel.hints import hint, hint_of
from rootless.kernel.host import Host
from rootless.runtime.nothing_there import no_such_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def bundle_or_archive(path: str, root: str) -> Iterator[Line]:
    """Say what of a bundle or an archive cannot work here. Raises RootlessError for what is neither."""
    if closed := closed_above(f"{path}/config.json"):
        raise closed
    if os.path.isfile(f"{path}/config.json"):
        yield from places.bundle(path)
        yield from config(path, root)
        if os.path.exists(f"{path}/{META}/image.json"):
            with translated():
                yield platform(str(read_image_record(path)["platform"]))
    elif is_image(path):
        yield from archive(path)
    elif not os.path.lexists(path):
        hint = no_such_bundle(path).hint
        raise RootlessError("no such bundle or image archive", path, hint=hint)
    else:
        raise RootlessError("neither a bundle nor an archive of images", path)


def archive(path: str) -> Iterator[Line]:
    """Read the images of an archive, choose among them as `run` does, and look at the cache that they go to."""
    try:
        with translated(), open_archive(path, "", read_size("")) as opened:
            images = read_images(opened)
            chosen, runs = _chosen(images, path)
    except (RootlessError, OSError) as error:
        known = error if isinstance(error, RootlessError) else RootlessError.from_os(error, "cannot read the archive")
        yield failed("archive", known, "it does not run")
        return
    cache = next((line for line in places.cache(Host()) if _is_fatal(line)), None)
    if not cache:
        count = f"{len(images)} image{'s' * (len(images) != 1)}"
        yield Line("archive", OK, f"{count} in {printable(path)}")
    else:
        yield Line("archive", MISSING, cache.detail, "it does not run", hint_of(cache.hint))
    yield Line("platform", OK, chosen.platform) if runs else platform(chosen.platform, MISSING)


def _is_fatal(line: Line) -> bool:
    """Return whether no image can be unpacked or run in a cache. One without exec serves, because it has an overlay."""
    return line.status != OK and line.name in ("cache", "cache-space") and places.NOEXEC not in line.detail


def _chosen(images: list[Image], path: str) -> tuple[Image, bool]:
    """Return (an image, whether it is for this machine): one that `run` takes, if need be with --tag.

    Raises OciError if none can run on any machine: it is not for Linux, or a layer is missing.
    """
    refusals: list[OciError] = []
    others: list[Image] = []
    for image in images:
        notes: list[str] = []
        try:
            choose([image], source=path, note=notes.append)
            for layer in image.layers:
                if layer.blob is None:
                    next(layer.stored())
        except OciError as error:
            refusals.append(error)
            continue
        if not notes:
            return image, True
        others.append(image)
    if not others:
        raise refusals[0]
    return others[0], False


def _is_own(platform: str) -> bool:
    machine = os.uname().machine
    return platform.split("/")[:2] == ["linux", _MACHINES.get(machine, machine)]


def platform(wanted: str, otherwise: str = LIMITED) -> Line:
    """Compare the platform of an image, such as linux/amd64, with this machine's.

    otherwise: the status for another machine's. `run` refuses the archive of such an image, and takes a bundle of it.
    """
    if _is_own(wanted):
        return Line("platform", OK, wanted)
    mend = hint("other-architecture")
    cost = "its programs start with an emulator only"
    detail = f"the image is of {wanted}, and this machine is {os.uname().machine}"
    return Line("platform", otherwise, detail, cost, mend)
