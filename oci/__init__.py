"""Read image archives and write bundles. Nothing here knows how a container runs, so the package is usable alone.

from oci import Owners, ConvertRequest, build, choose, open_archive, read_images

with open_archive("busybox.tar") as archive:
    image = choose(read_images(archive))
    build(ConvertRequest(image, "busybox", Owners("squash"), [(0, 1000, 1)], [(0, 1000, 1)]))

Each name is loaded when it is first used, because `rootless spec` needs `oci.config` alone and should start fast.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci.bundle import ConvertRequest, build
    from oci.config import default_config
    from oci.errors import OciError
    from oci.image import Image, Layer, choose, read_images
    from oci.image.blobs import open_archive
    from oci.image.rootfs import open_rootfs
    from oci.owners import Owners

__all__ = [
    "ConvertRequest",
    "Image",
    "Layer",
    "OciError",
    "Owners",
    "build",
    "choose",
    "default_config",
    "open_archive",
    "open_rootfs",
    "read_images",
]  # fmt: skip

_HOME = {
    "Image": "oci.image",
    "Layer": "oci.image",
    "OciError": "oci.errors",
    "Owners": "oci.owners",
    "ConvertRequest": "oci.bundle",
    "build": "oci.bundle",
    "choose": "oci.image",
    "default_config": "oci.config",
    "open_archive": "oci.image.blobs",
    "open_rootfs": "oci.image.rootfs",
    "read_images": "oci.image",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'oci' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
