"""Say what of a bundle or of an archive of images cannot work on this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci.bundle import META, read_image_record
from oci.image import read_images
from oci.image.blobs import open_archive
from rootless.cli.archive import is_image
from rootless.cli.doctor import places
from rootless.cli.doctor.line import LIMITED, OK, Line, failed
from rootless.cli.doctor.trial import config
from rootless.cli.images import read_size, translated
from rootless.errors import RootlessError, printable
from rootless.kernel.hints import hint
from rootless.runtime.nothing_there import no_such_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def bundle_or_archive(path: str, root: str) -> Iterator[Line]:
    """Say what of a bundle or an archive cannot work here. Raises RootlessError for what is neither."""
    try:
        os.stat(f"{path}/config.json")
    except PermissionError as error:
        raise RootlessError.from_os(error, "cannot enter the bundle", path) from None
    except OSError:
        pass
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
    """Read the images of an archive, and compare their platforms with this machine's."""
    try:
        with translated(), open_archive(path, "", read_size("")) as opened:
            images = read_images(opened)
            platforms = sorted({image.platform for image in images})
    except (RootlessError, OSError) as error:
        known = error if isinstance(error, RootlessError) else RootlessError.from_os(error, "cannot read the archive")
        yield failed("archive", known, "it does not run")
        return
    yield Line("archive", OK, f"{len(images)} images in {printable(path)}")
    if platforms:
        own = [platform for platform in platforms if _is_own(platform)]
        yield platform((own or platforms)[0])


def _is_own(platform: str) -> bool:
    machine = os.uname().machine
    return platform.split("/")[:2] == ["linux", _MACHINES.get(machine, machine)]


def platform(wanted: str) -> Line:
    """Compare the platform of an image, such as linux/amd64, with this machine's."""
    if _is_own(wanted):
        return Line("platform", OK, wanted)
    mend = hint("other-architecture")
    cost = "its programs start with an emulator only"
    return Line("platform", LIMITED, f"the image is of {wanted}, and this machine is {os.uname().machine}", cost, mend)
