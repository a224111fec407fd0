"""`checkpoint`: save a running container to files, with criu."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless.cli.containers import load
from rootless.runtime import criu
from rootless.runtime.checkpoint import ImageRequest, checkpoint

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless checkpoint [--image-path DIR] ID`; flags and files are those of runc."""
    request = ImageRequest(**vars(options))
    path = criu.find(request.criu)
    with load(options, lock=True) as container:
        checkpoint(request, path, container)
    return 0
