"""Make archives byte by byte, so that they can be wrong in any way, and watch what is outside the bundle."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

from oci.bundle import ConvertRequest, build
from oci.image import Image, choose, read_images
from oci.image.blobs import open_archive
from oci.image.rootfs import open_rootfs
from oci.owners import Owners

END = bytes(1024)


def header(
    name: str | bytes, size: int | bytes = 0, type_: bytes = b"0", link: bytes | str = b"", mode: int = 0o644,
    uid: int = 0, gid: int = 0, mtime: int = 1420070400, device: tuple[int, int] = (0, 0),
    magic: bytes = b"ustar\x0000",
) -> bytes:  # fmt: skip
    """Return one header block with its checksum. A size given as bytes is put in as it is."""
    raw_size = size if isinstance(size, bytes) else b"%011o\0" % size
    block = b"".join(
        (
            os.fsencode(name)[:100].ljust(100, b"\0"), b"%07o\0" % mode, b"%07o\0" % uid, b"%07o\0" % gid,
            raw_size.ljust(12, b"\0"), b"%011o\0" % mtime, b" " * 8, type_, os.fsencode(link)[:100].ljust(100, b"\0"),
            magic.ljust(8, b"\0"), bytes(64), b"%07o\0" % device[0], b"%07o\0" % device[1], bytes(167),
        )
    )  # fmt: skip
    return checked(block)


def checked(block: bytes) -> bytes:
    """Return the block with the right checksum."""
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def file(name: str | bytes, data: bytes = b"x", **more: Any) -> bytes:
    return header(name, len(data), **more) + padded(data)


def directory(name: str | bytes, mode: int = 0o755, **more: Any) -> bytes:
    return header(name, type_=b"5", mode=mode, **more)


def symlink(name: str | bytes, target: str | bytes) -> bytes:
    long = pax({"linkpath": os.fsencode(target)}) if len(os.fsencode(target)) > 100 else b""
    return long + header(name, type_=b"2", link=target, mode=0o777)


def hard_link(name: str | bytes, target: str | bytes, **more: Any) -> bytes:
    return header(name, type_=b"1", link=target, **more)


def pax(records: dict[str, bytes | str], type_: bytes = b"x") -> bytes:
    """Return an extended header."""
    data = b""
    for key, value in records.items():
        rest = b" " + key.encode() + b"=" + (value if isinstance(value, bytes) else value.encode()) + b"\n"
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length += 1
        data += str(length).encode() + rest
    return file("pax", data, type_=type_)


def docker_archive(layers: list[bytes], config: dict[str, Any] | None = None, **patch: Any) -> bytes:
    """Return a docker archive of these layers, with right digests; `patch` replaces keys of the config."""
    document: dict[str, Any] = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Cmd": ["/bin/sh"], **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]},
        **patch,
    }
    names = [f"{number}.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": ["test:1"], "Layers": names}]
    members = {name: layer for name, layer in zip(names, layers, strict=True)}
    return tar_of({**members, "config.json": dumped(document), "manifest.json": dumped(manifest)})


def dumped(document: Any) -> bytes:
    return json.dumps(document).encode()


def tar_of(members: dict[str, bytes]) -> bytes:
    """Return a plain tar that the standard library has made."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def layout(
    layers: list[bytes],
    media_type: str = "application/vnd.oci.image.layer.v1.tar",
    patch: dict[str, Any] | None = None,
    **index: Any,
) -> dict[str, bytes]:
    """Return the files of an OCI layout with one image; `patch` replaces keys of its config, `index` of index.json."""
    blobs: dict[str, bytes] = {}

    def put(data: bytes, media: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    diff_ids = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    config = {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    config.update(patch or {})
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(dumped(config), "application/vnd.oci.image.config.v1+json"),
        "layers": [put(layer, media_type) for layer in layers],
    }
    top = put(dumped(manifest), "application/vnd.oci.image.manifest.v1+json")
    blobs["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    blobs["index.json"] = dumped({"schemaVersion": 2, "manifests": [top], **index})
    return blobs


def unpack(archive: Path, bundle: Path, how: str = "squash", tag: str = "", **more: Any) -> list[str]:
    """Convert in this process, everything owned by the caller; return the notes. Raises OciError."""
    with open_archive(str(archive), str(bundle.parent)) as opened:
        return _build(choose(read_images(opened), tag), bundle, how, more)


def unpack_rootfs(archive: Path, bundle: Path, how: str = "squash", **more: Any) -> list[str]:
    """Import in this process; return the notes. Raises OciError."""
    with open_rootfs(str(archive)) as image:
        return _build(image, bundle, how, more)


def _build(image: Image, bundle: Path, how: str, more: dict[str, Any]) -> list[str]:
    notes: list[str] = []
    ids = [(0, os.geteuid(), 1)], [(0, os.getegid(), 1)]
    build(ConvertRequest(image, str(bundle), Owners(how), *ids, note=notes.append, **more))
    return notes


def snapshot(top: Path) -> dict[str, tuple[int, ...]]:
    """Return what must not change: every path with mode, size, time, links and inode."""
    found: dict[str, tuple[int, ...]] = {}
    for where, names, files in os.walk(top):
        for name in [".", *names, *files]:
            path = os.path.join(where, name)
            st = os.lstat(path)
            found[path] = (st.st_mode, st.st_size, st.st_mtime_ns, st.st_nlink, st.st_ino, st.st_uid, st.st_gid)
    return found
