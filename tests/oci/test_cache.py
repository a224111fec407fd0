"""The store of unpacked trees gives the same bundle as without it, in all owner modes, is bounded, and works in
parallel.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import oci.cache
from oci.attributes import Report
from oci.errors import OciError
from oci.image.model import Image, Layer
from oci.owners import Owners
from tests.support import archives as a
from tests.support.checkout import CHECKOUT
from tests.support.commands import Result, call, rootless, tree

LOWER = b"".join(
    (
        a.directory("."), a.directory("d"), a.file("d/f", b"f", uid=3, gid=4), a.hard_link("d/g", "d/f"),
        a.hard_link("d/h", "d/f"), a.directory("ro", 0o500), a.file("ro/x"), a.file("none", b"n", mode=0),
        a.symlink("s", "d"), a.header("p", type_=b"6"), a.pax({"SCHILY.xattr.user.a": "b"}), a.file("attr"),
        a.header("null", type_=b"3", device=(1, 3)), a.END,
    )
)  # fmt: skip
UPPER = a.file("s/new", b"new") + a.file("d/.wh.g", b"") + a.file("ro/y") + a.END
OTHER = a.file("other") + a.file(".wh.none", b"") + a.END


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    yield tmp_path / "work"
    for entry in os.listdir(tmp_path / "work"):
        if (tmp_path / "work" / entry / "config.json").exists():
            rootless("remove", entry, cwd=tmp_path / "work")
    assert prune(tmp_path).returncode == 0


def convert(work: Path, name: str, layers: list[bytes], *, cache: bool = True, **more: object) -> Result:
    (work / f"{name}.tar").write_bytes(a.docker_archive(layers))
    options = {
        "image": f"{name}.tar", "output": name, "owners": "", "force": True, "tty": False, "quiet": False,
        "max_size": "", "max_files": 0, "tag": "", "platform": "", "list": False, "json": False, "cache": cache,
    }  # fmt: skip
    return call("convert", work, **{**options, **more})


def kept(work: Path) -> list[dict[str, object]]:
    listed = call("cache", work, action="ls", json=True, image="", max_size="")
    assert listed.returncode == 0, listed.stderr
    return json.loads(listed.stdout)


def prune(work: Path, size: str = "") -> Result:
    return call("cache", work, action="prune", json=False, image="", max_size=size)


def timeless(bundle: Path) -> list[list[str]]:
    return [row.split("\t")[:7] + row.split("\t")[8:] for row in tree(bundle)]


@pytest.mark.parametrize("how", ["", "xattr", "squash"])
def test_tree_from_the_cache_is_the_same(work: Path, how: str) -> None:
    plain = convert(work, "plain", [LOWER, UPPER], cache=False, owners=how)
    first = convert(work, "first", [LOWER, UPPER], owners=how)
    second = convert(work, "second", [LOWER, UPPER], owners=how)
    for done in (plain, first, second):
        assert done.returncode == 0, done.stderr
    assert first.stderr == second.stderr == plain.stderr
    assert len(kept(work)) == 1
    rows = tree(work / "plain")
    assert tree(work / "first") == rows
    assert tree(work / "second") == rows
    records = {(work / name / ".oci/base.mtree").read_bytes() for name in ("plain", "first", "second")}
    assert len(records) == 1


@pytest.mark.parametrize("how", ["", "xattr", "squash"])
def test_lower_layers_are_taken_and_the_rest_applied(work: Path, how: str) -> None:
    assert convert(work, "base", [LOWER], owners=how).returncode == 0
    for name, layers in (("upper", [LOWER, UPPER]), ("third", [LOWER, UPPER, OTHER])):
        assert convert(work, name, layers, owners=how).returncode == 0
        assert convert(work, "plain", layers, cache=False, owners=how).returncode == 0
        assert timeless(work / name) == timeless(work / "plain")
    assert sorted(len(tree["layers"]) for tree in kept(work)) == [1, 2, 3]


def test_lower_layers_from_the_cache_are_not_read(work: Path) -> None:
    assert convert(work, "base", [LOWER]).returncode == 0
    data = bytearray(a.docker_archive([LOWER, UPPER]))
    place = data.index(b"none")
    data[place : place + 4] = b"evil"  # breaks the header's checksum, and the layer's digest
    (work / "b.tar").write_bytes(data)
    refused = rootless("convert", "b.tar", cwd=work)
    assert refused.returncode == 1
    options = {
        "image": "b.tar",
        "output": "b",
        "owners": "",
        "force": False,
        "tty": False,
        "quiet": False,
        "max_size": "",
    }
    done = call("convert", work, **options, max_files=0, tag="", platform="", list=False, json=False, cache=True)
    assert done.returncode == 0, done.stderr
    assert "none" in os.listdir(work / "b/rootfs")


def test_change_in_a_bundle_does_not_reach_the_cache(work: Path) -> None:
    for name in ("one", "two"):
        assert convert(work, name, [LOWER]).returncode == 0
    assert rootless("unshare", "sh", "-c", "echo changed > one/rootfs/d/f", cwd=work).returncode == 0
    assert convert(work, "three", [LOWER]).returncode == 0
    for name in ("two", "three"):
        read = rootless("unshare", "cat", f"{name}/rootfs/d/f", cwd=work)
        assert read.stdout == "f"


def test_prune_keeps_what_was_used_last(work: Path) -> None:
    for name in ("one", "two"):
        assert convert(work, name, [a.file(name, bytes(100_000)) + a.END]).returncode == 0
    assert len(kept(work)) == 2
    assert convert(work, "again", [a.file("one", bytes(100_000)) + a.END]).returncode == 0
    assert prune(work, "150000").returncode == 0
    assert [len(tree["names"]) for tree in kept(work)] == [1]
    shown = call("cache", work, action="ls", json=False, image="", max_size="")
    assert "test:1" in shown.stdout
    assert prune(work).stdout.startswith("1 trees removed")
    assert kept(work) == []


def test_conversions_side_by_side_share_the_cache(work: Path) -> None:
    (work / "image.tar").write_bytes(a.docker_archive([LOWER, UPPER]))
    script = (
        "import sys, types; sys.path.insert(0, sys.argv[1])\n"
        "from rootless.cli.commands import convert\n"
        "sys.exit(convert.main(types.SimpleNamespace(image='image.tar', output=sys.argv[2], owners='', force=False,"
        " tty=False, quiet=True, max_size='', max_files=0, tag='', platform='', list=False, json=False, cache=True,"
        " shared=False)))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(CHECKOUT), f"b{n}"], cwd=work, stdout=subprocess.DEVNULL)
        for n in range(8)
    ]
    assert [process.wait() for process in running] == [0] * 8
    assert len({tuple(tree(work / f"b{n}")) for n in range(8)}) == 1
    assert len(kept(work)) == 1


def test_what_a_killed_conversion_left_goes_with_the_next_prune(work: Path) -> None:
    assert convert(work, "one", [LOWER]).returncode == 0
    left = work.parent / "cache/rootless/trees/.0123.4567"
    (left / "rootfs").mkdir(parents=True)
    assert prune(work, "1g").stdout.startswith("0 trees removed")
    assert not left.exists() and len(kept(work)) == 1


def test_a_cache_that_fails_is_named_and_not_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(oci.cache, "clone_tree", fail)
    store = oci.cache.Cache(str(tmp_path / "cache"))
    layer = Layer(blob=None, name="base", diff_id="sha256:" + "0" * 64)
    image = Image(family="oci", names=(), digest="", config={}, layers=(layer,))
    root_fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(OciError) as caught:
            store.store(image, Owners("squash"), Report(), root_fd, "/dev/null")
    finally:
        os.close(root_fd)
    said = caught.value.message()
    assert said.startswith(f"cannot keep the layers in the cache: {tmp_path}/cache: ENOSPC"), said
    assert "hint: `rootless cache prune` makes room" in said
    assert os.listdir(tmp_path / "cache") == [".lock"]
