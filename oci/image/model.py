"""An image and its layers, in whichever layout they were found."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

import attrs

from oci import compression, tarsum
from oci.chunks import Chunks, NextBuffer, OnBytes
from oci.errors import OciError, printable
from oci.image.platforms import Platform, normal
from oci.stream import Budget, verified


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
