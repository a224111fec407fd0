"""`inspect`: print config, history and layers of an image in an archive, or of the image that a bundle comes from."""

from __future__ import annotations

import calendar
import json
import os
import time
from typing import TYPE_CHECKING, Any

from oci.bundle import META, read_image_record
from oci.errors import printable
from oci.image import choose, read_images
from oci.image.blobs import open_archive
from rootless import log
from rootless.cli.containers import state_root
from rootless.cli.images import read_size, translated
from rootless.cli.output import say
from rootless.cli.table import age, columns
from rootless.errors import RootlessError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless inspect IMAGE|BUNDLE [--tag NAME:TAG] [--platform OS/ARCH] [--json]`."""
    with translated():
        document = _document(options)
    if options.json:
        say(json.dumps(document, indent=2))
        return 0
    for line in _table(document):
        say(printable(line))
    return 0


def _table(document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the form for people, which fit the terminal."""
    width = columns()
    config = sorted((key.lower(), value) for key, value in (document["config"].get("config") or {}).items() if value)
    room = max([8, *(len(key) for key, _ in config)])
    rows = [
        ("names", ", ".join(document["names"]) or "-"),
        ("digest", document["digest"] or "-"),
        ("layout", document["family"]),
        ("platform", document["platform"]),
    ]
    created = document["config"].get("created")
    if isinstance(created, str) and (made := _age(created)):
        rows.append(("created", f"{created} ({made})"))
    rows += [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in config]
    for key, value in rows:
        yield f"{key:<{room}}  {_fitted(value, width, room + 2)}"
    yield "layers"
    for layer in document["layers"]:
        amount = f"{layer['size']} bytes" if layer["size"] >= 0 else "unknown size"
        name = layer["digest"] or layer["diffId"] or layer["name"]
        yield f"  {_fitted(name, width, len(amount) + 4)}  {amount}"
    yield "history"
    for entry in document["history"]:
        text = f"{entry.get('created', '-')}  {printable(entry.get('created_by', ''))[:160]}"
        yield f"  {_fitted(text, width, 2)}"


def _fitted(text: str, width: int, indent: int) -> str:
    """Cut a text to the terminal's width, less the indent. Return it whole if the width is 0: no terminal."""
    return text if not width or len(text) <= width - indent else text[: max(8, width - indent - 3)] + "..."


def _age(created: str) -> str:
    try:
        return age(calendar.timegm(time.strptime(created[:19], "%Y-%m-%dT%H:%M:%S")))
    except (ValueError, OverflowError):
        return ""


def _document(options: Options) -> dict[str, Any]:
    if options.image != "-" and os.path.exists(f"{options.image}/{META}/image.json"):
        return read_image_record(options.image)
    if not os.path.exists(options.image) and os.path.exists(f"{state_root(options)}/{options.image}/state.json"):
        what = "inspect looks at images, and this is a container"
        raise RootlessError(what, printable(options.image), hint=f"rootless state {printable(options.image)}")
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
