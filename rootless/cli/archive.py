"""Find the image of `run IMAGE` in the store of unpacked images, or unpack it there (cli/image_store.py).

$XDG_CACHE_HOME/rootless/images/KEY        the bundle; KEY depends on the image's digests and how owners are stored
$XDG_CACHE_HOME/rootless/images/.KEY.lock  locked while it is unpacked, so that parallel first runs unpack it once
$XDG_CACHE_HOME/rootless/images/index/ID   a link to KEY, for an archive that has not changed since (index_of)

A bundle appears by rename(2), and containers never change it. After a kill a name with a dot remains, which `cache
prune` removes. Later runs of an image use only this module, so it imports nothing that reads images.
"""

from __future__ import annotations

import os
import time
from _blake2 import blake2b
from typing import Any

from oci.names import is_stream
from rootless import log
from rootless.cli.streams import protect_stream
from rootless.errors import RootlessError
from rootless.kernel.host import Host
from rootless.runtime.caches import cache_directory, is_whole
from rootless.startup import jsonlite

_VERSION = 1
_TICK = 0.1  # seconds: two writes within a tick of the kernel's clock give a file the same time stamp
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


class Unpacked:
    """Hold an unpacked image: bundle is its directory, name the default ID of its containers."""

    __slots__ = ("bundle", "name")

    def __init__(self, bundle: str, name: str) -> None:
        self.bundle = bundle
        self.name = name


def is_image(operand: str) -> bool:
    """Return whether the operand of `run` is an image: a stream, an OCI layout or an unpacked archive, or a file.

    A named pipe (fifo(7)) is not one, because nobody may ever write to it: `run - <PIPE` waits for a writer.
    """
    if operand == "-" or (operand.startswith(("/dev/", "/proc/")) and is_stream(operand)):
        return True
    if os.path.isdir(operand):
        marks = ("oci-layout", "index.json", "manifest.json", "repositories")
        return any(os.path.exists(f"{operand}/{mark}") for mark in marks)
    return os.path.isfile(operand)


def unpack(source: str, tag: str = "", platform: str = "") -> Unpacked:
    """Return the bundle of an image; unpack it if it is not in the store yet. Raises RootlessError.

    source: an archive, a directory with a layout, or `-` for standard input.
    """
    store, index = cache_directory("images"), index_of(source, tag, platform)
    key = _indexed(store, index)
    label = ""
    if key:
        log.debug(f"the image is in the cache: {store}/{key}")
        try:
            os.utime(f"{store}/{key}")
        except OSError:
            pass  # only the time of the last use is lost
    else:
        from rootless.cli import image_store

        protect_stream(source)
        key, label = image_store.unpack(source, tag, platform, index)
    return Unpacked(f"{store}/{key}", _name(source, label))


def _name(source: str, label: str) -> str:
    from oci.names import bundle_name

    name = label.rpartition("/")[2] if is_stream(source) else bundle_name(source)
    name = "".join(c if c in _ID_CHARACTERS else "-" for c in name).lstrip(".")[:200]
    return name or "image"


def index_of(source: str, tag: str, platform: str) -> str:
    """Return the index of an archive, which changes when the file does; "" if the archive must be read each time."""
    if is_stream(source):
        return ""
    path = os.path.realpath(source)
    try:
        status = os.stat(f"{path}/index.json" if os.path.isdir(path) else path)
    except OSError:
        return ""
    if time.time() - max(status.st_mtime, status.st_ctime) < _TICK:
        return ""
    host = Host()
    ids = [host.uid, host.gid, host.is_root_here, host.uid_map, host.gid_map, host.subuid, host.subgid]
    known = [_VERSION, path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return blake2b(jsonlite.dumps([*known, ids, tag, platform]).encode(), digest_size=16).hexdigest()


def _indexed(store: str, index: str) -> str:
    if not index:
        return ""
    try:
        key = os.readlink(f"{store}/index/{index}")
    except OSError:
        return ""
    return key if "/" not in key and is_whole(f"{store}/{key}") else ""


def _record(bundle: str) -> dict[str, Any]:
    """Return the record of a bundle's image. Raises RootlessError."""
    path = f"{bundle}/.oci/image.json"
    try:
        with open(path, "rb") as file:
            record = jsonlite.loads(file.read())
    except (OSError, ValueError) as error:
        raise RootlessError(f"the cached image is damaged: {error}", path, hint="rootless cache prune") from None
    return record if isinstance(record, dict) else {}


def entry_point(bundle: str) -> list[str]:
    """Return the image's Entrypoint, [] for none. The words of `run IMAGE WORD...` follow it, like with docker."""
    config = _record(bundle).get("config")
    wanted = config.get("config") if isinstance(config, dict) else None
    entry = wanted.get("Entrypoint") if isinstance(wanted, dict) else None
    if isinstance(entry, str):
        entry = [entry]
    return [str(word) for word in entry or []] if entry != [""] else []


def image_name(bundle: str, source: str) -> str:
    """Return the image's name for `list`."""
    names = _record(bundle).get("names")
    return str(names[0]) if names else "-" if is_stream(source) else os.path.basename(os.path.abspath(source))
