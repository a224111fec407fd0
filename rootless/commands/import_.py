"""`import`: a bundle of a plain root file system tar."""

from __future__ import annotations

import oci.archive
import oci.convert
from oci.errors import OciError
from rootless.commands.convert import build
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from rootless.options import Options


def main(options: Options) -> int:
    """`rootless import ROOTFS.tar [-o BUNDLE] [--arg ARG ...]`; prints the bundle's path."""
    if options.change:
        raise RootlessError("--change is not supported yet", hint="use --arg for the program")
    try:
        archive = oci.archive.Archive(options.image)
    except OciError as error:
        raise RootlessError(error.what, error.where, error.errno, error.hint) from None
    if archive.find("manifest.json") or archive.find("repositories"):
        raise RootlessError("this is an image archive", options.image, hint="rootless convert takes it")
    target = options.output or f"./{oci.convert.bundle_name(options.image)}"
    if options.image == "-" and not options.output:
        raise RootlessError("a bundle for standard input needs a name", hint="--output BUNDLE")

    def layer() -> tuple[IO[bytes], str]:
        return archive.file, archive.source

    return build(options, target, [layer], {})
