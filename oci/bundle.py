"""Make a bundle of an image: config.json, rootfs/, and .oci/ with what `pack` needs. It is complete or not there.

The bundle is built beside its target under a temporary name and renamed at the end. Nothing here makes namespaces: a
caller that wants mapped owners calls `build` as root of a user namespace that has the maps.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

import attrs

from oci import config as runtime
from oci import record
from oci.clone import clone_tree
from oci.errors import OciError, printable
from oci.hints import HINTS
from oci.image.blobs import MAX_JSON, MAX_SIZE, read_json
from oci.image.detect import is_image_archive, is_junk, packed_below
from oci.image.model import Image
from oci.layer import MAX_FILES, Tree
from oci.mounts import refuse_mounts
from oci.names import bundle_name as bundle_name
from oci.owners import IdMap, Owners
from oci.passwd import User, find_user
from oci.progress import ProgressLine
from oci.reader import Reader, SharedSource
from oci.regular import open_regular
from oci.remove import remove_tree
from oci.root import READ_DIRECTORY, Root
from oci.shared import make_readable
from oci.stream import Budget
from oci.writer import Writer

if TYPE_CHECKING:
    from oci.cache import Cache

META = ".oci"  # directory of a bundle that holds image.json and base.mtree
_OF_THE_KERNEL = ("/proc", "/sys", "/dev")
_CONFIG_LIMIT = 16 << 20  # bytes of config.json that the runtime reads
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)  # of rename(2)
_NESTED = 8  # how many directories deep to look for an image archive that was packed again


@attrs.define
class ConvertRequest:
    """Hold the arguments of a conversion.

    image: what to convert; source: the path that it came from, "" for a pipe; target: the bundle; owners: how ids are
    written; uid_map, gid_map: the maps of config.json's user namespace, [] for no user namespace (real root); volumes:
    "" keeps the image's Volumes as an annotation, "tmpfs" and "bind" mount something there; devices: whether to make
    real device nodes; shared: for other users, with readable files and without the maker's ids; cache: where unpacked
    layers are kept between conversions; temporary: a name from `temporary_name`; finishing: called when the bundle is
    complete, just before it is renamed; note: called with one line for each thing that the user should know.
    """

    image: Image
    target: str
    owners: Owners
    uid_map: IdMap
    gid_map: IdMap
    source: str = ""
    args: list[str] = attrs.field(factory=list)
    terminal: bool = False
    force: bool = False
    devices: bool = False
    volumes: str = ""
    max_size: int = MAX_SIZE
    max_files: int = MAX_FILES
    progress: bool = False
    shared: bool = False
    temporary: str = ""
    cache: Cache | None = None
    finishing: Callable[[], None] = lambda: None
    note: Callable[[str], None] = lambda text: None


def build(request: ConvertRequest) -> None:
    """Build the bundle. Raises OciError; after a failure or an interrupt nothing that was written is left."""
    check_target(request.target, force=request.force)
    target = os.path.abspath(request.target)
    if os.path.lexists(target) and request.source:
        source = os.path.realpath(request.source)
        if f"{source}/".startswith(f"{os.path.realpath(target)}/"):
            what = "the image is in the bundle that it would replace, and would be removed with it"
            raise OciError(what, request.source, hint="--output names another bundle")
    temporary = request.temporary or temporary_name(target)
    umask = os.umask(0)
    try:
        with _as_oci_error("cannot write the bundle", request.target):
            _make_directory(temporary)
            _build_in(request, temporary)
            request.finishing()
            _move_into_place(temporary, target, force=request.force)
    except BaseException:
        with contextlib.suppress(OSError, OciError):  # the first failure is the one to show
            remove_tree(temporary)
        raise
    finally:
        os.umask(umask)


@contextlib.contextmanager
def _as_oci_error(what: str, target: str) -> Iterator[None]:
    """Turn an OSError into an OciError that says `what` and names a file: the error's own, or the target."""
    try:
        yield
    except OSError as error:
        where = target if error.filename is None else ""
        raise OciError.from_os(error, what, where) from None


def temporary_name(target: str) -> str:
    """Return a new path beside the target, where a bundle is built until it is complete."""
    parent, name = os.path.split(os.path.abspath(target))
    return f"{parent}/.{name[:200]}.{os.urandom(4).hex()}"


def check_target(target: str, *, force: bool) -> None:
    """Refuse a target that exists; with `force`, only one that is not a bundle. Raises OciError."""
    if not os.path.lexists(target):
        return
    if os.path.isfile(target):
        raise OciError("there is a file where the bundle would be", target, hint="--output BUNDLE names another place")
    if not force:
        raise OciError("the bundle exists already", target, hint="--force replaces it, --output names another")
    if os.path.islink(target) or not os.path.isdir(target):
        raise OciError("the target is not a directory", target)
    try:
        entries = os.listdir(target)
    except PermissionError as error:
        hint = "--output names another place"
        raise OciError.from_os(error, "the bundle that is there cannot be replaced", target, hint) from None
    if entries and "config.json" not in entries:
        raise OciError("the target is not a bundle: it has no config.json", target, hint="only bundles are replaced")
    refuse_mounts(target, elsewhere=True)


def _make_directory(path: str) -> None:
    """Make a directory with mode 0700, without the group or ACL that it would inherit (mkdir(2), acl(5))."""
    try:
        os.mkdir(path, 0o700)
        os.chown(path, -1, os.getegid())
        os.chmod(path, 0o700)
    except FileNotFoundError as error:
        parent = os.path.dirname(path)
        what = f"{parent} does not exist"
        if os.path.isdir(parent):  # such as /proc
            what = "no directory can be made there"
        raise OciError.from_os(error, f"cannot make the bundle: {what}", parent) from None
    except OSError as error:
        raise OciError.from_os(error, "cannot make the bundle", os.path.dirname(path)) from None
    with contextlib.suppress(OSError):
        os.removexattr(path, "system.posix_acl_default")


def _move_into_place(temporary: str, target: str, *, force: bool) -> None:
    """Give the bundle its name. With `force` it replaces a bundle, also one that another command has just put there."""
    old = f"{temporary}.old"
    while True:
        if force and os.path.lexists(target):
            refuse_mounts(target)  # before the rename, because somebody may unmount by this name
            with contextlib.suppress(FileNotFoundError):  # another command has moved it away
                os.rename(target, old)
        try:
            os.rename(temporary, target)
            break
        except BaseException as error:
            # rename(2) replaces no directory with entries, so that of several commands only one gets the name.
            if not _is_taken(error, target):
                if os.path.lexists(old):
                    os.rename(old, target)
                raise
        remove_tree(old)
        check_target(target, force=force)
    remove_tree(old)


def _is_taken(error: BaseException, target: str) -> bool:
    """Return whether rename(2) failed because something has the name, in a directory like /tmp another user's."""
    if not isinstance(error, OSError):
        return False
    return error.errno in _TAKEN or (error.errno == errno.EPERM and os.path.lexists(target))


def _build_in(request: ConvertRequest, bundle: str) -> None:
    rootfs, aside = f"{bundle}/rootfs", f"{bundle}/{META}/aside"
    os.mkdir(rootfs, 0o755)
    os.mkdir(f"{bundle}/{META}", 0o700)
    os.mkdir(aside, 0o700)
    with _directory(rootfs) as root_fd, _directory(aside) as aside_fd, _record(f"{bundle}/{META}/base.mtree") as out:
        tree = Tree(
            root_fd, aside_fd, request.owners, record.Recorder(out), max_files=request.max_files,
            devices=request.devices,
        )  # fmt: skip
        try:
            kept = _restore(request, tree, root_fd, out)
            _unpack(request, tree, kept)
            if request.image.family == "rootfs":
                _check_rootfs(request, tree, root_fd)
            config = _config(request, tree.root, bundle)
            tree.finish()
            out.flush()
            if request.cache and kept < len(request.image.layers):
                request.cache.store(request.image, request.owners, tree.report, root_fd, f"{bundle}/{META}/base.mtree")
        finally:
            tree.root.close()
        _note(request, tree)
        if request.shared:
            _share(request, root_fd, bundle)
    os.rmdir(aside)
    _write_json(f"{bundle}/config.json", config, 0o644)
    _write_json(f"{bundle}/{META}/image.json", _image_record(request), 0o644 if request.shared else 0o600)


def _share(request: ConvertRequest, root_fd: int, bundle: str) -> None:
    """Let everybody read the bundle, and note the files that were not readable before."""
    opened = make_readable(root_fd)
    for path, mode in ((bundle, 0o755), (f"{bundle}/{META}", 0o755), (f"{bundle}/{META}/base.mtree", 0o644)):
        os.chmod(path, mode)
    if opened:
        shown = ", ".join(map(printable, opened[:10])) + (f" and {len(opened) - 10} more" if len(opened) > 10 else "")
        request.note(f"everybody can read now: {shown}")


def _restore(request: ConvertRequest, tree: Tree, root_fd: int, out: IO[bytes]) -> int:
    """Take as many lower layers as the cache has; return how many."""
    if request.cache is None:
        return 0
    kept = request.cache.restore(request.image, request.owners, tree.report, root_fd, out)
    if 0 < kept < len(request.image.layers):
        out.flush()
        with open(out.name, "rb") as file:
            tree.adopt(record.read(file), kept)
    return kept


def _unpack(request: ConvertRequest, tree: Tree, kept: int) -> None:
    image = request.image
    budget = Budget(request.max_size)
    progress = ProgressLine(image.size, len(image.layers)) if request.progress else None
    try:
        tars = [functools.partial(layer.tar, budget) for layer in image.layers[kept:]]
        names = [layer.name for layer in image.layers[kept:]]
        with Writer() as writer, Reader(tars, writer, progress.advance if progress else None, names) as reader:
            for number, layer in enumerate(image.layers):
                if progress:
                    progress.next_layer()
                if number >= kept:
                    source = SharedSource(reader, writer)
                    tree.apply(source, layer.name)
                    source.drain()
    finally:
        if progress:
            progress.finish()


def _check_rootfs(request: ConvertRequest, tree: Tree, root_fd: int) -> None:
    where = request.image.layers[0].name
    if not tree.report.members:
        raise OciError("the archive is empty", where)
    if is_image_archive(os.listdir(root_fd)):
        raise OciError("this is an image archive, not a root file system", where, hint="`convert` takes it")
    if inside := _image_inside(tree.root):
        raise packed_below(os.fsdecode(inside), where)


def _image_inside(root: Root) -> bytes:
    """Return the one directory of a tree that holds an image archive, b"" for none.

    A root file system may have a manifest.json of its own, so one counts only if it lists images.
    """
    path = b""
    for _ in range(_NESTED):
        with contextlib.suppress(OSError):  # not a directory, or one whose mode denies its owner everything
            directory = root.directory(path)
            fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory.fd)
            try:
                names = [name for name in os.listdir(fd) if not is_junk(name)]
            finally:
                os.close(fd)
            if path and is_image_archive(names) and ("manifest.json" not in names or _lists_images(root, path)):
                return path
            if len(names) == 1:
                path = path + b"/" + os.fsencode(names[0]) if path else os.fsencode(names[0])
                continue
        break
    return b""


def _lists_images(root: Root, directory: bytes) -> bool:
    fd = root.open_file(directory + b"/manifest.json")
    if fd is None:
        return False
    with open(fd, "rb") as file, contextlib.suppress(OciError):
        listed = read_json(file.read(MAX_JSON), "manifest.json", directory)
        return isinstance(listed, list) and any(isinstance(entry, dict) and "Config" in entry for entry in listed)
    return False


def _config(request: ConvertRequest, root: Root, bundle: str) -> dict[str, Any]:
    """Return config.json, with the id maps that the owners were written with."""
    image = request.image
    try:
        config = runtime.convert_config(image.config, terminal=request.terminal, args=request.args, note=request.note)
        volumes = runtime.volume_paths(image.config) if request.volumes else []
        wanted = (image.config.get("config") or {}).get("User") or ""
        if isinstance(wanted, bool) or not isinstance(wanted, str | int):
            raise ValueError("config.User is not a string")
    except (TypeError, AttributeError, ValueError) as error:
        raise OciError(f"the image's config is malformed ({error})", image.label) from None
    user = find_user(root, str(wanted))
    config["process"]["user"] = {"uid": user.uid, "gid": user.gid}
    if user.home and not any(entry.startswith("HOME=") for entry in config["process"]["env"]):
        config["process"]["env"].append(f"HOME={user.home}")
    _set_maps(request, config, user)
    config["mounts"] += _volumes(request, root, volumes, bundle)
    return config


def _set_maps(request: ConvertRequest, config: dict[str, Any], user: User) -> None:
    process, linux = config["process"], config["linux"]
    if request.shared:  # whoever runs it has ids of its own
        del linux["uidMappings"], linux["gidMappings"]
        return
    single = len(request.uid_map) == 1 and request.uid_map[0][2] == 1
    if single:
        # There is one id only. Every file is the caller's, so the caller is mapped to the image's user, who needs them.
        linux["uidMappings"] = [{"containerID": user.uid, "hostID": request.uid_map[0][1], "size": 1}]
        linux["gidMappings"] = [{"containerID": user.gid, "hostID": request.gid_map[0][1], "size": 1}]
        if user.uid or user.gid:
            request.note(
                f"the image's user {user.uid}:{user.gid} is mapped to you instead of 0, because there is one id only"
            )
        return
    groups = _mapped_groups(request, user)
    if groups:
        process["user"]["additionalGids"] = groups
    for key, id_map in (("uidMappings", request.uid_map), ("gidMappings", request.gid_map)):
        linux[key] = [{"containerID": a, "hostID": b, "size": c} for a, b, c in id_map]
    if not request.uid_map:
        del linux["uidMappings"], linux["gidMappings"]
        linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != "user"]
        if request.devices:  # the container keeps CAP_MKNOD, so the cgroup's device rules must deny what nodes lead to
            linux["resources"] = {"devices": list(runtime.DENY_DEVICES)}


def _mapped_groups(request: ConvertRequest, user: User) -> list[int]:
    """Return the user's supplementary groups that are mapped. Raises OciError if the user is not: nothing could run."""
    uid_map, gid_map = request.uid_map or request.owners.uids, request.gid_map or request.owners.gids
    if not (_is_mapped(uid_map, user.uid) and _is_mapped(gid_map, user.gid)):
        what = f"the image's user {user.uid}:{user.gid} is beyond your range of ids"
        raise OciError(what, request.image.label, hint="--owners xattr maps it to you alone")
    beyond = [gid for gid in user.groups if not _is_mapped(gid_map, gid)]
    if beyond:
        shown = ", ".join(map(str, beyond[:5])) + (", ..." if len(beyond) > 5 else "")
        request.note(f"groups of the image's user that are beyond your range of ids were left out: {shown}")
    return [gid for gid in user.groups if gid not in beyond]


def _is_mapped(id_map: IdMap, number: int) -> bool:
    return not id_map or any(first <= number < first + size for first, _, size in id_map)


def _volumes(request: ConvertRequest, root: Root, paths: list[str], bundle: str) -> list[dict[str, Any]]:
    """Return mounts for the image's Volumes, except those that would hide what the runtime mounts itself.

    Otherwise an image could put its own files at /proc, where programs and the runtime expect the kernel's.
    """
    places = {path: os.fsdecode(b"/" + root.resolve(os.fsencode(path))) for path in paths}
    kept = [path for path in paths if places[path] != "/" and not _is_below(places[path], _OF_THE_KERNEL)]
    if left_out := [path for path in paths if path not in kept]:
        shown = ", ".join(p if p == places[p] else f"{p} (which is {places[p]})" for p in left_out)
        request.note(f"volumes left out, because they would hide /, /proc, /sys or /dev: {printable(shown)}")
    return [_volume(request, root, path, bundle, number) for number, path in enumerate(kept)]


def _is_below(path: str, directories: tuple[str, ...]) -> bool:
    """Return whether a path is one of these directories or lies in one."""
    return f"{path}/".startswith(tuple(f"{directory}/" for directory in directories))


def _volume(request: ConvertRequest, root: Root, path: str, bundle: str, number: int) -> dict[str, Any]:
    """Return a mount for one of the image's Volumes: a tmpfs with the image's files, or a directory of the bundle."""
    if request.volumes == "tmpfs":
        options = ["nosuid", "nodev", "tmpcopyup", "mode=755"]
        return {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options}
    directory = f"{bundle}/volumes/{number}"
    os.makedirs(directory, 0o755)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), _directory(directory) as copy:
        directory_of_image = root.directory(os.fsencode(path.strip("/")))
        original = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory_of_image.fd)
        try:
            clone_tree(original, copy)
        finally:
            os.close(original)
    options = ["rbind", "nosuid", "nodev", "rw"]
    # The source is relative to the bundle (runtime-spec config.md, "Mounts"), because the bundle may be moved.
    return {"destination": path, "type": "bind", "source": f"volumes/{number}", "options": options}


def _note(request: ConvertRequest, tree: Tree) -> None:
    report, owners = tree.report, request.owners
    if report.devices:
        names = ", ".join(report.first_devices) + (", ..." if report.devices > len(report.first_devices) else "")
        request.note(f"{report.devices} device nodes became empty files ({names})")
    if owners.clamped and owners.mode == "map":
        what = f"{owners.clamped} files have owners beyond your range of ids and were given to another id"
        way_out = owners.way_out()
        request.note(f"{what} (up to {owners.highest})" + (f": {way_out} keeps them" if way_out else ""))
    if owners.others:
        few = sorted(owners.others)[:5]
        shown = ", ".join(map(str, few)) + (", ..." if len(owners.others) > len(few) else "")
        request.note(
            f"the image has files of other ids ({shown}), and you have one id: all files are yours, and chown to those "
            "ids, or becoming one of them, takes root emulation, which `run` turns on; hint: rootless doctor"
        )
    if report.absolute:
        request.note(f"{report.absolute} absolute member names were taken as below the root")
    if report.lost_xattrs:
        lost = ", ".join(f"{name} ({count})" for name, count in sorted(report.lost_xattrs.items()))
        what = f"extended attributes that cannot be set here are in the bundle's record only: {lost}"
        request.note(f"{what}; hint: {HINTS['no-attributes'].text}")


def _image_record(request: ConvertRequest) -> dict[str, Any]:
    """Return image.json: what `pack` and `inspect` need to know of the image."""
    image = request.image
    layers = [
        {"name": layer.name, "digest": layer.digest, "size": layer.stored_size, "diffId": layer.diff_id,
         "mediaType": layer.media_type}
        for layer in image.layers
    ]  # fmt: skip
    return {
        "version": 1, "source": os.path.abspath(request.source) if request.source else "", "family": image.family,
        "names": list(image.names), "digest": image.digest, "platform": image.platform, "config": image.config,
        "history": list(image.history), "layers": layers, "owners": request.owners.mode,
        "uidMap": request.uid_map, "gidMap": request.gid_map,
    }  # fmt: skip


def _record(path: str) -> IO[bytes]:
    return open(path, "xb", buffering=1 << 16, opener=lambda name, flags: os.open(name, flags, 0o600))


@contextlib.contextmanager
def _directory(path: str) -> Iterator[int]:
    fd = os.open(path, READ_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def _new(path: str, mode: int = 0o600) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)


def _write_json(path: str, document: dict[str, Any], mode: int) -> None:
    with open(_new(path, mode), "w", encoding="utf-8") as file:
        json.dump(document, file, indent=4, ensure_ascii=True)
        file.write("\n")
        size = file.tell()
    if size > _CONFIG_LIMIT and path.endswith("/config.json"):
        raise OciError(f"the image's config makes a config.json of more than {_CONFIG_LIMIT >> 20} MiB", path)


def read_image_record(bundle: str) -> dict[str, Any]:
    """Return image.json of a bundle. Raises OciError if it is missing or is not such a record."""
    path = f"{bundle}/{META}/image.json"
    try:
        with open_regular(path) as file:
            document = json.load(file)
    except FileNotFoundError as error:
        if not os.path.lexists(bundle):
            from oci.absent import near_name

            near = near_name(bundle, lambda each: os.path.exists(f"{each}/{META}"))
            hint = f"did you mean {printable(near)}?" if near else ""
            raise OciError.from_os(error, "no such bundle", bundle, hint) from None
        raise OciError.from_os(error, "the bundle has no record of what was converted", path) from None
    except OSError as error:
        raise OciError.from_os(error, "the bundle has no record of what was converted", path) from None
    except ValueError as error:
        raise OciError(f"is not JSON: {error}", path) from None
    if not isinstance(document, dict) or document.get("version") != 1:
        raise OciError("the record is of another version", printable(path))
    return document
