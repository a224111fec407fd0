"""Read the OCI layout: oci-layout, index.json, blobs/ (image-spec image-layout.md, image-index.md, manifest.md)."""

from __future__ import annotations

import hashlib
from typing import Any

import attrs

from oci.errors import OciError, printable
from oci.image.blobs import MAX_JSON, Archive, read_json
from oci.image.model import Image, Layer, read_history, read_platform, shape, text
from oci.stream import verified

MAX_NESTING = 8
MAX_MANIFESTS = 10_000
_INDEX = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
_MANIFEST = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
}
_CONFIG = {
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/octet-stream",  # in docker's first v2 manifests
    "",
}
_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"


@attrs.define
class _Walk:
    """Collect what nested indexes name."""

    images: dict[str, Image] = attrs.field(factory=dict)  # by manifest digest
    missing: list[str] = attrs.field(factory=list)
    steps: int = 0


def read(archive: Archive) -> list[Image]:
    """Return all images of the layout, including those of nested indexes. Raises OciError.

    One manifest under several names is one image. A manifest that an index lists but the archive lacks is another
    platform that was not saved, so this is an error only if no image is left.
    """
    marker = archive.find("oci-layout")
    if marker is not None:
        version = read_json(marker.read(MAX_JSON, "oci-layout"), "oci-layout", marker.where)
        if not isinstance(version, dict) or not text(version.get("imageLayoutVersion")).startswith("1."):
            raise OciError("oci-layout is not of version 1", marker.where)
    walk = _Walk()
    index = archive.json("index.json", "index.json")
    _read_index(archive, index, [], 0, walk)
    if not walk.images and walk.missing:
        raise OciError("a blob is missing in the archive", archive.place(walk.missing[0]))
    return list(walk.images.values())


def read_beside(archive: Archive, manifest: dict[str, Any]) -> list[Image]:
    """Return the image of a manifest.json beside its blobs, as skopeo's `dir:` and podman's docker-dir write it."""
    blob = archive.find("manifest.json")
    assert blob is not None
    digest = f"sha256:{hashlib.sha256(blob.read(MAX_JSON, 'manifest.json')).hexdigest()}"
    walk = _Walk()
    with shape("manifest.json", blob.where):
        _read_manifest(archive, manifest, {"digest": digest}, [], walk)
    if walk.missing:
        raise OciError("a blob is missing in the archive", archive.place(walk.missing[0]))
    return list(walk.images.values())


def _read_index(archive: Archive, index: Any, names: list[str], depth: int, walk: _Walk) -> None:
    if depth > MAX_NESTING:
        raise OciError(f"indexes are nested more than {MAX_NESTING} deep", archive.source)
    with shape("the index", archive.source):
        for descriptor in index.get("manifests") or []:
            walk.steps += 1
            if walk.steps > MAX_MANIFESTS:
                raise OciError(f"more than {MAX_MANIFESTS} manifests", archive.source)
            _read_descriptor(archive, descriptor, names, depth, walk)


def _read_descriptor(archive: Archive, descriptor: dict[str, Any], names: list[str], depth: int, walk: _Walk) -> None:
    media_type = text(descriptor.get("mediaType"))
    blob = archive.blob(descriptor["digest"])
    if blob is None:
        walk.missing.append(descriptor["digest"])
    if blob is None or _is_attestation(descriptor) or (media_type and media_type not in _INDEX | _MANIFEST):
        return
    what = "the manifest"
    data = blob.read(MAX_JSON, what)
    b"".join(verified(iter([data]), descriptor["digest"], int(descriptor["size"]), what, blob.where))
    document = read_json(data, what, blob.where)
    with shape(what, blob.where):
        is_index = _is_index(document, media_type, blob.where)
        own = _names(descriptor)
        if is_index:
            _read_index(archive, document, own or names, depth + 1, walk)
        else:
            _read_manifest(archive, document, descriptor, own or names, walk)


def _is_index(document: dict[str, Any], said: str, where: str) -> bool:
    """Return whether a blob is an index and not a manifest. Raises OciError if it could be both (CVE-2021-41190)."""
    inside = text(document.get("mediaType"))
    if "manifests" in document and ("layers" in document or "config" in document):
        raise OciError("the blob is a manifest and an index at once", where)
    kinds = {kind in _INDEX for kind in (said, inside) if kind in _INDEX | _MANIFEST}
    kinds.add("manifests" in document)
    if len(kinds) > 1:
        raise OciError(f"the blob is not a {said or inside or 'manifest'}", where)
    return kinds.pop()


def _is_attestation(descriptor: dict[str, Any]) -> bool:
    """Return whether a descriptor is of an attestation, which buildkit writes beside an image and is not one."""
    annotations = descriptor.get("annotations") or {}
    platform = descriptor.get("platform") or {}
    return "vnd.docker.reference.type" in annotations or platform.get("os") == "unknown"


def _names(descriptor: dict[str, Any]) -> list[str]:
    annotations = descriptor.get("annotations") or {}
    name, ref = text(annotations.get(_CONTAINERD_NAME)), text(annotations.get(_REF_NAME))
    return [printable(n) for n in dict.fromkeys([name] if name else [ref]) if n]


def _read_manifest(
    archive: Archive, manifest: dict[str, Any], descriptor: dict[str, Any], names: list[str], walk: _Walk
) -> None:
    digest = descriptor["digest"]
    known = walk.images.get(digest)
    if known is not None:
        walk.images[digest] = attrs.evolve(known, names=tuple(dict.fromkeys([*known.names, *names])))
        return
    if text(manifest["config"].get("mediaType")) not in _CONFIG or manifest.get("artifactType"):
        return  # an artifact, which is not an image
    config_blob = archive.blob(manifest["config"]["digest"])
    if config_blob is None:
        walk.missing.append(manifest["config"]["digest"])
        return
    data = config_blob.read(MAX_JSON, "the image's config")
    size = int(manifest["config"]["size"])
    b"".join(verified(iter([data]), manifest["config"]["digest"], size, "the image's config", config_blob.where))
    config = read_json(data, "the image's config", config_blob.where)
    with shape("the image's config", config_blob.where):
        system, architecture, variant = read_platform(config, descriptor.get("platform"))
        walk.images[digest] = Image(
            family="oci",
            names=tuple(names),
            digest=digest,
            config=config,
            layers=tuple(_layers(archive, manifest["layers"], config, config_blob.where)),
            history=read_history(config),
            os=system,
            architecture=architecture,
            variant=variant,
            raw_config=data,
        )


def _layers(archive: Archive, descriptors: list[Any], config: dict[str, Any], where: str) -> list[Layer]:
    diff_ids = (config.get("rootfs") or {}).get("diff_ids") or []
    if diff_ids and len(diff_ids) != len(descriptors):
        raise OciError(f"{len(descriptors)} layers, but {len(diff_ids)} diff_ids in the config", where)
    layers = []
    for position, descriptor in enumerate(descriptors):
        media_type, digest = text(descriptor.get("mediaType")), descriptor["digest"]
        if "encrypted" in media_type:
            raise OciError("the layer is encrypted", archive.place(digest))
        layers.append(
            Layer(
                archive.blob(digest),
                archive.place(digest),
                digest,
                int(descriptor["size"]),
                diff_ids[position] if diff_ids else "",
                media_type,
                tuple(map(str, descriptor.get("urls") or [])),
            )
        )
    return layers
