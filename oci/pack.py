"""Make an image archive of a bundle: the base's layers, and what was changed as one layer on top.

Formats: oci (an OCI layout in a tar, with a manifest.json as docker 25 adds it, so that older ones read it too), docker
(manifest.json, docker 1.10 and later), docker-legacy (before 1.10: <id>/{VERSION,json,layer.tar}, repositories).
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

import attrs

from oci import changes as tree
from oci import config as runtime
from oci import record, tar
from oci.bundle import META, read_image_record, temporary_name
from oci.chunks import Chunks, OnBytes
from oci.compression import check_library, compressing, kind_of_name
from oci.errors import OciError, printable
from oci.image import Image, Layer, read_images
from oci.image.blobs import MAX_SIZE, open_archive
from oci.image.platforms import host_platform
from oci.image.rootfs import apply_changes, open_rootfs
from oci.owners import Owners
from oci.progress import ProgressLine
from oci.reference import check_name, name_of
from oci.regular import open_regular
from oci.root import READ_DIRECTORY, normal
from oci.stream import Budget, StreamSource, counted

FORMATS = ("oci", "docker", "docker-legacy")
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_HEADER = 1536  # bytes of a tar for a file besides its contents, about: a header, its mtime, and half of a block
_MOST_STEPS = 1000  # components to look up for one path, links included
_IN_OCI = {"": "", "gzip": "+gzip", "zstd": "+zstd"}  # compression -> suffix of the media type


@attrs.define
class PackRequest:
    """Hold the arguments of `pack`.

    bundle, output: paths; format: one of FORMATS; tag: NAME:TAG, "" for the image's own; owners: how the tree's owners
    were written; base: the archive that the bundle was converted from, "" if it has not moved; flatten: pack the whole
    tree as one layer, which needs no base; changes: Dockerfile instructions for the image's config; message: a comment
    for its history; temporary: a name from `temporary_name`; finishing: called just before the archive is renamed;
    note: called with one line for each thing that the user should know; progress: whether to show a line of it.
    """

    bundle: str
    output: str
    owners: Owners
    format: str = "oci"
    tag: str = ""
    base: str = ""
    flatten: bool = False
    force: bool = False
    changes: list[str] = attrs.field(factory=list)
    message: str = ""
    temporary: str = ""
    finishing: Callable[[], None] = lambda: None
    note: Callable[[str], None] = lambda text: None
    progress: bool = False


@attrs.define
class _Part:
    """A layer of the archive that is being written. Its bytes are in a spool file or in the base archive."""

    diff_id: str
    digest: str
    size: int
    compression: str
    open: Callable[[], Chunks]
    plain: Callable[[], Chunks]
    plain_size: int
    history: dict[str, Any]
    bytes_added: int = 0


def pack(request: PackRequest) -> None:
    """Write the archive under a temporary name, and rename it when it is complete. Raises OciError."""
    if request.format not in FORMATS:
        raise OciError(f"unknown format {printable(request.format)!r}", hint=", ".join(FORMATS))
    if request.tag:
        check_name(request.tag)
    document = read_image_record(request.bundle)
    for base in filter(None, (document["source"], request.base)):
        refuse_base(request.output, base)
    if os.path.lexists(request.output) and not request.force:
        raise _exists(request)
    directory = os.path.dirname(os.path.abspath(request.output))
    if not os.path.isdir(directory):
        raise OciError("cannot pack: the directory does not exist", directory, hint=f"mkdir {directory} makes it")
    kind = kind_of_name(request.output)
    check_library(kind, request.output)
    config = _image_config(request, document)
    temporary = request.temporary or temporary_name(request.output)
    try:
        with contextlib.ExitStack() as stack:
            image = None if request.flatten else stack.enter_context(_base(request, document))
            parts = _base_parts(request, image) if image else []
            added = stack.enter_context(_changed(request, document, image))
            if added is None:
                request.note("nothing has changed, so the archive holds the image that was converted")
            else:
                parts.append(added)
            history = list(image.history) if image else []
            if len([entry for entry in history if not entry.get("empty_layer")]) == len(parts) - (added is not None):
                config["history"] = history + ([added.history] if added else [])
            else:
                config["history"] = [part.history for part in parts]
            out = open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), "wb")
            with (
                out,
                compressing(kind, out, request.output) as packed,
                tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
                _shown(request, parts) as shown,
            ):
                _WRITERS[request.format](archive, _image_name(request, document), config, shown)
        request.finishing()
        _move_into_place(request, temporary)
    except OSError as error:
        raise OciError.from_os(error, "cannot pack", _shown_place(error, request.output)) from None
    finally:
        with contextlib.suppress(OSError):  # EROFS and EACCES come before ENOENT, and must not hide the first error
            os.unlink(temporary)


def _move_into_place(request: PackRequest, temporary: str) -> None:
    """Give the archive its name. Without `force` only one of several commands that write to one name gets it."""
    output = os.path.abspath(request.output)
    if not request.force:
        try:
            return os.link(temporary, output)  # unlike rename(2) it replaces nothing; `pack` removes the other name
        except FileExistsError:
            raise _exists(request) from None
        except OSError:  # a file system without hard links
            if os.path.lexists(output):
                raise _exists(request) from None
    os.rename(temporary, output)


def _exists(request: PackRequest) -> OciError:
    return OciError("the output exists already", request.output, hint="--force replaces it")


def _shown_place(error: OSError, output: str) -> str:
    """Return the path that an error is about, the output for a temporary file beside it."""
    beside = os.path.dirname(os.path.abspath(output))
    named = os.fsdecode(error.filename or "") if not isinstance(error.filename, int) else ""
    return named if named and os.path.dirname(os.path.abspath(named)) != beside else output


@contextlib.contextmanager
def _line(request: PackRequest, words: str, total: int, *, is_bytes: bool = True) -> Iterator[OnBytes]:
    """Show a line of progress while a part of the work lasts; yield what counts its bytes or files."""
    progress = ProgressLine(total, words=words, is_bytes=is_bytes, live=None if request.progress else False)
    try:
        yield progress.advance
    finally:
        progress.finish()


@contextlib.contextmanager
def _shown(request: PackRequest, parts: list[_Part]) -> Iterator[list[_Part]]:
    """Yield the parts; what is read of them moves a line on the terminal."""
    total = sum(part.size if request.format == "oci" else part.plain_size for part in parts)
    with _line(request, "packing", total) as advance:

        def counting(read: Callable[[], Chunks]) -> Callable[[], Chunks]:
            return lambda: counted(read(), advance)

        yield [attrs.evolve(part, open=counting(part.open), plain=counting(part.plain)) for part in parts]


def refuse_base(output: str, base: str) -> None:
    """Refuse an output that is the archive of the lower layers, because the bundle could not be packed again.

    It may be that archive by another path, by a hard or symbolic link, by a link on the way to it, or as a file of an
    unpacked archive. Raises OciError.
    """
    parent, name = os.path.split(os.path.abspath(output))
    entry = os.path.realpath(parent), name
    inside = os.path.isdir(base) and f"{entry[0]}/".startswith(f"{os.path.realpath(base)}/") and os.path.lexists(output)
    same = os.path.exists(output) and os.path.exists(base) and os.path.samefile(output, base)
    if inside or same or entry in _entries(base):
        what = "the output is the archive that the bundle was converted from, which it still needs"
        raise OciError(what, output, hint="--output names another")


def _entries(path: str) -> set[tuple[str, str]]:
    """Return the (real directory, name) of each entry that the kernel looks up for a path (path_resolution(7))."""
    here, todo = "/", os.path.abspath(path).split("/")[::-1]
    files: set[tuple[str, str]] = set()
    for _ in range(_MOST_STEPS):
        if not todo:
            break
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)
            continue
        files.add((here, name))
        try:
            target = os.readlink(f"{here}/{name}")
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                raise
            here = os.path.join(here, name)
            continue
        here = "/" if target.startswith("/") else here
        todo += target.split("/")[::-1]
    return files


def _image_name(request: PackRequest, document: dict[str, Any]) -> str:
    """Return NAME:TAG for the image, in lower case because registries demand it. Raises OciError."""
    known = next(iter(document["names"]), "")
    name = request.tag or known or name_of(os.path.basename(os.path.abspath(request.bundle)))
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


@contextlib.contextmanager
def _base(request: PackRequest, document: dict[str, Any]) -> Iterator[Image]:
    source = request.base or document["source"]
    hint = "--base names the archive that it was converted from, --flatten packs the tree as one layer"
    if not source or not os.path.exists(source):
        raise OciError("the archive of the lower layers does not exist", source or request.bundle, hint=hint)
    if document["family"] == "rootfs":
        with open_rootfs(source) as image:
            yield image
        return
    with open_archive(source, os.path.dirname(os.path.abspath(request.output))) as archive:
        for image in read_images(archive):
            if image.digest == document["digest"]:
                yield image
                return
    raise OciError("the archive does not hold the image that was converted", source, hint=hint)


def _base_parts(request: PackRequest, image: Image) -> list[_Part]:
    """Return the layers of the base. Each is read to learn its digests and sizes, which not every layout has."""
    total = image.size + sum(layer.blob.size for layer in image.layers if layer.blob and not _is_known(layer))
    with _line(request, "reading the base", total) as advance:
        return [_base_part(layer, number, image, advance) for number, layer in enumerate(image.layers)]


def _is_known(layer: Layer) -> bool:
    return bool(layer.digest) and layer.size >= 0


def _base_part(layer: Layer, number: int, image: Image, advance: OnBytes) -> _Part:
    assert layer.blob is not None or layer.stored()  # `stored` raises OciError if the blob is missing
    plain_sum, plain_size = _sum(layer.tar(Budget(MAX_SIZE), advance))
    digest, size = (layer.digest, layer.size) if _is_known(layer) else _sum(layer.stored(advance))
    history = [entry for entry in image.history if not entry.get("empty_layer")]
    assert layer.blob is not None
    return _Part(
        plain_sum, digest, size, layer.blob.compression(), layer.stored, lambda: layer.tar(Budget(MAX_SIZE)),
        plain_size, history[number] if number < len(history) else {"created_by": "converted"},
    )  # fmt: skip


def _sum(chunks: Chunks) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return f"sha256:{digest.hexdigest()}", size


@contextlib.contextmanager
def _changed(request: PackRequest, document: dict[str, Any], image: Image | None) -> Iterator[_Part | None]:
    """Yield the new layer, in a spool file; None if nothing has changed."""
    try:
        with open_regular(f"{request.bundle}/{META}/base.mtree") as file:
            stamp = os.fstat(file.fileno()).st_mtime_ns
            entries = record.read(file)
    except (ValueError, KeyError, IndexError) as error:
        raise OciError(f"the record of the base is broken ({error})", f"{request.bundle}/{META}/base.mtree") from None
    root_fd = os.open(f"{request.bundle}/rootfs", READ_DIRECTORY)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, root_fd)
        with _line(request, "comparing", len(entries), is_bytes=False) as advance:
            changes = tree.find_changes(root_fd, entries, request.owners, stamp, advance)
        if image is None:
            changes = tree.whole_tree(changes, entries)
        else:
            _settle_suspects(request, root_fd, changes, image)
            tree.complete(changes)
        tree.check_names(changes)
        if not changes.added and not changes.removed:
            yield None
            return
        spool = stack.enter_context(_spool(request))
        added = tree.size_of(changes)
        with _line(request, "reading", added + _HEADER * len(changes.added)) as advance:
            plain = _Summed(spool, advance)
            tree.write_layer(root_fd, changes, plain.file())
        packed = stack.enter_context(_spool(request))
        with (
            _line(request, "compressing", plain.size) as advance,
            gzip.GzipFile(
                fileobj=(stored := _Summed(packed)).file(), mode="wb", filename="", mtime=0, compresslevel=6
            ) as out,
        ):
            for chunk in counted(_read(spool), advance):
                out.write(chunk)
        history = {"created": _now(), "created_by": request.message or "rootless pack"}
        yield _Part(
            plain.digest(), stored.digest(), stored.size, "gzip", lambda: _read(packed), lambda: _read(spool),
            plain.size, history, added,
        )  # fmt: skip


def _settle_suspects(request: PackRequest, root_fd: int, changes: tree.Changes, image: Image) -> None:
    """Compare the suspects with the base's files, of which its layers are read."""
    if not changes.suspects:
        return
    total = image.size + sum(
        {id(entry): entry.size for entry in map(changes.now.get, changes.suspects) if entry}.values()
    )
    with _line(request, "comparing", total) as advance:
        tree.settle_suspects(root_fd, changes, lambda wanted: _base_digests(image.layers, wanted, advance), advance)


def _spool(request: PackRequest) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(request.output)))


class _Summed:
    """Write to a spool file, and learn the digest and the size of what is written. advance: called with each length."""

    def __init__(self, spool: IO[bytes], advance: OnBytes = lambda size: None) -> None:
        self.size = 0
        self._digest = hashlib.sha256()
        self._spool = spool
        self._advance = advance

    def file(self) -> IO[bytes]:
        """Return this object as a file, of which tarfile and gzip use no more than it has."""
        return cast("IO[bytes]", self)

    def write(self, data: bytes) -> int:
        """Write all of it."""
        self._spool.write(data)
        self._digest.update(data)
        self.size += len(data)
        self._advance(len(data))
        return len(data)

    def tell(self) -> int:
        """Return how much was written."""
        return self.size

    def flush(self) -> None:
        """Do nothing: the spool file is read through the same object."""

    def digest(self) -> str:
        """Return the digest of what was written."""
        return f"sha256:{self._digest.hexdigest()}"


def _rewound(file: IO[bytes]) -> IO[bytes]:
    file.seek(0)
    return file


def _read(file: IO[bytes]) -> Chunks:
    _rewound(file)
    while chunk := file.read(1 << 18):
        yield chunk


def _base_digests(layers: tuple[Layer, ...], wanted: set[bytes], advance: OnBytes) -> dict[bytes, str]:
    """Return {path: SHA-256} of files of the base; of a path in several layers, the topmost file."""
    digests: dict[bytes, str] = {}
    for layer in layers:
        source = StreamSource(layer.tar(Budget(MAX_SIZE), advance))
        for member in tar.members(source, layer.name):
            path = normal(member.name)
            if path not in wanted:
                continue
            digests.pop(path, None)
            if member.type == tar.HARDLINK and normal(member.link) in digests:
                digests[path] = digests[normal(member.link)]
            elif member.type == tar.FILE and member.sparse is None:
                digest = hashlib.sha256()
                for piece in source.pieces(member.stored):
                    digest.update(piece)
                digests[path] = digest.hexdigest()
    return digests


def _now() -> str:
    """Return the time as RFC 3339 text. SOURCE_DATE_EPOCH replaces it, so that archives are reproducible."""
    said = os.environ.get("SOURCE_DATE_EPOCH") or ""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(said or time.time())))
    except (ValueError, OverflowError, OSError):
        raise OciError("not a time in seconds since 1970", f"SOURCE_DATE_EPOCH={printable(said)}") from None


def _image_config(request: PackRequest, document: dict[str, Any]) -> dict[str, Any]:
    """Return the new image config, without rootfs and history. Raises OciError."""
    old = document["config"]
    keys = ("author", "architecture", "os", "os.version", "os.features", "variant")
    config = {key: old[key] for key in keys if old.get(key)}
    config.setdefault("os", "linux")
    if "architecture" not in config:  # an image that does not say is one for this machine
        named = document["platform"].split("/")[1]
        config["architecture"] = named if named != "unknown" else host_platform()[1]
    config["created"] = _now()
    config["config"] = dict(old.get("config") or {})
    for key in ("Cmd", "Entrypoint"):
        if isinstance(config["config"].get(key), str):
            config["config"][key] = runtime.string_list(config["config"], key)
    apply_changes(config["config"], request.changes)
    if not config["config"].get("Cmd") and not config["config"].get("Entrypoint"):
        config["config"]["Cmd"] = ["/bin/sh"]
    if not any(str(entry).startswith("PATH=") for entry in config["config"].get("Env") or []):
        config["config"]["Env"] = [runtime.DEFAULT_PATH, *(config["config"].get("Env") or [])]
    return config


def _with_layers(config: dict[str, Any], parts: list[_Part]) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [part.diff_id for part in parts]}
    return _dumped({**config, "rootfs": rootfs})


def _dumped(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


class _Reader:
    """A file that reads chunks, because tarfile copies from files only."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def finish(self) -> None:
        """Read to the end, where digest and size are checked."""
        for _ in self._chunks:
            pass


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    _add_chunks(archive, name, len(data), iter([data]))


def _add_chunks(archive: tarfile.TarFile, name: str, size: int, chunks: Chunks) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    reader = _Reader(chunks)
    archive.addfile(info, reader)  # type: ignore[arg-type]
    reader.finish()


def _add_directory(archive: tarfile.TarFile, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(info)


def _write_oci(archive: tarfile.TarFile, name: str, config: dict[str, Any], parts: list[_Part]) -> None:
    for directory in ("blobs", "blobs/sha256"):
        _add_directory(archive, directory)
    written: set[str] = set()

    def blob(digest: str, size: int, chunks: Chunks) -> None:
        if digest not in written:
            written.add(digest)
            _add_chunks(archive, "blobs/" + digest.replace(":", "/"), size, chunks)

    def document(data: bytes, media_type: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        blob(digest, len(data), iter([data]))
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    layers = []
    for part in parts:
        if part.compression in _IN_OCI:
            digest, size, chunks = part.digest, part.size, part.open()
        else:  # bzip2, xz and lz4 have no media type, so such a layer is stored uncompressed
            digest, size, chunks = part.diff_id, part.plain_size, part.plain()
        blob(digest, size, chunks)
        layers.append({"mediaType": _LAYER_TYPE + _IN_OCI.get(part.compression, ""), "digest": digest, "size": size})
    manifest: dict[str, Any] = {"schemaVersion": 2, "mediaType": _MANIFEST_TYPE, "layers": layers}
    manifest["config"] = document(_with_layers(config, parts), _CONFIG_TYPE)
    top = document(_dumped(manifest), _MANIFEST_TYPE)
    top["annotations"] = {"org.opencontainers.image.ref.name": name}
    top["platform"] = {"os": config["os"], "architecture": config["architecture"]}
    files = [f"blobs/{entry['digest'].replace(':', '/')}" for entry in [manifest["config"], *layers]]
    _add(archive, "manifest.json", _dumped([{"Config": files[0], "RepoTags": [name], "Layers": files[1:]}]))
    _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    _add(archive, "index.json", _dumped({"schemaVersion": 2, "manifests": [top]}))


def _write_docker(archive: tarfile.TarFile, name: str, config: dict[str, Any], parts: list[_Part]) -> None:
    names = []
    for part in parts:
        layer = f"{part.diff_id.partition(':')[2]}.tar"
        if layer not in names:
            _add_chunks(archive, layer, part.plain_size, part.plain())
        names.append(layer)
    data = _with_layers(config, parts)
    config_name = f"{hashlib.sha256(data).hexdigest()}.json"
    _add(archive, config_name, data)
    _add(archive, "manifest.json", _dumped([{"Config": config_name, "RepoTags": [name], "Layers": names}]))


def _write_legacy(archive: tarfile.TarFile, name: str, config: dict[str, Any], parts: list[_Part]) -> None:
    """Write the layers as a chain of ids. Only the topmost json holds the image's config."""
    parent = ""
    for number, part in enumerate(parts):
        top = number == len(parts) - 1
        document: dict[str, Any] = {
            "created": part.history.get("created") or config["created"],
            "container_config": {"Cmd": [part.history.get("created_by") or ""]},
            "os": config["os"],
            "architecture": config["architecture"],
            "Size": part.bytes_added or part.plain_size,
        }
        if top:
            document |= {key: value for key, value in config.items() if key != "history"}
        if parent:
            document["parent"] = parent
        layer_id = hashlib.sha256(_dumped({**document, "layer": part.diff_id})).hexdigest()
        document["id"] = layer_id
        _add_directory(archive, layer_id)
        _add(archive, f"{layer_id}/VERSION", b"1.0")
        _add(archive, f"{layer_id}/json", _dumped(document))
        _add_chunks(archive, f"{layer_id}/layer.tar", part.plain_size, part.plain())
        parent = layer_id
    repository, _, tag = name.rpartition(":")
    _add(archive, "repositories", _dumped({repository: {tag: parent}}))


_WRITERS = {"oci": _write_oci, "docker": _write_docker, "docker-legacy": _write_legacy}
