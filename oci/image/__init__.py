"""The model of an image, and the reading of all layouts into it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import attrs

from oci import compression
from oci.chunks import Chunks, NextBuffer, OnBytes
from oci.errors import OciError, printable
from oci.image.blobs import Archive
from oci.image.platforms import Platform, host_platform, normal, parse
from oci.stream import Budget, verified

_LEGACY = re.compile(r"[0-9a-f]{64}/json")
_JUNK = re.compile(r"(^|/)(\._[^/]*|\.DS_Store)$|^__MACOSX(/|$)")


class Stored(Protocol):
    """Where a layer's bytes are: a part of an archive (blobs.Blob), or a pipe that is read once (rootfs.PipeBlob)."""

    @property
    def size(self) -> int:
        """Bytes, 0 where they are not known."""

    def chunks(self, on_bytes: OnBytes | None = None, next_buffer: NextBuffer | None = None) -> Chunks:
        """The bytes as they are stored, read into `next_buffer` where that is given and of use."""

    def compression(self) -> str:
        """How they are compressed, as compression.detect names it."""


@attrs.frozen
class Layer:
    """One layer of an image.

    blob: where it is, None if the archive lacks it; name: what messages call it; digest, size: of the stored bytes,
    diff_id: of the tar inside; "" and -1 where the layout does not say; urls: where a foreign layer could be fetched;
    tarsum: docker's checksum of a legacy layer's members.
    """

    blob: Stored | None
    name: str
    digest: str = ""
    size: int = -1
    diff_id: str = ""
    media_type: str = ""
    urls: tuple[str, ...] = ()
    tarsum: str = ""

    @property
    def stored_size(self) -> int:
        """Bytes as they are in the archive; -1 for what comes through a pipe."""
        if self.size >= 0:
            return self.size
        return self.blob.size if self.blob is not None and self.blob.size else -1

    def stored(self, on_bytes: OnBytes | None = None, next_buffer: NextBuffer | None = None) -> Chunks:
        """Its bytes as they are in the archive, checked at their end against digest and size. Raises OciError."""
        if self.blob is None:
            hint = f"it was to be fetched from {printable(self.urls[0])}" if self.urls else ""
            raise OciError("a layer is missing in the archive", self.name, hint=hint)
        chunks = self.blob.chunks(on_bytes, next_buffer)
        return verified(chunks, self.digest, self.size, "the layer", self.name, in_thread=not next_buffer)

    def tar(self, budget: Budget, on_bytes: OnBytes | None = None, next_buffer: NextBuffer | None = None) -> Chunks:
        """The tar inside, checked at its end against the diff_id as well. Raises OciError.

        With `next_buffer` a chunk may be a part of that, which is good until the next is asked for.
        """
        kind = self.blob.compression() if self.blob else ""
        if kind or self.tarsum:
            next_buffer = None
        stored = self.stored(on_bytes, next_buffer)
        if not kind and self.digest == self.diff_id and not self.tarsum:
            return budget.spend(stored, self.name)  # the same bytes, already checked
        plain = compression.decompress(kind, stored, self.name)
        if self.tarsum:
            from oci import tarsum

            plain = tarsum.checked(plain, self.tarsum, self.name)
        checked = verified(plain, self.diff_id, -1, "the unpacked layer", self.name, in_thread=not next_buffer)
        return budget.spend(checked, self.name)


@attrs.frozen
class Image:
    """One image of an archive.

    family: legacy, docker, oci or rootfs; names: as in the archive ("name:tag", or a bare ref name), none for some;
    digest: of its manifest or config, or its legacy id; config: the image config (image-spec config.md, or the json
    of the topmost legacy layer); layers: base first; os, architecture, variant: in the images' words
    (platforms.normal), "" where nothing says.
    """

    family: str
    names: tuple[str, ...]
    digest: str
    config: dict[str, Any]
    layers: tuple[Layer, ...]
    history: tuple[dict[str, Any], ...] = ()
    os: str = ""
    architecture: str = ""
    variant: str = ""
    raw_config: bytes = b""

    @property
    def label(self) -> str:
        """Its first name, or its short digest."""
        return self.names[0] if self.names else self.digest.rpartition(":")[2][:12]

    @property
    def platform(self) -> str:
        """os/arch[/variant]"""
        return "/".join(p for p in (self.os or "linux", self.architecture or "unknown", self.variant) if p)

    @property
    def size(self) -> int:
        """Bytes of its layers as stored; missing ones count nothing."""
        return sum(layer.blob.size for layer in self.layers if layer.blob is not None)


def read_images(archive: Archive) -> list[Image]:
    """All images of an archive. Raises OciError where it holds none, or they cannot be read."""
    from oci.image import docker, layout, legacy

    if archive.find("index.json") is not None and archive.find("oci-layout") is not None:
        images = layout.read(archive)
        if archive.find("manifest.json") is not None:
            images = _merge(images, docker.read(archive))
    elif archive.find("manifest.json") is not None:
        images = docker.read(archive)
    elif archive.find("index.json") is not None:
        images = layout.read(archive)  # without its marker file: some tools forget it
    elif archive.find("repositories") is not None or any(_is_layer_json(name) for name in archive.names):
        images = legacy.read(archive)
    elif not archive.names:
        raise OciError("the archive is empty", archive.source)
    elif below := image_below(archive.names):
        raise packed_below(below, archive.source)
    else:
        raise OciError(
            "no image archive: this looks like a root file system tar", archive.source, hint="`import` takes it"
        )
    if not images:
        raise OciError("the archive holds no image", archive.source)
    return images


def is_image_archive(names: Iterable[str]) -> bool:
    """Whether top-level names are those of an image archive, which `import` refuses."""
    members = set(names)
    return bool(members & {"manifest.json", "repositories"}) or {"oci-layout", "index.json"} <= members


def image_below(names: Iterable[str]) -> str:
    """Return the directory that holds a whole image archive, as `tar -cf x.tar myimage` makes one; "" for none.

    names: of all members. What macOS adds beside them does not count.
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
    """Return whether macOS adds a member of that name beside those that were meant."""
    return _JUNK.search(name) is not None


def packed_below(directory: str, source: str) -> OciError:
    """Return the error for an archive that `image_below` found inside a directory."""
    shown = printable(directory)
    if os.path.isdir(source):
        return OciError(f"the image archive is in the directory {shown}", source, hint=f"convert {source}/{shown}")
    hint = f"unpack it with `tar -xf`, and convert the directory {shown}"
    return OciError(f"the image archive was packed again inside the directory {shown}", source, hint=hint)


def _is_layer_json(name: str) -> bool:
    return re.fullmatch(r"[^/]+/json", name) is not None


def _merge(images: list[Image], named: list[Image]) -> list[Image]:
    """Docker 25 and later write both layouts: blobs by the OCI one, names by either.

    manifest.json has one platform of an image; the others of the same name in index.json get its names as well.
    """
    result = list(images)
    for other in named:
        position = next((n for n, image in enumerate(images) if image.raw_config == other.raw_config), None)
        if position is None:
            result.append(other)
            continue
        old = images[position].names
        # containerd notes a bare tag as the ref name: the full names of manifest.json replace it
        bare = {name.rpartition(":")[2] for name in other.names}
        names = tuple(dict.fromkeys([*other.names, *(n for n in old if n not in bare)]))
        for number, image in enumerate(images):
            listed = any(image.raw_config == one.raw_config for one in named)
            if number == position or (image.names == old and not listed and (old or len(named) == 1)):
                result[number] = attrs.evolve(image, names=names)
    return result


def choose(
    images: list[Image],
    tag: str = "",
    platform: str = "",
    source: str = "",
    note: Callable[[str], None] = lambda text: None,
) -> Image:
    """The image that a name, digest, `@position` or platform picks, or the only one. Raises OciError, which lists them.

    A single image of another machine is chosen with a note; one that is not for Linux is refused.
    """
    named = [image for position, image in enumerate(images) if not tag or _is_named(image, position, tag)]
    if not named:
        raise OciError(f"no image {printable(tag)!r} in the archive", source, hint=f"it holds {_listing(images)}")
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
    """A name without what docker adds to it: docker.io/library/busybox:latest is busybox:latest."""
    for prefix in ("docker.io/", "index.docker.io/", "library/", "localhost/"):
        name = name.removeprefix(prefix)
    return name


def _fits(image: Image, wanted: Platform) -> bool:
    system, architecture, variant = wanted
    if (image.os or "linux") != system or (image.architecture or architecture) != architecture:
        return False
    return not image.variant or not variant or image.variant == variant or (architecture == "arm")


def _closest(images: list[Image], wanted: Platform) -> list[Image]:
    """Return what is left of several that fit: of variants the one asked for; of arm, the newest that runs.

    Of manifests that an index lists for the same platform the first is taken (image-spec image-index.md, "manifests").
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


def read_platform(config: dict[str, Any], said: dict[str, Any] | None = None) -> Platform:
    """Return the platform that an image's config says, or else its descriptor (`said`), in the images' words."""
    return normal(*(text(config.get(k)) or text((said or {}).get(k)) for k in ("os", "architecture", "variant")))


def text(value: object) -> str:
    """A JSON value that should be a string, "" where it is none."""
    return value if isinstance(value, str) else ""


@contextlib.contextmanager
def shape(what: str, where: object) -> Any:
    """Wrong types in untrusted JSON become an OciError that names the document."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise OciError(f"{what} does not have the form that it should ({error})", where) from None
