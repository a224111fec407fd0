"""Archives in the forms that other programs write all give the same tree."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oci.errors import OciError
from tests.support import archives as a

LAYERS = [
    a.directory("etc") + a.file("etc/lower", b"1") + a.file("gone") + a.END,
    a.file("etc/upper", b"2") + a.file(".wh.gone", b"") + a.END,
]
Members = dict[str, bytes | str]  # a string is the target of a symbolic link


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def config_for(layers: list[bytes]) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{sha256(layer)}" for layer in layers]}
    return a.dumped({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/x"]}, "rootfs": rootfs})


def manifest(config: str, layers: list[str], tag: str = "test:1") -> bytes:
    return a.dumped([{"Config": config, "RepoTags": [tag], "Layers": layers}])


def compressed() -> tuple[bytes, list[bytes]]:
    """Return the image's config, and its layers in gzip."""
    return config_for(LAYERS), [gzip.compress(layer, mtime=0) for layer in LAYERS]


def go_containerregistry() -> Members:
    """Return an archive of kaniko, ko or crane: the config is named by its digest, layers are compressed."""
    config, layers = compressed()
    names = [f"{sha256(layer)}.tar.gz" for layer in layers]
    name = f"sha256:{sha256(config)}"
    return {name: config, **dict(zip(names, layers, strict=True)), "manifest.json": manifest(name, names)}


def jib() -> Members:
    config, layers = compressed()
    names = [f"{sha256(layer)}.tar.gz" for layer in LAYERS]
    return {
        **dict(zip(names, layers, strict=True)), "config.json": config,
        "manifest.json": manifest("config.json", names),
    }  # fmt: skip


def bazel() -> Members:
    """Return an archive of rules_docker: names begin with a dot, and a layer of several images is a link."""
    config = config_for(LAYERS)
    return {
        "./1/layer.tar": LAYERS[0], "./1/json": b"{}", "./1/VERSION": b"1.0", "./2/layer.tar": "../shared/two.tar",
        "./shared/two.tar": LAYERS[1], f"./{sha256(config)}.json": config, "./repositories": b'{"test": {"1": "2"}}',
        "./manifest.json": manifest(f"{sha256(config)}.json", ["1/layer.tar", "2/layer.tar"]),
    }  # fmt: skip


def rules_oci() -> Members:
    config, layers = compressed()
    names = [f"blobs/sha256/{sha256(layer)}.tar.gz" for layer in layers]
    name = f"blobs/sha256/{sha256(config)}"
    return {name: config, **dict(zip(names, layers, strict=True)), "manifest.json": manifest(name, names)}


def podman() -> Members:
    """Return an archive of podman save: layers are named by their digest, and the old places are links to them."""
    config, members = config_for(LAYERS), {}
    names = [f"{sha256(layer)}.tar" for layer in LAYERS]
    for name, layer in zip(names, LAYERS, strict=True):
        members[name] = layer
        members[f"old{name[:9]}/layer.tar"] = f"../{name}"
        members[f"old{name[:9]}/json"] = b"{}"
    name = f"{sha256(config)}.json"
    old = a.dumped({"localhost/test": {"1": f"old{names[1][:9]}"}})
    return {**members, name: config, "manifest.json": manifest(name, names, "localhost/test:1"), "repositories": old}


def nix() -> Members:
    """Return an archive of dockerTools: as of docker 1.10, with names by nix's own sums."""
    config = config_for(LAYERS)
    name = "3l6dc8g5.json"
    layers = {f"{sha256(layer)}/layer.tar": layer for layer in LAYERS}
    return {**layers, name: config, "manifest.json": manifest(name, list(layers), "test:3l6dc8g5")}


def guix() -> Members:
    """Return an archive of `pack -f docker`: one layer with its json beside it, and a config without a history."""
    layer = a.directory("./") + a.directory("./etc") + a.file("./etc/lower", b"1") + a.file("./etc/upper", b"2") + a.END
    return {
        "./id/layer.tar": layer, "./id/json": b'{"id": "id"}', "./id/VERSION": b"1.0",
        "./config.json": config_for([layer]), "./repositories": b'{"test": {"latest": "id"}}',
        "./manifest.json": manifest("config.json", ["id/layer.tar"]),
    }  # fmt: skip


def buildkit(**descriptor: Any) -> Members:
    """Return an archive of type=oci: an index in the index, and an attestation beside the image."""
    config, layers = compressed()
    members = a.layout(layers)
    (top,) = json.loads(members["index.json"])["manifests"]
    document = json.loads(members[f"blobs/sha256/{top['digest'][7:]}"])
    document["config"] |= {"digest": f"sha256:{sha256(config)}", "size": len(config)}
    image, claim = a.dumped(document), a.dumped({"schemaVersion": 2, "config": document["config"], "layers": []})
    inner = a.dumped({"schemaVersion": 2, "manifests": [
        described(image, "manifest", platform={"os": "linux", "architecture": "amd64"}, **descriptor),
        described(claim, "manifest", platform={"os": "unknown", "architecture": "unknown"},
                  annotations={"vnd.docker.reference.type": "attestation-manifest"}),
    ]})  # fmt: skip
    for data in (config, image, claim, inner):
        members[f"blobs/sha256/{sha256(data)}"] = data
    names = {"io.containerd.image.name": "docker.io/library/test:1", "org.opencontainers.image.ref.name": "1"}
    outer = described(inner, "index", annotations=names)
    members["index.json"] = a.dumped({"schemaVersion": 2, "manifests": [outer]})
    return members


def described(data: bytes, kind: str, **more: object) -> dict[str, object]:
    media_type = f"application/vnd.oci.image.{kind}.v1+json"
    return {"mediaType": media_type, "digest": f"sha256:{sha256(data)}", "size": len(data), **more}


def docker_25() -> Members:
    """Return an archive with both layouts: OCI blobs, and a manifest.json that names them."""
    members = buildkit()
    config, layers = compressed()
    blobs = [f"blobs/sha256/{sha256(layer)}" for layer in layers]
    return members | {"manifest.json": manifest(f"blobs/sha256/{sha256(config)}", blobs)}


def directory_transport() -> Members:
    """Return what skopeo's dir: and podman's docker-dir write: a manifest beside its blobs."""
    config, layers = compressed()
    members = a.layout(layers)
    (top,) = json.loads(members["index.json"])["manifests"]
    document = json.loads(members[f"blobs/sha256/{top['digest'][7:]}"])
    document["config"] |= {"digest": f"sha256:{sha256(config)}", "size": len(config)}
    blobs = {name[13:]: data for name, data in members.items() if name.startswith("blobs/")}
    version = b"Directory Transport Version: 1.1\n"
    return {**blobs, sha256(config): config, "manifest.json": a.dumped(document), "version": version}


def archive_of(members: Members) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, what in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(what, str):
                info.type, info.linkname = tarfile.SYMTYPE, what
                tar.addfile(info)
            else:
                info.size = len(what)
                tar.addfile(info, io.BytesIO(what))
    return out.getvalue()


WRITERS: list[Callable[[], Members]] = [
    go_containerregistry, jib, bazel, rules_oci, podman, nix, guix, buildkit, docker_25, directory_transport,
]  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
@pytest.mark.parametrize("outer", ["plain", "gzip"])
def test_archive_of_other_programs(writer: Callable[[], Members], outer: str, tmp_path: Path) -> None:
    data = archive_of(writer())
    (tmp_path / "archive").write_bytes(gzip.compress(data) if outer == "gzip" else data)
    a.unpack(tmp_path / "archive", tmp_path / "b")
    assert os.listdir(tmp_path / "b/rootfs") == ["etc"]
    assert sorted(os.listdir(tmp_path / "b/rootfs/etc")) == ["lower", "upper"]
    assert json.loads((tmp_path / "b/config.json").read_text())["process"]["args"] == ["/x"]


def test_directory_transport_checks_its_digests(tmp_path: Path) -> None:
    members = directory_transport()
    layer = sha256(gzip.compress(LAYERS[0], mtime=0))
    later = gzip.compress(LAYERS[0], mtime=1)  # other bytes of the same length, and a sound stream
    (tmp_path / "archive").write_bytes(archive_of({**members, layer: later}))
    with pytest.raises(OciError, match="the layer has the digest"):
        a.unpack(tmp_path / "archive", tmp_path / "b")


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
def test_directory_of_skopeo(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(a.docker_archive(LAYERS))
    command = ["skopeo", "--insecure-policy", "copy", "-q", "docker-archive:archive", "dir:copy"]
    subprocess.run(command, cwd=tmp_path, check=True)
    a.unpack(tmp_path / "copy", tmp_path / "b")
    assert sorted(os.listdir(tmp_path / "b/rootfs/etc")) == ["lower", "upper"]
