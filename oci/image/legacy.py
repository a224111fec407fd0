"""Read the layout of `docker save` before 1.10: <id>/{json,layer.tar,VERSION}, `repositories`, and no manifest.json.

The `parent` in each json chains the layers (docker's image specification v1). Without `repositories` an image is a
layer that is not the parent of another.
"""

from __future__ import annotations

import re
from typing import Any

from oci import tarsum
from oci.errors import OciError, printable
from oci.image.blobs import Archive
from oci.image.model import Image, Layer, read_platform, shape, text

MAX_LAYERS = 10_000

Chain = dict[str, dict[str, Any]]  # layer id -> its json


def read(archive: Archive) -> list[Image]:
    """Return all images of the archive. Raises OciError, also for cyclic or missing parents and missing layers."""
    documents: Chain = {}
    for name in archive.names:
        match = re.fullmatch(r"([^/]+)/json", name)
        if match:
            document = archive.json(name, "a layer's json")
            if not isinstance(document, dict):
                raise OciError("a layer's json is not an object", archive.place(name))
            documents[match[1]] = document
    with shape("a layer's json", archive.source):
        tops = _tops(archive, documents) if archive.find("repositories") is not None else _leaves(archive, documents)
        return [_image(archive, documents, top, names) for top, names in tops.items()]


def _tops(archive: Archive, documents: Chain) -> dict[str, list[str]]:
    repositories = archive.json("repositories", "repositories")
    tops: dict[str, list[str]] = {}
    with shape("repositories", archive.place("repositories")):
        for name, tags in repositories.items():
            for tag, layer_id in tags.items():
                if layer_id not in documents:
                    raise OciError(
                        f"{printable(name)}:{printable(tag)} is the layer {printable(layer_id)}, which is missing",
                        archive.place("repositories"),
                    )
                tops.setdefault(layer_id, []).append(f"{printable(name)}:{printable(tag)}")
    return tops or _leaves(archive, documents)


def _leaves(archive: Archive, documents: Chain) -> dict[str, list[str]]:
    parents = {document.get("parent") for document in documents.values()}
    leaves: dict[str, list[str]] = {layer_id: [] for layer_id in sorted(documents) if layer_id not in parents}
    if documents and not leaves:
        raise OciError("the parents of the layers form a circle", archive.source)
    return leaves


def _image(archive: Archive, documents: Chain, top: str, names: list[str]) -> Image:
    chain: list[str] = []
    seen: set[str] = set()
    layer_id = top
    while layer_id:
        if layer_id in seen or len(chain) > MAX_LAYERS:
            raise OciError("the parents of the layers form a circle", archive.place(layer_id))
        if layer_id not in documents:
            raise OciError("a parent layer is missing in the archive", archive.place(layer_id))
        seen.add(layer_id)
        chain.append(layer_id)
        layer_id = documents[layer_id].get("parent") or ""
    chain.reverse()
    config = documents[top]
    system, architecture, variant = read_platform(config)
    return Image(
        family="legacy",
        names=tuple(names),
        digest=top,
        config=config,
        layers=tuple(_layer(archive, layer_id, documents[layer_id]) for layer_id in chain),
        history=tuple(_history(documents[layer_id]) for layer_id in chain),
        os=system,
        architecture=architecture,
        variant=variant,
    )


def _layer(archive: Archive, layer_id: str, document: dict[str, Any]) -> Layer:
    name = f"{layer_id}/layer.tar"
    checksum = text(document.get("checksum"))
    digest = checksum if re.fullmatch(r"sha256:[0-9a-f]{64}", checksum) else ""
    # The oldest form, `tarsum+sha256`, covers a json that the archive does not hold, so it cannot be checked.
    members = checksum if tarsum.FORM.fullmatch(checksum) else ""
    return Layer(archive.find(name), archive.place(name), digest, tarsum=members)


def _history(document: dict[str, Any]) -> dict[str, Any]:
    command = (document.get("container_config") or {}).get("Cmd") or []
    command = [command] if isinstance(command, str) else command
    return {"created": text(document.get("created")), "created_by": " ".join(map(str, command))}
