"""Define an image and its layers, into which every layout is read."""

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
    """Say where a layer's bytes are: in an archive (blobs.Blob), or in a pipe that is read once (rootfs.PipeBlob)."""

    @property
    def size(self) -> int:
        """The number of stored bytes, 0 if it is not known."""

    def chunks(self, on_bytes: OnBytes | None = None, next_buffer: NextBuffer | None = None) -> Chunks:
        """Yield the bytes as they are stored, perhaps read into memory of `next_buffer`."""

    def compression(self) -> str:
        """Return how the bytes are compressed: a word of compression.detect."""


@attrs.frozen
class Layer:
    """One layer of an image.

    blob: its bytes, None if the archive lacks them; name: what messages call it; digest, size: those of the stored
    bytes, diff_id: the digest of the tar inside; "" and -1 if the layout does not say; urls: where a foreign layer
    could be fetched; tarsum: docker's checksum of a legacy layer's members, "" for none.
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
        """The number of bytes in the archive; -1 for a pipe, whose size is not known."""
        if self.size >= 0:
            return self.size
        return self.blob.size if self.blob is not None and self.blob.size else -1

    def stored(self, on_bytes: OnBytes | None = None, next_buffer: NextBuffer | None = None) -> Chunks:
        """Yield the stored bytes, checked at their end against digest and size. Raises OciError."""
        if self.blob is None:
            hint = f"it was to be fetched from {printable(self.urls[0])}" if self.urls else ""
            raise OciError("a layer is missing in the archive", self.name, hint=hint)
        chunks = self.blob.chunks(on_bytes, next_buffer)
        return verified(chunks, self.digest, self.size, "the layer", self.name, in_thread=not next_buffer)

    def tar(self, budget: Budget, on_bytes: OnBytes | None = None, next_buffer: NextBuffer | None = None) -> Chunks:
        """Yield the tar inside, checked at its end also against the diff_id. Raises OciError.

        next_buffer: memory to read into; a chunk may then be a view of it, which is valid until the next chunk.
        """
        kind = self.blob.compression() if self.blob else ""
        if kind or self.tarsum:
            next_buffer = None
        stored = self.stored(on_bytes, next_buffer)
        if not kind and self.digest == self.diff_id and not self.tarsum:
            return budget.spend(stored, self.name)  # `stored` checks the same bytes
        plain = compression.decompress(kind, stored, self.name)
        if self.tarsum:
            plain = tarsum.checked(plain, self.tarsum, self.name)
        checked = verified(plain, self.diff_id, -1, "the unpacked layer", self.name, in_thread=not next_buffer)
        return budget.spend(checked, self.name)


@attrs.frozen
class Image:
    """One image of an archive.

    family: legacy, docker, oci or rootfs; names: as in the archive ("name:tag", or a bare ref name), may be empty;
    digest: that of its manifest or config, or its legacy id; config: the image config (image-spec config.md, or the
    json of the topmost legacy layer); layers: base first; os, architecture, variant: as platforms.normal spells them,
    "" if the archive does not say.
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
        """The first name, or the short digest."""
        return self.names[0] if self.names else self.digest.rpartition(":")[2][:12]

    @property
    def platform(self) -> str:
        """The platform as os/architecture[/variant]."""
        return "/".join(p for p in (self.os or "linux", self.architecture or "unknown", self.variant) if p)

    @property
    def size(self) -> int:
        """The number of stored bytes of its layers, without missing ones."""
        return sum(layer.blob.size for layer in self.layers if layer.blob is not None)


def read_platform(config: dict[str, Any], said: dict[str, Any] | None = None) -> Platform:
    """Return the platform in an image's config, or else in its descriptor (`said`), as platforms.normal spells it."""
    return normal(*(text(config.get(k)) or text((said or {}).get(k)) for k in ("os", "architecture", "variant")))


def read_history(config: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the history in an image's config, () if it is not a list of objects, because it is only for people."""
    entries = config.get("history")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return ()
    return tuple(entries)


def text(value: object) -> str:
    """Return a JSON value that should be a string, "" if it is not one."""
    return value if isinstance(value, str) else ""


@contextlib.contextmanager
def shape(what: str, where: object) -> Any:
    """Turn the exceptions that wrong types in untrusted JSON cause into an OciError that names the document."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise OciError(f"{what} is malformed ({error})", where) from None
