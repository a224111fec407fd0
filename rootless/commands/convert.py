"""`convert`: a bundle of an image archive. The rest of it is in the package `oci`."""

from __future__ import annotations

import signal
import sys

import oci.archive
import oci.convert
from oci.errors import OciError
from rootless import log, userns
from rootless.errors import RootlessError
from rootless.host import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import IO, Any

    from rootless.options import Options


def main(options: Options) -> int:
    """`rootless convert IMAGE.tar [-o BUNDLE] [--tag NAME:TAG]`; prints the bundle's path."""
    if options.platform:
        raise RootlessError("--platform is not supported yet", hint="only archives of one platform are read")
    try:
        archive = oci.archive.Archive(options.image)
        images = oci.archive.read_images(archive)
        if options.list:
            return _list(images, as_json=options.json)
        image = oci.archive.choose(images, options.tag, archive.source)
        target = options.output or _default_target(options.image, image)
        layers = oci.convert.image_layers(archive, image)
    except OciError as error:
        raise RootlessError(error.what, error.where, error.errno, error.hint) from None
    return build(options, target, layers, image.config)


def _default_target(source: str, image: oci.archive.Image) -> str:
    if source != "-":
        return f"./{oci.convert.bundle_name(source)}"
    if not image.names:
        raise RootlessError("a bundle for standard input needs a name", hint="--output BUNDLE")
    return "./" + image.names[0].rpartition("/")[2].replace(":", "-")


def _list(images: list[oci.archive.Image], *, as_json: bool) -> int:
    if as_json:
        import json

        print(json.dumps([{"names": i.names, "layers": len(i.layers)} for i in images], indent=2))
        return 0
    for image in images:
        print(f"{', '.join(image.names) or '-'}\t{len(image.layers)} layers")
    return 0


def build(
    options: Options, target: str, layers: list[Callable[[], tuple[IO[bytes], str]]], image: dict[str, Any]
) -> int:
    """Write the bundle in the user's id map; print its path."""
    host = Host()
    uid_map, gid_map = userns.default_maps(host)
    if options.owners not in ("", "map", "squash", "strict"):
        raise RootlessError(f"owners {options.owners!r} are not supported yet", hint="map, squash or strict")
    single = len(uid_map) == 1
    if single and options.owners == "strict":
        raise RootlessError(
            "strict owners need a range of ids", hint="an administrator adds one to /etc/subuid, /etc/subgid"
        )
    plan = oci.convert.Build(
        target,
        layers,
        image,
        uid_map if uid_map else [],
        gid_map if gid_map else [],
        keep_owners=not single and options.owners != "squash",
        strict=options.owners == "strict",
        force=options.force,
        tty=options.tty,
        args=list(getattr(options, "arg", None) or []),
    )
    if not uid_map:
        plan.uid_map, plan.gid_map = [], []
    code = userns.run(uid_map, gid_map, lambda: _build(plan, quiet=options.quiet, everything=not uid_map))
    if code == 0:
        print(target)
    return code


def _build(plan: oci.convert.Build, *, quiet: bool, everything: bool) -> int:
    """In the user namespace: build, say the notes; SIGINT and SIGTERM take everything back."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _interrupted)
    if everything:
        plan.keep_owners = True
        plan.uid_map = []
    try:
        oci.convert.build(plan)
    except OciError as error:
        log.error(error.message())
        return 1
    except _Interrupted as error:
        log.error("interrupted: nothing was left behind")
        return 128 + int(str(error))
    for note in plan.notes if not quiet else []:
        log.warn(note)
    sys.stdout.flush()
    return 0


class _Interrupted(BaseException):
    """A signal asked for an end."""


def _interrupted(signum: int, _frame: FrameType | None) -> None:
    raise _Interrupted(str(signum))
