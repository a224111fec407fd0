"""`import`: make a bundle from a tar of a root file system."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import oci.bundle
from oci.image.blobs import open_archive
from oci.image.rootfs import open_rootfs
from rootless.cli.commands.convert import build, check_target
from rootless.cli.images import translated
from rootless.errors import RootlessError

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless import ROOTFS.tar|- [-o BUNDLE] [--arg ARG ...] [--change INSTRUCTION ...]`; print the path."""
    if options.image == "-" and not options.output:
        raise RootlessError("a bundle from standard input needs a name", hint="--output BUNDLE")
    with translated():
        target = options.output or oci.bundle.bundle_name(options.image)
        is_itself = not options.output and os.path.abspath(target) == os.path.abspath(options.image)
        if is_itself and os.path.isfile(target):  # no suffix was removed: the error is that this is not an archive
            open_archive(target).close()
        check_target(options, target)
        with open_rootfs(options.image, options.change or []) as image:
            return build(options, image, target)
