"""Detect which layout an archive has, and read its images; tell an image archive from a tar that contains one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

import attrs

from oci.errors import OciError, printable
from oci.image import docker, layout, legacy
from oci.image.blobs import Archive
from oci.image.model import Image

_LEGACY = re.compile(r"[0-9a-f]{64}/json")
_JUNK = re.compile(r"(^|/)(\._[^/]*|\.DS_Store)$|^__MACOSX(/|$)")


def read_images(archive: Archive) -> list[Image]:
    """Return all images of an archive. Raises OciError if there are none, or if they cannot be read."""
    if archive.find("index.json") is not None and archive.find("oci-layout") is not None:
        images = layout.read(archive)
        if archive.find("manifest.json") is not None:
            images = _merge(images, docker.read(archive))
    elif archive.find("manifest.json") is not None:
        images = docker.read(archive)
    elif archive.find("index.json") is not None:
        images = layout.read(archive)  # some tools forget oci-layout, the marker file
    elif archive.find("repositories") is not None or any(_is_layer_json(name) for name in archive.names):
        images = legacy.read(archive)
    elif not archive.names:
        raise OciError("the archive is empty", archive.source)
    elif below := image_below(archive.names):
        raise packed_below(below, archive.source)
    elif archive.find("config.json") is not None and _is_bundle(archive.source):
        hint = f"rootless run {archive.source}, or `rootless pack` makes an archive of it"
        raise OciError("this is a bundle already, not an image archive", archive.source, hint=hint)
    else:
        raise OciError(
            "not an image archive: this looks like a root file system tar", archive.source, hint="`import` takes it"
        )
    if not images:
        raise OciError("the archive holds no image", archive.source)
    return images


def _is_bundle(directory: str) -> bool:
    """Return whether a directory with a config.json is a bundle, whose root may be anywhere, rather than a root."""
    is_root = any(os.path.isdir(f"{directory}/{name}") for name in ("bin", "etc", "usr"))
    return os.path.isdir(directory) and not is_root


def is_image_archive(names: Iterable[str]) -> bool:
    """Return whether these top-level names are those of an image archive, which `import` refuses."""
    members = set(names)
    return bool(members & {"manifest.json", "repositories"}) or {"oci-layout", "index.json"} <= members


def image_below(names: Iterable[str]) -> str:
    """Return the directory that holds a whole image archive, as `tar -cf x.tar myimage` makes one; "" for none.

    names: those of all members. Files that macOS adds do not count.
    """
    below = [name.split("/") for name in names if not is_junk(name)]
    prefix: list[str] = []
    while below and len({parts[0] for parts in below}) == 1:
        prefix.append(below[0][0])
        below = [parts[1:] for parts in below if len(parts) > 1]
        if is_image_archive(parts[0] for parts in below) or any(_LEGACY.fullmatch("/".join(parts)) for parts in below):
            return "/".join(prefix)
    return ""


def is_junk(name: str) -> bool:
    """Return whether a member of that name is one that macOS adds to archives."""
    return _JUNK.search(name) is not None


def packed_below(directory: str, source: str) -> OciError:
    """Return the error for an image archive inside a directory of another archive (`image_below`)."""
    shown = printable(directory)
    if os.path.isdir(source):
        return OciError(f"the image archive is in the directory {shown}", source, hint=f"convert {source}/{shown}")
    hint = f"unpack it with `tar -xf`, and convert the directory {shown}"
    return OciError(f"the image archive was packed again inside the directory {shown}", source, hint=hint)


def _is_layer_json(name: str) -> bool:
    return re.fullmatch(r"[^/]+/json", name) is not None


def _merge(images: list[Image], named: list[Image]) -> list[Image]:
    """Give the images of index.json the names of manifest.json. Docker 25 and later write both files.

    manifest.json has one platform of an image. The other platforms in index.json that share a name get its names too.
    """
    result = list(images)
    for other in named:
        position = next((n for n, image in enumerate(images) if image.raw_config == other.raw_config), None)
        if position is None:
            result.append(other)
            continue
        old = images[position].names
        # The full names of manifest.json replace a bare tag, which is what containerd writes as the ref name.
        bare = {name.rpartition(":")[2] for name in other.names}
        names = tuple(dict.fromkeys([*other.names, *(n for n in old if n not in bare)]))
        for number, image in enumerate(images):
            listed = any(image.raw_config == one.raw_config for one in named)
            if number == position or (image.names == old and not listed and (old or len(named) == 1)):
                result[number] = attrs.evolve(image, names=names)
    return result
