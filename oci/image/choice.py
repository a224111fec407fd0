"""Choose an image of an archive: by its name, its digest, its position or its platform."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from oci.errors import OciError, printable
from oci.image.model import Image
from oci.image.platforms import Platform, host_platform, parse


def choose(
    images: list[Image],
    tag: str = "",
    platform: str = "",
    source: str = "",
    note: Callable[[str], None] = lambda text: None,
) -> Image:
    """Return the image of a name, digest, `@position` or platform, or the only one. Raises OciError, which lists them.

    A single image for another architecture is chosen with a note. An image that is not for Linux is refused.
    """
    named = [image for position, image in enumerate(images) if not tag or _is_named(image, position, tag)]
    if not named:
        names = {_familiar(name): name for image in images for name in image.names}
        near = difflib.get_close_matches(_familiar(tag), names, 1, 0.6)
        hint = f"it holds {_listing(images)}"
        if near:
            hint = f"did you mean {printable(names[near[0]])!r}? {hint[0].upper()}{hint[1:]}"
        raise OciError(f"no image {printable(tag)!r} in the archive", source, hint=hint)
    linux = [image for image in named if image.os in ("", "linux")]
    if not linux:
        raise OciError(f"an image for {printable(named[0].os)}, not for Linux", source)
    wanted = parse(platform) if platform else host_platform()
    fitting = [image for image in linux if _fits(image, wanted)]
    if platform and not fitting:
        raise OciError(f"no image for {printable(platform)}", source, hint=f"it holds {_listing(linux)}")
    if platform:
        linux = fitting
    if tag or _is_one(linux):
        linux = _closest(fitting, wanted) if fitting else linux
        if len(linux) > 1 and not fitting:
            here = "/".join(filter(None, wanted))
            raise OciError(f"no image for {here}", source, hint=f"choose with --platform: {_listing(linux)}")
    if len(linux) > 1:
        raise OciError(f"the archive holds {len(linux)} images", source, hint=f"choose with --tag: {_listing(linux)}")
    if not _fits(linux[0], host_platform()):
        note(f"the image is for {linux[0].platform}: its programs do not run on this machine")
    return linux[0]


def _is_one(images: list[Image]) -> bool:
    """Return whether these are one image for several machines: they have a name in common, or none has a name."""
    names = [set(map(_familiar, image.names)) for image in images]
    return not any(names) or bool(set.intersection(*names))


def _is_named(image: Image, position: int, tag: str) -> bool:
    if tag == f"@{position}":
        return True
    digits = tag.removeprefix("sha256:")
    if re.fullmatch(r"[0-9a-f]{7,64}", digits) and image.digest.removeprefix("sha256:").startswith(digits):
        return True
    wanted = {_familiar(tag), _familiar(f"{tag}:latest")}
    return any(_familiar(name) in wanted or name == tag for name in image.names)


def _familiar(name: str) -> str:
    """Return a name without docker's default registry: docker.io/library/busybox:latest becomes busybox:latest."""
    for prefix in ("docker.io/", "index.docker.io/", "library/", "localhost/"):
        name = name.removeprefix(prefix)
    return name


def _fits(image: Image, wanted: Platform) -> bool:
    system, architecture, variant = wanted
    if (image.os or "linux") != system or (image.architecture or architecture) != architecture:
        return False
    return not image.variant or not variant or image.variant == variant or (architecture == "arm")


def _closest(images: list[Image], wanted: Platform) -> list[Image]:
    """Return the best of images that fit: the variant that was asked for; for arm, the newest that runs here.

    If an index lists several manifests for one platform, the first counts (image-spec image-index.md, "manifests").
    """
    exact = [image for image in images if image.variant == wanted[2]]
    candidates = exact or images
    if not exact and wanted[1] == "arm":
        below = [image for image in images if image.variant <= (wanted[2] or "v8")]
        newest = max((image.variant for image in below), default="")
        candidates = [image for image in below if image.variant == newest] or images
    listed = candidates[0].family == "oci" and (
        candidates[0].names or all(i.raw_config == candidates[0].raw_config for i in candidates)
    )
    return candidates[:1] if listed else candidates


def _listing(images: list[Image]) -> str:
    shown = [f"{', '.join(map(printable, i.names)) or i.digest[:19]} ({i.platform})" for i in images[:12]]
    return "; ".join(shown) + (f" and {len(images) - 12} more" if len(images) > 12 else "")
