"""`inspect`: print config, history and layers of an image in an archive, or of the image that a bundle comes from."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from oci.bundle import META, read_image_record
from oci.errors import printable
from oci.image import choose, read_images
from oci.image.blobs import open_archive
from rootless import log
from rootless.cli.images import read_size, translated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless inspect IMAGE|BUNDLE [--tag NAME:TAG] [--platform OS/ARCH] [--json]`."""
    with translated():
        document = _document(options)
    if options.json:
        print(json.dumps(document, indent=2))
        return 0
    for line in _table(document):
        print(printable(line))
    return 0


def _table(document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the form for people."""
    yield f"names     {', '.join(document['names']) or '-'}"
    yield f"digest    {document['digest'] or '-'}"
    yield f"layout    {document['family']}"
    yield f"platform  {document['platform']}"
    for key, value in sorted((document["config"].get("config") or {}).items()):
        if value:
            yield f"{key.lower():<9} {value if isinstance(value, str) else json.dumps(value)}"
    yield "layers"
    for layer in document["layers"]:
        size = f"{layer['size']} bytes" if layer["size"] >= 0 else "unknown size"
        yield f"  {layer['digest'] or layer['diffId'] or layer['name']}  {size}"
    yield "history"
    for entry in document["history"]:
        yield f"  {entry.get('created', '-')}  {printable(entry.get('created_by', ''))[:160]}"


def _document(options: Options) -> dict[str, Any]:
    if options.image != "-" and os.path.exists(f"{options.image}/{META}/image.json"):
        return read_image_record(options.image)
    with open_archive(options.image, "", read_size("")) as archive:
        image = choose(read_images(archive), options.tag, options.platform, archive.source, log.warn)
        layers = [
            {
                "name": layer.name,
                "digest": layer.digest,
                "size": layer.stored_size,
                "diffId": layer.diff_id,
                "mediaType": layer.media_type,
            }
            for layer in image.layers
        ]
        return {
            "names": list(image.names),
            "digest": image.digest,
            "family": image.family,
            "platform": image.platform,
            "config": image.config,
            "history": list(image.history),
            "layers": layers,
        }
