"""Read the layout of `docker save` from 1.10 on: manifest.json names a config file and the layers in their order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import attrs

from oci.errors import OciError, printable
from oci.image import layout
from oci.image.blobs import MAX_JSON, Archive, read_json
from oci.image.model import Image, Layer, read_history, read_platform, shape
from oci.stream import verified


def read(archive: Archive) -> list[Image]:
    """Return all images that manifest.json names. Raises OciError."""
    manifest = archive.json("manifest.json", "manifest.json")
    if manifest is None:
        return []
    if isinstance(manifest, dict) and {"config", "layers"} <= set(manifest):
        return layout.read_beside(archive, manifest)
    if not isinstance(manifest, list):
        raise OciError("manifest.json is not a list", archive.place("manifest.json"))
    with shape("manifest.json", archive.source):
        return _united(_image(archive, entry) for entry in manifest)


def _united(images: Iterable[Image]) -> list[Image]:
    """Unite entries of the same image, which docker lists once for each of its names."""
    images_by_key: dict[Any, Image] = {}
    for image in images:
        key = image.digest, tuple((layer.diff_id or layer.blob) for layer in image.layers)
        known = images_by_key.setdefault(key, image)
        images_by_key[key] = attrs.evolve(known, names=tuple(dict.fromkeys([*known.names, *image.names])))
    return list(images_by_key.values())


def _image(archive: Archive, entry: dict[str, Any]) -> Image:
    name = entry["Config"]
    blob = archive.find(name)
    if blob is None:
        raise OciError("the image's config is missing in the archive", archive.place(name))
    data = blob.read(MAX_JSON, "the image's config")
    if said := _digest_in(name):
        b"".join(verified(iter([data]), said, -1, "the image's config", blob.where))
    config = read_json(data, "the image's config", blob.where)
    with shape("the image's config", blob.where):
        rootfs = config.get("rootfs") or {}
        diff_ids = list(rootfs.get("diff_ids") or [])
        names = list(entry.get("Layers") or [])
        if diff_ids and len(diff_ids) != len(names):
            raise OciError(f"{len(names)} layers, but {len(diff_ids)} diff_ids in the config", blob.where)
        layers = [
            _layer(archive, layer, diff_ids[position] if diff_ids else "") for position, layer in enumerate(names)
        ]
        system, architecture, variant = read_platform(config)
        return Image(
            family="docker",
            names=tuple(map(printable, entry.get("RepoTags") or [])),
            digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
            config=config,
            layers=tuple(layers),
            history=read_history(config),
            os=system,
            architecture=architecture,
            variant=variant,
            raw_config=data,
        )


def _layer(archive: Archive, name: str, diff_id: str) -> Layer:
    return Layer(archive.find(name), archive.place(name), _digest_in(name), -1, diff_id)


def _digest_in(name: str) -> str:
    """Return the digest in a name blobs/sha256/<hex> or sha256:<hex>, else "".

    The hex digits of a name <hex>.json do not count: docker never checks them, so archives that were edited by hand
    have wrong ones.
    """
    match = re.fullmatch(r"(?:blobs/sha256/|sha256:)([0-9a-f]{64})", name)
    return f"sha256:{match[1]}" if match else ""
