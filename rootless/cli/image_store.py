"""Fill, list and prune the store of unpacked images. cli/archive.py describes its files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
from typing import TYPE_CHECKING

import attrs

import oci.bundle
from oci.cache import identity
from oci.errors import OciError
from oci.image import Image, choose, read_images
from oci.image.blobs import MAX_SIZE, open_archive
from oci.names import is_stream
from oci.private import open_private
from oci.remove import remove_tree
from rootless import log
from rootless.cli.commands.convert import choose_owners
from rootless.cli.images import translated
from rootless.errors import RootlessError, advice
from rootless.kernel.hints import HINTS
from rootless.kernel.host import Host
from rootless.runtime import upper
from rootless.runtime.caches import cache_directory, is_whole
from rootless.runtime.users import users_of
from rootless.userns import job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci.owners import IdMap, Owners

_VERSION = 1
# errno: the hint where the bundle lies in the cache
_CACHES = {errno.ENOSPC: "cache-full", errno.EDQUOT: "cache-full", errno.EROFS: "cache-elsewhere"}


@attrs.define
class Kept:
    """Describe a bundle in the store. size: bytes on disk; used: seconds since the epoch; place: its directory."""

    key: str
    names: list[str]
    size: int
    used: float
    place: str


def unpack(source: str, tag: str, platform: str, index: str) -> tuple[str, str]:
    """Return (the key of an image in the store, the image's name); unpack it if it is not there. Raises RootlessError.

    index: the result of archive.index_of, from before the file was read.
    """
    host = Host()
    owners, uid_map, gid_map = choose_owners(host, "")
    how = [_VERSION, owners.mode, owners.uids, owners.gids, host.uid, uid_map, gid_map]
    store = open_store()
    with translated(), job.interruptible(lambda: open_archive(source, store, MAX_SIZE)) as opened:
        images = read_images(opened)
        image = choose(images, tag, platform, opened.source, lambda text: _refuse(text, source, platform))
        key = _key(image, how)
        with locked(store, key):
            if is_whole(f"{store}/{key}"):
                log.debug(f"the image is in the cache: {store}/{key}")
            else:
                damaged = _set_aside(store, key)
                _build(image, f"{store}/{key}", source, owners, (uid_map, gid_map), damaged)
        _note_index(store, index, key)
        return key, image.label


def _refuse(text: str, source: str, platform: str) -> None:
    """Refuse the image of another machine, unless its platform was named. Raises RootlessError."""
    if platform:
        log.warn(text)
        return
    hint = advice("other-architecture")
    raise RootlessError(text, source, hint=hint)


def _set_aside(store: str, key: str) -> str:
    """Move what is left of a damaged image out of the way, and say so. Return its new path, "" if there is none.

    `prune` removes such a directory, too. Raises RootlessError.
    """
    place = f"{store}/{key}"
    if not os.path.lexists(place):
        return ""
    log.warn(f"the image in the cache is damaged, so it is unpacked again: {place}")
    aside = f"{store}/.{key}.{os.urandom(4).hex()}"
    try:
        os.rename(place, aside)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot replace the damaged image", place, f"rm -r {place}") from None
    return aside


def _build(
    image: Image, target: str, source: str, owners: Owners, id_maps: tuple[IdMap, IdMap], damaged: str = ""
) -> None:
    """Unpack an image into the store. Raises SystemExit after an error that has been printed.

    damaged: what is left of an earlier one and is removed, "" for nothing.
    """
    host = Host()
    before = _stat(source)

    def finishing() -> None:
        if _stat(source) != before:
            raise OciError("the archive has changed while it was read", source, hint="run it again")
        job.finishing()

    request = oci.bundle.ConvertRequest(
        image, target, owners, *id_maps, source="" if is_stream(source) else source,
        devices=host.is_root_here and not host.in_userns, progress=os.isatty(2),
        temporary=oci.bundle.temporary_name(target), finishing=finishing,
    )  # fmt: skip
    in_namespace = owners.mode == "map" and not host.is_root_here

    def work() -> int:
        notes: list[str] = []
        request.note = notes.append
        if damaged:
            remove_tree(damaged)
        try:
            oci.bundle.build(request)
        except OciError as error:
            if error.errno in _CACHES:  # the hint is for convert, whose user can name another place
                error.hint = HINTS[_CACHES[error.errno]].text
            log.error(error.message())
            return 1
        for note in notes:
            log.warn(note)
        return 0

    code = job.run_interruptible(
        work, id_maps if in_namespace else ([], []), request.temporary, lambda: remove_tree(request.temporary)
    )
    if code:
        raise SystemExit(code)


def _key(image: Image, how: list[object]) -> str:
    config = hashlib.sha256(image.raw_config or json.dumps(image.config, sort_keys=True).encode()).hexdigest()
    with translated():
        document = [how, image.digest, config, [identity(layer) for layer in image.layers], list(image.names)]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:32]


def open_store() -> str:
    """Return the store's directory, made if it is missing. Raises RootlessError where it is not the user's alone."""
    path = cache_directory("images")
    try:
        os.close(open_private(path, make=True))
        os.close(open_private(f"{path}/index", make=True))
    except OSError as error:
        hint = HINTS["cache-elsewhere"].text
        if isinstance(error, PermissionError) and error.filename == path:
            raise RootlessError(f"the cache of images is not used: {error.strerror}", path, errno.EPERM, hint) from None
        raise RootlessError.from_os(error, "the cache of images cannot be used", path, hint) from None
    return path


def _stat(source: str) -> tuple[int, ...]:
    try:
        status = os.stat(source)
    except OSError:
        return ()
    if stat.S_ISFIFO(status.st_mode):  # each write changes its time
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _note_index(store: str, index: str, key: str) -> None:
    """Link the index of an archive to the key of its image."""
    if not index:
        return
    temporary = f"{store}/index/.{os.urandom(8).hex()}"
    with contextlib.suppress(OSError):
        os.symlink(key, temporary)
        os.rename(temporary, f"{store}/index/{index}")


@contextlib.contextmanager
def locked(store: str, key: str) -> Iterator[None]:
    """Hold the lock of one image, waited for if another command unpacks it."""
    path = f"{store}/.{key}.lock"
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            hint = HINTS[_CACHES.get(error.errno or 0, "cache-elsewhere")].text
            raise RootlessError.from_os(error, "the cache of images cannot be used", path, hint) from None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.notice("another command unpacks this image: waiting for it")
                fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:  # otherwise its last holder has removed the lock file meanwhile
                try:
                    yield
                finally:
                    with contextlib.suppress(OSError):
                        os.unlink(path)  # whoever waits for it makes a new one
                return
        finally:
            os.close(fd)


# ------------------------------------------------------------------------------------------- cache ls, cache prune


def kept() -> list[Kept]:
    """Return the images of the store, the most recently used first."""
    store = cache_directory("images")
    images = []
    for key in _keys(store):
        place = f"{store}/{key}"
        try:
            names = list(oci.bundle.read_image_record(place)["names"])
            images.append(Kept(key, names, _size(place), os.stat(place).st_mtime, place))
        except (OciError, OSError):
            continue
    return sorted(images, key=lambda image: image.used, reverse=True)


def _keys(store: str) -> list[str]:
    return [name for name in _names(store) if not name.startswith(".") and name != "index"]


def _names(store: str) -> list[str]:
    """Return all names in the store. Raises RootlessError if another user can have put them there, or a link leads on.

    What is half-written is removed, and root may have the cache directory of another user (`sudo -E`).
    """
    try:
        fd = open_private(store)
    except FileNotFoundError:
        return []
    except OSError as error:
        reason = f": {error.strerror}" if error.errno == errno.EPERM else ""
        what, hint = f"the cache of images is not used{reason}", HINTS["cache-elsewhere"].text
        raise RootlessError(what, store, error.errno or 0, hint) from None
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _size(place: str) -> int:
    """Return the bytes of a tree on disk, as far as this user can see them."""
    sizes = {}
    for path, _, files in os.walk(place):
        for name in files:
            with contextlib.suppress(OSError):
                status = os.lstat(f"{path}/{name}")
                sizes[status.st_dev, status.st_ino] = status.st_blocks * 512  # a hard link counts once
    return sum(sizes.values())


def busy(root: str) -> set[str]:
    """Return the images that containers use: the containers of a state root, and all that have a throw-away root."""
    lowers = {os.path.dirname(lower) for lower in upper.lowers()}
    store = cache_directory("images")
    return lowers | {place for place in (f"{store}/{key}" for key in _keys(store)) if users_of(place, root)}


def prune(limit: int, used: set[str]) -> list[Kept]:
    """Remove the least recently used images until at most `limit` bytes are left; return the removed ones.

    used: the result of `busy`, whose images stay, like one that is being unpacked. Call this with the store's id map.
    """
    store = cache_directory("images")
    removed, total = [], 0
    for image in kept():
        total += image.size
        if (total > limit or limit == 0) and image.place not in used:
            remove_tree(image.place)
            removed.append(image)
    with contextlib.suppress(FileNotFoundError):
        for name in _names(store):
            if name.startswith("."):
                _remove_left(store, name)
        for name in os.listdir(f"{store}/index"):
            link = f"{store}/index/{name}"
            if not os.path.lexists(f"{store}/{os.readlink(link)}"):
                os.unlink(link)
    return removed


def _remove_left(store: str, name: str) -> None:
    """Remove a half-written bundle or a lock file if no process holds the lock."""
    key = name[1:33]
    with contextlib.suppress(OSError):
        fd = os.open(f"{store}/.{key}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not name.endswith(".lock"):
                remove_tree(f"{store}/{name}")
            os.unlink(f"{store}/.{key}.lock")
        finally:
            os.close(fd)
