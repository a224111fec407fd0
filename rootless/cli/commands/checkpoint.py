"""`checkpoint`: a running container as files, by criu."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless.cli.containers import load
from rootless.runtime import criu
from rootless.runtime.checkpoint import ImageRequest, checkpoint

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless checkpoint [--image-path DIR] ID`, with runc's flags and files."""
    request = ImageRequest(**vars(options))
    path = criu.find(request.criu)
    with load(options, lock=True) as container:
        checkpoint(request, path, container)
    return 0
