"""`pack` writes what was changed as one new layer, in every format, and the round trip gives the same tree."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from oci import compression, record
from oci.errors import OciError
from oci.owners import Owners
from oci.pack import FORMATS, PackRequest
from oci.pack import pack as write_archive
from oci.reference import is_name, name_of
from tests.support import archives as a
from tests.support.commands import Result, pack, rootless, tree

BASE = (
    a.directory("bin") + a.file("bin/sh", b"#!shell", mode=0o755) + a.directory("etc") + a.file("etc/old", b"old")
    + a.file("etc/same", b"same") + a.directory("gone") + a.file("gone/f") + a.hard_link("bin/ash", "bin/sh")
    + a.file("mine", b"m", uid=7, gid=8) + a.header("null", type_=b"3", device=(1, 3), mode=0o666)
    + a.symlink("link", "etc/old") + a.file("touched", b"12345")
)  # fmt: skip


def run_inside(bundle: Path, script: str) -> None:
    done = rootless("unshare", "sh", "-ec", script, cwd=bundle / "rootfs")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    archive = tmp_path / "base.tar"
    archive.write_bytes(a.docker_archive([BASE + a.END], {"Env": ["A=b"]}))
    converted = rootless("convert", archive, "-q", "-o", "b", cwd=tmp_path)
    assert converted.returncode == 0, converted.stderr
    yield tmp_path / "b"
    for entry in os.listdir(tmp_path):
        if os.path.exists(tmp_path / entry / "config.json"):
            rootless("remove", entry, cwd=tmp_path)


def top_layer(archive: Path) -> dict[str, tarfile.TarInfo]:
    """Return the members of the topmost layer."""
    with tarfile.open(archive) as tar:
        documents = {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}
    if "manifest.json" in documents:
        name = json.loads(documents["manifest.json"])[0]["Layers"][-1]
    else:
        (tags,) = json.loads(documents["repositories"]).values()
        name = f"{next(iter(tags.values()))}/layer.tar"
    layer = archive.with_name("top.tar")
    layer.write_bytes(documents[name])
    with tarfile.open(layer) as tar:
        return {m.name: m for m in tar}


def change(bundle: Path) -> None:
    run_inside(
        bundle,
        "echo changed > etc/old; echo new > etc/new; rm -r gone; chmod 700 bin; ln etc/new etc/newer; ln -s x symlink;"
        "mkdir dir; mkfifo dir/pipe; rm link; mkdir link; printf 54321 > touched; touch -d @1420070400 touched",
    )


@pytest.mark.parametrize("layout", FORMATS)
def test_round_trip_gives_the_changed_tree(bundle: Path, layout: str) -> None:
    change(bundle)
    out = bundle.with_name("out.tar")
    packed = pack(bundle, out, format=layout)
    assert packed.returncode == 0, packed.stderr
    again = rootless("convert", out, "-q", "-o", "again", cwd=bundle.parent)
    assert again.returncode == 0, again.stderr
    assert [row.split("\t")[:7] for row in tree(bundle.with_name("again"))] == [
        row.split("\t")[:7] for row in tree(bundle)
    ]


@pytest.mark.parametrize("layout", FORMATS)
def test_new_layer_holds_the_changes_only(bundle: Path, layout: str) -> None:
    change(bundle)
    out = bundle.with_name("out.tar")
    assert pack(bundle, out, format=layout).returncode == 0
    members = top_layer(out)
    assert sorted(members) == [
        ".", ".wh.gone", "bin", "dir", "dir/pipe", "etc", "etc/new", "etc/newer", "etc/old", "link",
        "symlink", "touched",
    ]  # fmt: skip
    assert members["etc/newer"].islnk() and members["etc/newer"].linkname == "etc/new"
    assert members["bin"].mode == 0o700 and members["dir/pipe"].isfifo()


def test_unchanged_bundle_packs_without_a_new_layer(bundle: Path) -> None:
    out = bundle.with_name("out.tar")
    packed = pack(bundle, out, format="docker")
    assert packed.returncode == 0 and "nothing has changed" in packed.stderr
    with tarfile.open(out) as tar:
        manifest = json.loads(tar.extractfile("manifest.json").read())
    assert len(manifest[0]["Layers"]) == 1


def test_touched_file_of_same_size_and_time_is_told_by_its_contents(bundle: Path) -> None:
    run_inside(bundle, "printf 99999 > touched; touch -d @1420070400 touched; touch -d @1420070400 etc/same")
    out = bundle.with_name("out.tar")
    assert pack(bundle, out).returncode == 0
    members = top_layer(out)
    assert "touched" in members and "etc/same" not in members


def test_device_that_is_an_empty_file_is_no_change_and_a_device_again_when_flattened(bundle: Path) -> None:
    run_inside(bundle, "echo x > new")
    out = bundle.with_name("out.tar")
    assert pack(bundle, out).returncode == 0
    assert "null" not in top_layer(out)
    assert pack(bundle, out, flatten=True, force=True).returncode == 0
    member = top_layer(out)["null"]
    assert member.ischr() and (member.devmajor, member.devminor) == (1, 3) and member.mode == 0o666


@pytest.mark.parametrize("how", ["xattr", "squash"])
def test_owners_that_the_disk_cannot_keep_are_packed_from_the_record(tmp_path: Path, how: str) -> None:
    archive = tmp_path / "base.tar"
    archive.write_bytes(a.docker_archive([BASE + a.END]))
    assert rootless("convert", archive, "-q", "-o", "b", "--owners", how, cwd=tmp_path).returncode == 0
    (tmp_path / "b/rootfs/new").write_text("x")
    out = tmp_path / "out.tar"
    packed = pack(tmp_path / "b", out, flatten=True)
    assert packed.returncode == 0, packed.stderr
    members = top_layer(out)
    assert (members["mine"].uid, members["mine"].gid) == (7, 8)
    assert (members["new"].uid, members["new"].gid) == (0, 0)
    rootless("remove", "b", cwd=tmp_path)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.tar", ""), ("x.tar.gz", "gzip"), ("x.tgz", "gzip"), ("x.tar.bz2", "bzip2"), ("x.tar.xz", "xz"),
        ("x.tar.zst", "zstd"), ("x.tar.lz4", "lz4"), ("gz", ""),
    ],
)  # fmt: skip
def test_archive_is_compressed_as_its_name_says(bundle: Path, layout: str, name: str, kind: str) -> None:
    """`convert` reads it too, and looks only at the first bytes."""
    if kind in ("zstd", "lz4"):
        pytest.importorskip({"zstd": "backports.zstd", "lz4": "lz4"}[kind], reason=f"no Python package for {kind}")
    run_inside(bundle, "echo new > new")
    output = bundle.parent / name
    done = rootless("pack", bundle, "-q", "-o", output, "--format", layout, cwd=bundle.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert compression.detect(output.read_bytes()[:8]) == kind
    assert rootless("convert", output, "-q", "-o", "again", cwd=bundle.parent).returncode == 0
    assert (bundle.parent / "again/rootfs/new").read_text() == "new\n"


def test_compression_without_its_library_is_refused_before_the_work(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    request = PackRequest(str(bundle), str(bundle.parent / "x.tar.zst"), Owners("map", [], []))
    with pytest.raises(OciError, match=r"zstd compression needs a library.*pip install backports.zstd"):
        write_archive(request)
    assert not (bundle.parent / "x.tar.zst").exists()


def test_legacy_archive_has_the_files_of_docker_before_1_10(bundle: Path) -> None:
    run_inside(bundle, "echo x > new")
    out = bundle.with_name("out.tar")
    assert pack(bundle, out, format="docker-legacy", tag="me/test:v2").returncode == 0
    with tarfile.open(out) as tar:
        names = tar.getnames()
        top = json.loads(tar.extractfile("repositories").read())["me/test"]["v2"]
        document = json.loads(tar.extractfile(f"{top}/json").read())
        assert tar.extractfile(f"{top}/VERSION").read() == b"1.0"
        parent = json.loads(tar.extractfile(f"{document['parent']}/json").read())
    assert f"{top}/layer.tar" in names and "manifest.json" not in names and "parent" not in parent
    assert document["id"] == top and document["config"]["Cmd"] == ["/bin/sh"]


def test_base_that_is_gone_is_named_with_the_ways_out(bundle: Path) -> None:
    bundle.with_name("base.tar").rename(bundle.with_name("moved.tar"))
    out = bundle.with_name("out.tar")
    refused = pack(bundle, out)
    assert refused.returncode == 1 and "--base" in refused.stderr and "--flatten" in refused.stderr
    assert not out.exists()
    assert pack(bundle, out, base=str(bundle.with_name("moved.tar"))).returncode == 0


def test_changes_of_the_config(bundle: Path) -> None:
    out = bundle.with_name("out.tar")
    assert pack(bundle, out, format="docker", change=['CMD ["/bin/ash"]', "ENV X=1", "LABEL a=b"]).returncode == 0
    listed = rootless("convert", out, "-q", "-o", "again", cwd=bundle.parent)
    assert listed.returncode == 0, listed.stderr
    config = json.loads((bundle.with_name("again") / "config.json").read_text())
    assert config["process"]["args"] == ["/bin/ash"] and "X=1" in config["process"]["env"]
    assert config["annotations"]["a"] == "b"


@pytest.mark.parametrize("name", ["out.tar", "out.tar.gz", "out.tar.xz"])
def test_archives_are_the_same_when_the_epoch_is_given(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1420070400")
    run_inside(bundle, "echo x > new; touch -d @1420070400 new .")
    sums = set()
    for _ in range(2):
        out = bundle.with_name(name)
        assert pack(bundle, out, force=True).returncode == 0
        sums.add(hashlib.sha256(out.read_bytes()).hexdigest())
    assert len(sums) == 1


def test_record_reads_back_what_was_written(bundle: Path) -> None:
    with open(bundle / ".oci/base.mtree", "rb") as file:
        entries = record.read(file)
    assert entries[b"bin/ash"] is entries[b"bin/sh"]
    assert (entries[b"mine"].uid, entries[b"mine"].gid, entries[b"null"].device) == (7, 8, (1, 3))
    assert entries[b"link"].link == b"etc/old" and entries[b"etc/old"].mtime == 1420070400 * 10**9


def peer(*command: object, cwd: Path) -> Result:
    return subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
@pytest.mark.parametrize(("layout", "transport"), [("oci", "oci-archive"), ("docker", "docker-archive")])
def test_skopeo_reads_the_archive(bundle: Path, layout: str, transport: str) -> None:
    change(bundle)
    out = bundle.with_name("out.tar")
    assert pack(bundle, out, format=layout).returncode == 0
    copied = peer("skopeo", "--insecure-policy", "copy", f"{transport}:{out}", "oci:copy:v1", cwd=bundle.parent)
    assert copied.returncode == 0, copied.stderr
    again = rootless("convert", "copy", "-q", "-o", "again", cwd=bundle.parent)
    assert again.returncode == 0, again.stderr
    assert [row.split("\t")[:7] for row in tree(bundle.with_name("again"))] == [
        row.split("\t")[:7] for row in tree(bundle)
    ]


@pytest.mark.skipif(not shutil.which("umoci"), reason="umoci is not installed")
def test_umoci_unpacks_the_archive(bundle: Path) -> None:
    run_inside(bundle, "echo x > new; rm -r gone")
    out = bundle.with_name("out.tar")
    assert pack(bundle, out, tag="v1").returncode == 0
    (bundle.parent / "layout").mkdir()
    with tarfile.open(out) as tar:
        for member in tar:
            tar.extract(member, bundle.parent / "layout")
    (bundle.parent / "layout/index.json").write_bytes(
        (bundle.parent / "layout/index.json").read_bytes().replace(b"v1:latest", b"v1")
    )
    done = peer("umoci", "unpack", "--rootless", "--image", "layout:v1", "theirs", cwd=bundle.parent)
    assert done.returncode == 0, done.stderr
    ours = {row.split("\t")[0] for row in tree(bundle)}
    theirs = {"."} | {
        os.path.relpath(os.path.join(where, name), bundle.parent / "theirs/rootfs")
        for where, names, files in os.walk(bundle.parent / "theirs/rootfs")
        for name in names + files
    }
    assert ours == theirs


@pytest.mark.parametrize(
    ("name", "flatten"),
    [(".wh.x", False), (".wh..wh..opq", True), (".wh.", False), ("d/.wh.x", True), (".wh.d/f", False)],
)
def test_a_name_that_would_remove_another_is_refused(tmp_path: Path, name: str, flatten: bool) -> None:
    """As a whiteout the name would remove `x` from the image; umoci refuses it too."""
    archive = tmp_path / "a.tar"
    archive.write_bytes(a.docker_archive([a.file("x") + a.file("d/x") + a.END]))
    assert rootless("convert", archive, "-o", "b", "--owners", "squash", cwd=tmp_path).returncode == 0
    path = tmp_path / "b/rootfs" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"a user's")
    done = pack(tmp_path / "b", tmp_path / "out.tar", base=str(archive), flatten=flatten)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert name.partition("/f")[0] in done.stderr and "hint: rename" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "b"]
    path.unlink()
    if name == ".wh.d/f":
        path.parent.rmdir()
    assert pack(tmp_path / "b", tmp_path / "out.tar", base=str(archive), flatten=flatten).returncode == 0


# Where the archive goes


def test_default_name_is_another_than_the_bases(bundle: Path) -> None:
    run_inside(bundle, "echo x > new")
    before = bundle.with_name("base.tar").read_bytes()
    bundle.rename(bundle.with_name("base"))
    for word in ("base", "base/", "./base"):
        done = rootless("pack", word, cwd=bundle.parent)
        assert done.returncode == 0, done.stderr
        assert done.stdout.rstrip().endswith("base-packed.tar")
        (bundle.parent / "base-packed.tar").unlink()
    done = rootless("pack", ".", cwd=bundle.with_name("base"))
    assert done.returncode == 0 and (bundle.parent / "base-packed.tar").exists(), done.stderr
    assert bundle.with_name("base.tar").read_bytes() == before


@pytest.mark.parametrize("flags", [["--force"], [], ["--force", "--flatten"], ["--force", "--base", "copy.tar"]])
def test_base_is_never_overwritten(bundle: Path, flags: list[str]) -> None:
    work = bundle.parent
    run_inside(bundle, "echo x > new")
    base = work / "base.tar"
    before = base.read_bytes()
    (work / "copy.tar").write_bytes(before)
    os.link(base, work / "hard.tar")
    (work / "soft.tar").symlink_to("base.tar")
    (work / "softer.tar").symlink_to(work / "soft.tar")
    (work / "dir").symlink_to(".")
    outputs = [
        "base.tar",
        "./base.tar",
        "dir/base.tar",
        f"{base}",
        "hard.tar",
        "soft.tar",
        "softer.tar",
        "b/../base.tar",
    ]
    for output in [*outputs, *(["copy.tar"] if "--base" in flags else [])]:
        done = rootless("pack", "b", "-o", output, *flags, cwd=work)
        assert done.returncode == 1 and "converted from" in done.stderr and "--force" not in done.stderr, done.stderr
        assert base.read_bytes() == before and (work / "soft.tar").is_symlink(), output
    assert not [name for name in os.listdir(work) if name.startswith(".")]


def test_link_on_the_way_to_the_base_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/real.tar").write_bytes(a.docker_archive([BASE + a.END]))
    (tmp_path / "images").symlink_to("store")
    (tmp_path / "image.tar").symlink_to("images/real.tar")
    assert rootless("convert", "image.tar", "-q", "-o", "b", cwd=tmp_path).returncode == 0
    for output in ("image.tar", "images", "store/real.tar"):
        done = rootless("pack", "b", "-o", output, "--force", cwd=tmp_path)
        assert done.returncode == 1 and "converted from" in done.stderr, (output, done.stderr)
    assert (tmp_path / "image.tar").is_symlink() and (tmp_path / "images").is_symlink()
    assert rootless("remove", "b", cwd=tmp_path).returncode == 0


def test_file_of_an_unpacked_base_is_not_overwritten(tmp_path: Path) -> None:
    files = a.layout([BASE + a.END])
    for name, data in files.items():
        (tmp_path / "layout" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "layout" / name).write_bytes(data)
    assert rootless("convert", "layout", "-q", "-o", "b", cwd=tmp_path).returncode == 0
    done = rootless("pack", "b", "-o", "layout/index.json", "--force", cwd=tmp_path)
    assert done.returncode == 1 and (tmp_path / "layout/index.json").read_bytes() == files["index.json"], done.stderr
    assert rootless("pack", "b", "-o", "out.tar", cwd=tmp_path).returncode == 0
    assert rootless("remove", "b", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    "tag",
    ["Bad Tag", "bad tag", "Upper", "a:", ":1", "a:b:c", "a/", "/a", "a//b", "a@sha256:0", "a:-1", "ä", "a\n", "-a"],
)
def test_tag_that_no_registry_takes_is_refused(bundle: Path, tag: str) -> None:
    done = rootless("pack", "b", "-o", "out.tar", f"--tag={tag}", cwd=bundle.parent)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "--tag" in done.stderr, done.stderr
    assert not bundle.with_name("out.tar").exists()


@pytest.mark.parametrize("tag", ["a", "a:1", "localhost:5000/a/b-c_d.e:V1", "Registry.Example.com/a", "x__y:_"])
def test_tag_of_every_form_is_taken(tag: str) -> None:
    assert is_name(tag)


def test_name_of_a_directory_becomes_a_name() -> None:
    for text in ("My Bundle", "..x", "ÄÖ", "a" * 300, "a__b.", "b:1"):
        assert is_name(name_of(text)), text


@pytest.mark.parametrize(
    "change", ["CMD", "ENTRYPOINT", "EXPOSE", "VOLUME", "VOLUME data", "USER", "ENV", "LABEL", "CMD "]
)
def test_instruction_without_a_value_is_refused(bundle: Path, change: str) -> None:
    bundle.with_name("r.tar").write_bytes(BASE + a.END)
    for command in (["import", "r.tar", "-o", "c"], ["pack", "b", "-o", "out.tar"]):
        done = rootless(*command, "--change", change, cwd=bundle.parent)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and change.split()[0] in done.stderr, done.stderr
    assert not bundle.with_name("c").exists() and not bundle.with_name("out.tar").exists()


@pytest.mark.parametrize("layout", FORMATS)
def test_inspect_of_a_bundle_has_the_sizes_of_the_layers(bundle: Path, layout: str) -> None:
    run_inside(bundle, "echo x > new")
    assert pack(bundle, bundle.with_name("out.tar"), format=layout).returncode == 0
    assert rootless("convert", "out.tar", "-q", "-o", "again", cwd=bundle.parent).returncode == 0
    shown = [rootless("inspect", what, cwd=bundle.parent).stdout for what in ("out.tar", "again")]
    sizes = [[line.split()[-2] for line in text.splitlines() if line.endswith(" bytes")] for text in shown]
    assert sizes[0] == sizes[1] and len(sizes[1]) == 2 and "0" not in sizes[1]


def test_inspect_of_an_import_has_the_size_or_says_that_it_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "r.tar").write_bytes(BASE + a.END)
    assert rootless("import", "r.tar", "-q", "-o", "b", cwd=tmp_path).returncode == 0
    assert f"{len(BASE + a.END)} bytes" in rootless("inspect", "b", cwd=tmp_path).stdout
    with subprocess.Popen(["cat", tmp_path / "r.tar"], stdout=subprocess.PIPE) as pipe:
        assert rootless("import", "-", "-q", "-o", "c", cwd=tmp_path, stdin=pipe.stdout).returncode == 0
    assert "unknown size" in rootless("inspect", "c", cwd=tmp_path).stdout
    for name in "bc":
        assert rootless("remove", name, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("history", [[None], "x", [{"created": 1, "created_by": []}]])
@pytest.mark.parametrize("family", ["docker", "oci"])
def test_history_of_any_form_is_packed_and_shown(tmp_path: Path, history: object, family: str) -> None:
    """It is only for people, so what is not a list of objects is left out."""
    archive = tmp_path / "base.tar"
    if family == "docker":
        archive.write_bytes(a.docker_archive([BASE + a.END], history=history))
    else:
        archive.write_bytes(a.tar_of(a.layout([BASE + a.END], patch={"history": history})))
    assert rootless("inspect", archive, cwd=tmp_path).returncode == 0
    assert rootless("convert", archive, "-q", "-o", "b", cwd=tmp_path).returncode == 0
    try:
        run_inside(tmp_path / "b", "touch new")
        for form in ("oci", "docker-legacy"):
            done = rootless("pack", "b", "-q", "--force", "--format", form, "-o", "new.tar", cwd=tmp_path)
            assert (done.returncode, done.stderr) == (0, ""), form
    finally:
        rootless("remove", "b", cwd=tmp_path)
