"""`restore`: make a container from the files that `checkpoint` wrote, with criu."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless.cli.requests import read_restore_request
from rootless.runtime.checkpoint import ImageRequest
from rootless.runtime.restore import restore

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless restore [--image-path DIR] [-b BUNDLE] [--detach] ID`; the flags are those of runc."""
    return restore(read_restore_request(options), ImageRequest(**vars(options)))
