"""`choose` finds the image that is meant: platforms and their spellings, names, an image twice, an archive in an
archive.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from oci.errors import OciError
from oci.image import Image, choose, read_images
from oci.image.blobs import open_archive
from oci.image.detect import image_below
from oci.image.platforms import host_platform, normal
from tests.support import archives as a
from tests.support.commands import rootless

ROOTFS = a.file("f") + a.END
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
HOST = host_platform()[1]


class Store:
    """Hold the blobs of a layout."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def put(self, data: bytes, media: str, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        self.files[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data), **more}

    def image(self, architecture: str, *, layer: bytes = ROOTFS, **more: Any) -> dict[str, Any]:
        """Return the descriptor of a manifest for linux/ARCHITECTURE."""
        diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        config = {"os": "linux", "architecture": architecture, "config": {"Cmd": ["/f"]}}
        config["rootfs"] = {"type": "layers", "diff_ids": [diff_id]}
        manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": self.put(a.dumped(config), "application/vnd.oci.image.config.v1+json"),
            "layers": [self.put(layer, "application/vnd.oci.image.layer.v1.tar")],
        }  # fmt: skip
        self.last = manifest
        return self.put(a.dumped(manifest), MANIFEST, platform={"os": "linux", "architecture": architecture}, **more)

    def attestation(self, about: dict[str, Any]) -> dict[str, Any]:
        """Return what buildkit writes beside each image."""
        notes = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": about["digest"]}
        unknown = {"architecture": "unknown", "os": "unknown"}
        return self.image("unknown", annotations=notes) | {"platform": unknown}

    def tar(self, manifests: list[dict[str, Any]], **more: Any) -> bytes:
        documents = {"index.json": {"schemaVersion": 2, "manifests": manifests}, **more}
        return a.tar_of({**self.files, **{name: a.dumped(document) for name, document in documents.items()}})


def listed(manifest: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the entry of manifest.json."""
    config, *layers = (f"blobs/{e['digest'].replace(':', '/')}" for e in [manifest["config"], *manifest["layers"]])
    return {"Config": config, "RepoTags": list(names), "Layers": layers}


def docker_29(*, nested: bool, named: bool) -> bytes:
    """Return what `docker save` of the containerd store writes: two platforms with attestations, and one in
    manifest.json.
    """
    store = Store()
    other, here = store.image("s390x"), store.image(HOST)
    manifest = store.last
    notes: dict[str, Any] = {}
    if named:
        notes["annotations"] = {
            "io.containerd.image.name": "docker.io/library/app:1", "org.opencontainers.image.ref.name": "1",
        }  # fmt: skip
    manifests = [other, here, store.attestation(other), store.attestation(here)]
    if nested:
        manifests = [store.put(a.dumped({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}), INDEX)]
    top = [{**notes, **entry} for entry in manifests]
    return store.tar(top, **{"manifest.json": [listed(manifest, "app:1")]})


def images(work: Path, data: bytes) -> list[Image]:
    (work / "i.tar").write_bytes(data)
    with open_archive(str(work / "i.tar")) as archive:
        return read_images(archive)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_multi_platform_docker_save_gives_this_machines(tmp_path: Path, nested: bool, named: bool) -> None:
    found = images(tmp_path, docker_29(nested=nested, named=named))
    assert len(found) == 2, "attestations are not images"
    assert choose(found).architecture == HOST
    for tag in ("app:1", "docker.io/library/app:1"):
        assert choose(found, tag).architecture == HOST
        assert choose(found, tag, "linux/s390x").architecture == "s390x"
    done = rootless("convert", "i.tar", "-o", "b", cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert rootless("remove", "b", cwd=tmp_path).returncode == 0


def test_two_images_of_two_platforms_are_still_two(tmp_path: Path) -> None:
    store = Store()
    name = "org.opencontainers.image.ref.name"
    manifests = [
        store.image(arch, layer=a.file(image) + a.END, annotations={name: image})
        for image in ("one", "two") for arch in (HOST, "s390x")
    ]  # fmt: skip
    found = images(tmp_path, store.tar(manifests))
    with pytest.raises(OciError, match=r"--tag.*one.*two"):
        choose(found)
    assert choose(found, "two").architecture == HOST


def test_platforms_that_all_are_others_are_chosen_by_platform(tmp_path: Path) -> None:
    store = Store()
    found = images(tmp_path, store.tar([store.image("s390x"), store.image("mips64le")]))
    with pytest.raises(OciError, match=r"--platform.*s390x"):
        choose(found)
    assert choose(found, "", "linux/s390x").architecture == "s390x"


def test_first_of_two_manifests_for_the_same_platform_is_taken(tmp_path: Path) -> None:
    store = Store()
    both = [store.image(HOST, layer=a.file(name) + a.END) for name in ("first", "second")]
    index = store.put(a.dumped({"schemaVersion": 2, "mediaType": INDEX, "manifests": both}), INDEX)
    found = images(tmp_path, store.tar([{**index, "annotations": {"org.opencontainers.image.ref.name": "v1"}}]))
    assert choose(found).digest == both[0]["digest"]


@pytest.mark.parametrize("diff_ids", [True, False])
def test_same_image_twice_in_manifest_json_is_one(tmp_path: Path, diff_ids: bool) -> None:
    config: dict[str, Any] = {"os": "linux", "architecture": HOST, "config": {"Cmd": ["/f"]}}
    if diff_ids:
        config["rootfs"] = {"diff_ids": ["sha256:" + hashlib.sha256(ROOTFS).hexdigest()]}
    entries = [{"Config": "c.json", "RepoTags": [tag], "Layers": ["l.tar"]} for tag in ("a:1", "b:2", "a:1")]
    files = {"c.json": a.dumped(config), "l.tar": ROOTFS, "manifest.json": a.dumped(entries)}
    found = images(tmp_path, a.tar_of(files))
    assert [image.names for image in found] == [("a:1", "b:2")]
    assert choose(found, "b:2") is choose(found, "a:1") is choose(found)


def test_same_config_over_other_layers_is_another_image(tmp_path: Path) -> None:
    files = {"c.json": b'{"os":"linux"}', "l.tar": ROOTFS, "m.tar": a.file("g") + a.END}
    entries = [{"Config": "c.json", "RepoTags": [], "Layers": [name]} for name in ("l.tar", "m.tar")]
    assert len(images(tmp_path, a.tar_of({**files, "manifest.json": a.dumped(entries)}))) == 2


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (("Linux", "x86_64", ""), ("linux", "amd64", "")), (("linux", "AMD64", ""), ("linux", "amd64", "")),
        (("linux", "x86-64", ""), ("linux", "amd64", "")), (("LINUX", "aarch64", ""), ("linux", "arm64", "v8")),
        (("linux", "arm64", "8"), ("linux", "arm64", "v8")), (("linux", "armhf", ""), ("linux", "arm", "v7")),
        (("linux", "arm", "6"), ("linux", "arm", "v6")), (("linux", "i686", ""), ("linux", "386", "")),
        (("linux", "ppc64el", ""), ("linux", "ppc64le", "")), (("linux", "amd64", "V2"), ("linux", "amd64", "v2")),
        (("", "", ""), ("", "", "")), (("Windows", "AMD64", ""), ("windows", "amd64", "")),
    ],
)  # fmt: skip
def test_spellings_of_a_platform(said: tuple[str, str, str], meant: tuple[str, str, str]) -> None:
    assert normal(*said) == meant


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the spellings here are this machine's on x86_64")
@pytest.mark.parametrize("architecture", ["x86_64", "AMD64", "amd64"])
def test_other_spelling_in_a_config_is_this_machine(tmp_path: Path, architecture: str) -> None:
    (tmp_path / "i.tar").write_bytes(a.docker_archive([ROOTFS], os="Linux", architecture=architecture))
    done = rootless("convert", "i.tar", "-o", "b", "--platform", "Linux/X86_64", cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert rootless("remove", "b", cwd=tmp_path).returncode == 0


def repacked(work: Path, directory: str, *, noise: bool = False) -> None:
    """Write i.tar with everything below a directory, as `tar -c` of an unpacked image does."""
    place = work / "in" / directory
    place.mkdir(parents=True)
    for name, data in (("config.json", b"{}"), ("manifest.json", b'[{"Config": "config.json"}]'), ("0.tar", ROOTFS)):
        (place / name).write_bytes(data)
    if noise:
        (work / "in" / f"._{directory}").write_bytes(b"\0\5\x16\7")
    subprocess.run(["tar", "-C", work / "in", "-cf", work / "i.tar", "."], check=True)


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("directory", ["myimage", "a/myimage"])
def test_archive_packed_inside_a_directory_is_named(tmp_path: Path, directory: str, noise: bool) -> None:
    repacked(tmp_path, directory, noise=noise and "/" not in directory)
    for command in ("convert", "inspect", "import"):
        done = rootless(command, "i.tar", cwd=tmp_path)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, (command, done.stderr)
        assert f"inside the directory {directory}" in done.stderr and "tar -xf" in done.stderr, done.stderr
    done = rootless("convert", "in", "-o", "b", cwd=tmp_path)
    if "/" not in directory:
        assert done.returncode == 1 and f"convert in/{directory}" in done.stderr, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["i.tar", "in"]


def test_root_file_system_below_a_directory_is_no_image() -> None:
    assert image_below(["rootfs/etc/passwd", "rootfs/bin/sh"]) == "" and image_below(["etc/manifest.json", "b"]) == ""
    assert image_below([f"x/{'a' * 64}/json"]) == "x" and image_below(["x/index.json", "x/oci-layout"]) == "x"


def test_tree_with_a_manifest_of_its_own_is_imported(tmp_path: Path) -> None:
    (tmp_path / "r.tar").write_bytes(a.directory("app") + a.file("app/manifest.json", b'{"name": "app"}') + a.END)
    done = rootless("import", "r.tar", "-o", "b", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert rootless("remove", "b", cwd=tmp_path).returncode == 0
