"""Image archives: the legacy layout (`<id>/{json,layer.tar,VERSION}`, `repositories`) and docker's manifest.json.

An archive is read at random, so a compressed one, or one from standard input, goes through an unlinked spool file.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import posixpath
import tarfile
import tempfile
from collections.abc import Iterator
from typing import IO, Any, cast

import attrs

from oci import compression
from oci.errors import OciError, printable

_CHUNK = 1 << 20
_JSON_LIMIT = 16 << 20
_LINKS = 40


@attrs.frozen
class Image:
    """One image: its names (`repo:tag`), its config as in the archive, its layers base first as member names, and
    their diff_ids (empty where the layout has none)."""

    names: list[str]
    config: dict[str, Any]
    layers: list[str]
    diff_ids: list[str]

    @property
    def label(self) -> str:
        """The first name, or "-"."""
        return self.names[0] if self.names else "-"


class Archive:
    """An open tar whose members can be read by name."""

    def __init__(self, source: str) -> None:
        self.source = "standard input" if source == "-" else source
        self.file = _open_seekable(source)
        self.members: dict[str, tarfile.TarInfo] = {}
        for member in read_tar(self.file, self.source):
            self.members[posixpath.normpath(member.name.lstrip("/"))] = member

    def find(self, name: str) -> tarfile.TarInfo | None:
        """The regular member of that name; links are followed inside the archive only."""
        name = posixpath.normpath(name)
        for _ in range(_LINKS):
            member = self.members.get(name)
            if member is None or member.isreg():
                return member
            if member.issym():
                name = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
            elif member.islnk():
                name = posixpath.normpath(member.linkname)
            else:
                return None
        return None

    def open(self, name: str, what: str) -> IO[bytes]:
        """A member's bytes as a seekable file, decompressed. Raises OciError where it is missing."""
        member = self.find(name)
        if member is None:
            raise OciError(f"{what} is missing in the archive", f"{self.source}: {name}")
        raw = cast("IO[bytes]", _Slice(self.file, member.offset_data, member.size))
        kind = compression.detect(raw.read(compression.MAGIC_SIZE))
        raw.seek(0)
        return _spool(compression.decompress(kind, _chunks(raw), name)) if kind else raw

    def json(self, name: str, what: str) -> Any:
        """A member parsed as JSON."""
        member = self.find(name)
        if member is not None and member.size > _JSON_LIMIT:
            raise OciError(f"{what} is larger than 16 MiB", f"{self.source}: {name}")
        try:
            return json.loads(self.open(name, what).read() or b"null")
        except (ValueError, RecursionError) as error:
            raise OciError(f"{what} is no JSON: {error}", f"{self.source}: {name}") from None


class _Slice(io.RawIOBase):
    """A part of the archive as a file of its own."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        super().__init__()
        self._file, self._start, self._size, self._at = file, start, size, 0

    def read(self, size: int = -1, /) -> bytes:
        left = self._size - self._at
        size = left if size < 0 else min(size, left)
        if size <= 0:
            return b""
        data = os.pread(self._file.fileno(), size, self._start + self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = offset if whence == 0 else (self._at if whence == 1 else self._size) + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def read_tar(file: IO[bytes], where: str) -> Iterator[tarfile.TarInfo]:
    """The members in their order. Unlike tarfile it does not take a broken header for the end."""
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    if size == 0:
        return
    try:
        tar = tarfile.open(fileobj=file, mode="r:", errors="surrogateescape", encoding="utf-8")
        while True:
            member = tar.next()
            if member is None:
                break
            if member.size < 0 or (member.isreg() and not member.sparse and member.offset_data + member.size > size):
                raise OciError("the archive is cut off or broken", f"{where}: {printable(member.name)}")
            yield member
            tar.members.clear()  # type: ignore[attr-defined]
        file.seek(tar.offset)
        rest = file.read(512)
    except (tarfile.TarError, ValueError, OverflowError, IndexError) as error:
        raise OciError(f"not a tar archive, or a broken one: {error}", where) from None
    if rest.strip(b"\0"):
        raise OciError("the archive is cut off or broken", where)


def read_images(archive: Archive) -> list[Image]:
    """All images of the archive. Raises OciError where it holds none, or a broken one."""
    if archive.find("manifest.json"):
        return _read_manifest(archive)
    if archive.find("oci-layout") or archive.find("index.json"):
        raise OciError("an OCI layout cannot be converted yet", archive.source, hint="save it as a docker archive")
    ids = {name.partition("/")[0] for name in archive.members if name.endswith("/json") and name.count("/") == 1}
    if not ids and not archive.find("repositories"):
        if not archive.members:
            raise OciError("the archive is empty", archive.source)
        raise OciError(
            "no image archive: this looks like a root file system tar", archive.source, hint="rootless import takes it"
        )
    return _read_legacy(archive, ids)


def choose(images: list[Image], tag: str, where: str) -> Image:
    """The image that --tag names, or the only one."""
    if not tag and len(images) == 1:
        return images[0]
    wanted = {tag, f"{tag}:latest"} if tag else set()
    found = [image for image in images if wanted & set(image.names)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(sorted(name for image in images for name in (image.names or ["(untagged)"])))
    if tag:
        raise OciError(f"no image {printable(repr(tag))} in the archive", where, hint=f"it holds {known}")
    raise OciError(f"the archive holds {len(images)} images", where, hint=f"choose with --tag: {known}")


def verify(file: IO[bytes], diff_id: str, where: str) -> None:
    """Compare a layer with its diff_id. Raises OciError with both digests."""
    algorithm, _, expected = diff_id.partition(":")
    if algorithm not in ("sha256", "sha512"):
        raise OciError(f"unknown digest algorithm {printable(algorithm)}", where)
    digest = hashlib.new(algorithm)
    for chunk in _chunks(file):
        digest.update(chunk)
    file.seek(0)
    if digest.hexdigest() != expected:
        raise OciError(f"the layer's digest is {algorithm}:{digest.hexdigest()}, not {diff_id}", where)


def _read_manifest(archive: Archive) -> list[Image]:
    manifest = archive.json("manifest.json", "manifest.json")
    if not isinstance(manifest, list) or not manifest:
        raise OciError("manifest.json names no image", archive.source)
    images = []
    for entry in manifest:
        if not isinstance(entry, dict) or not isinstance(entry.get("Layers") or [], list):
            raise OciError("manifest.json holds no image entry", archive.source)
        config = archive.json(_text(entry.get("Config"), "Config", archive), "the image's config")
        if not isinstance(config, dict):
            raise OciError("the image's config is no object", archive.source)
        layers = [_text(name, "Layers", archive) for name in entry.get("Layers") or []]
        diff_ids = (config.get("rootfs") or {}).get("diff_ids") or []
        _check_platform(config, archive)
        for name in layers:
            if archive.find(name) is None:
                raise OciError("a layer is missing in the archive", f"{archive.source}: {printable(name)}")
        if diff_ids and len(diff_ids) != len(layers):
            raise OciError(f"{len(layers)} layers, but {len(diff_ids)} diff_ids", archive.source)
        images.append(Image([str(n) for n in entry.get("RepoTags") or []], config, layers, diff_ids))
    return images


def _text(value: Any, key: str, archive: Archive) -> str:
    if not isinstance(value, str) or not value:
        raise OciError(f"manifest.json: {key} holds no name", archive.source)
    return value


def _check_platform(config: dict[str, Any], archive: Archive) -> None:
    system = config.get("os") or "linux"
    if system != "linux":
        raise OciError(f"an image for {printable(system)}, not for Linux", archive.source)


def _read_legacy(archive: Archive, ids: set[str]) -> list[Image]:
    configs: dict[str, dict[str, Any]] = {}
    for layer_id in ids:
        config = archive.json(f"{layer_id}/json", "a layer's json")
        if not isinstance(config, dict):
            raise OciError("a layer's json is no object", f"{archive.source}: {layer_id}/json")
        configs[layer_id] = config
    tops: dict[str, list[str]] = {}
    if archive.find("repositories"):
        repositories = archive.json("repositories", "repositories")
        if not isinstance(repositories, dict):
            raise OciError("repositories is no object", archive.source)
        for name, tags in repositories.items():
            for tag, layer_id in (tags or {}).items():
                if layer_id not in configs:
                    raise OciError(
                        f"repositories names the layer {printable(layer_id)} for {printable(name)}:{printable(tag)}, "
                        "which is missing in the archive",
                        archive.source,
                    )
                tops.setdefault(layer_id, []).append(f"{name}:{tag}")
    else:
        parents = {config.get("parent") for config in configs.values()}
        tops = {layer_id: [] for layer_id in sorted(configs) if layer_id not in parents}
    if not tops:
        what = "the layers' parents form a circle" if configs else "the archive holds no image"
        raise OciError(what, archive.source)
    return [_legacy_image(archive, configs, top, names) for top, names in tops.items()]


def _legacy_image(archive: Archive, configs: dict[str, dict[str, Any]], top: str, names: list[str]) -> Image:
    layers: list[str] = []
    seen: set[str] = set()
    layer_id = top
    while layer_id:
        if layer_id in seen:
            raise OciError("the layers' parents form a circle", f"{archive.source}: {printable(layer_id)}")
        if layer_id not in configs:
            raise OciError("a parent layer is missing in the archive", f"{archive.source}: {printable(layer_id)}")
        seen.add(layer_id)
        if archive.find(f"{layer_id}/layer.tar") is None:
            raise OciError("a layer is missing in the archive", f"{archive.source}: {layer_id}/layer.tar")
        layers.insert(0, f"{layer_id}/layer.tar")
        layer_id = configs[layer_id].get("parent") or ""
    _check_platform(configs[top], archive)
    return Image(names, configs[top], layers, [])


def _open_seekable(source: str) -> IO[bytes]:
    try:
        file: IO[bytes] = os.fdopen(os.dup(0), "rb") if source == "-" else open(source, "rb")
    except OSError as error:
        raise OciError.from_os(error, "cannot open the archive") from None
    try:
        head = file.read(compression.MAGIC_SIZE)
        kind = compression.detect(head)
        if not kind and source != "-" and file.seekable():
            return file
        chunks = _with_head(head, file)
        return _spool(compression.decompress(kind, chunks, source) if kind else chunks)
    except OSError as error:
        raise OciError.from_os(error, "cannot read the archive", source) from None


def _with_head(head: bytes, file: IO[bytes]) -> Iterator[bytes]:
    yield head
    yield from _chunks(file)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _spool(chunks: Iterator[bytes]) -> IO[bytes]:
    spool = tempfile.TemporaryFile()
    try:
        for chunk in chunks:
            spool.write(chunk)
    except OSError as error:
        raise OciError.from_os(error, "cannot write the spool file", tempfile.gettempdir(), "set TMPDIR") from None
    spool.seek(0)
    return spool
