"""Conversion beyond the fixtures: config.json, choice of image, compression, limits, interrupts."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oci import owners
from oci.errors import OciError
from oci.image import choose, read_images
from oci.image.blobs import open_archive
from oci.remove import recorded_files
from tests.support import archives as a
from tests.support.checkout import LAUNCHER
from tests.support.commands import call, rootless, tree

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:web:/srv/web:/bin/sh\n"
GROUP = b"root:x:0:\nweb:x:44:\nstaff:x:50:web,root\nextra:x:60:other,web\n"
ROOTFS = (
    a.directory("etc") + a.file("etc/passwd", PASSWD) + a.file("etc/group", GROUP) + a.directory("data")
    + a.file("data/f") + a.END
)  # fmt: skip


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """Return a directory whose bundles are removed afterwards as a user would remove them."""
    yield tmp_path
    for entry in os.listdir(tmp_path):
        if (tmp_path / entry / "config.json").exists():
            assert rootless("remove", entry, cwd=tmp_path).returncode == 0


def convert(work: Path, data: bytes, *args: object) -> subprocess.CompletedProcess[str]:
    (work / "image.tar").write_bytes(data)
    return rootless("convert", "image.tar", "-o", "b", *args, cwd=work)


def config_of(work: Path, image: dict[str, Any], *args: object, **patch: Any) -> dict[str, Any]:
    done = convert(work, a.docker_archive([ROOTFS], image, **patch), *args)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads((work / "b/config.json").read_text())
    return document


def is_single(work: Path) -> bool:
    return rootless("unshare", "cat", "/proc/self/uid_map", cwd=work).stdout.count("\n") == 1 and os.geteuid() != 0


# config.json


def test_entrypoint_and_cmd_are_the_program(work: Path) -> None:
    assert config_of(work, {"Entrypoint": ["/a", "b"], "Cmd": ["c"]})["process"]["args"] == ["/a", "b", "c"]


def test_program_is_a_shell_where_nothing_is_given(work: Path) -> None:
    assert config_of(work, {"Cmd": None})["process"]["args"] == ["/bin/sh"]


def test_environment_gets_a_path_and_the_home_of_passwd(work: Path) -> None:
    env = config_of(work, {"Env": ["A=1", "A=2", "B=x=y"], "User": "web"})["process"]["env"]
    assert [e for e in env if e.startswith("A=")] == ["A=2"] and "B=x=y" in env and "HOME=/srv/web" in env
    assert any(e.startswith("PATH=/usr/local/sbin:") for e in env)


def test_environment_of_the_image_wins(work: Path) -> None:
    env = config_of(work, {"Env": ["PATH=/x", "HOME=/h"], "User": "web"})["process"]["env"]
    assert env == ["PATH=/x", "HOME=/h"]


def test_working_directory_is_absolute(work: Path) -> None:
    assert config_of(work, {"WorkingDir": "srv"})["process"]["cwd"] == "/srv"


@pytest.mark.parametrize(
    ("user", "ids", "groups"),
    [
        ("", (0, 0), [0, 50]),
        ("web", (33, 44), [44, 50, 60]),
        ("33", (33, 44), [44, 50, 60]),
        ("web:staff", (33, 50), [50]),
        ("web:7", (33, 7), [7]),
        ("1234", (1234, 0), [0]),
        ("1234:5678", (1234, 5678), [5678]),
        ("0:0", (0, 0), [0]),
    ],
)
def test_user_by_name_and_number(work: Path, user: str, ids: tuple[int, int], groups: list[int]) -> None:
    """The group is also a supplementary one, as with docker and podman since CVE-2022-36109 and CVE-2022-2989."""
    found = config_of(work, {"User": user})["process"]["user"]
    assert (found["uid"], found["gid"]) == ids
    assert found.get("additionalGids") == (None if is_single(work) else groups)


def test_unknown_user_is_refused(work: Path) -> None:
    done = convert(work, a.docker_archive([ROOTFS], {"User": "nobody"}))
    assert done.returncode == 1 and "no user of that name: nobody" in done.stderr
    assert os.listdir(work) == ["image.tar"]


def test_annotations_follow_the_image_spec_and_labels_win(work: Path) -> None:
    image = {
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "StopSignal": "SIGQUIT", "Volumes": {"/data": {}},
        "Healthcheck": {"Test": ["CMD", "true"]}, "Labels": {"a": "b", "org.opencontainers.image.author": "label"},
    }  # fmt: skip
    found = config_of(work, image, author="me", created="2015-01-01T00:00:00Z", variant="v8")["annotations"]
    prefix = "org.opencontainers.image."
    assert found[prefix + "exposedPorts"] == "53/udp,80/tcp" and found[prefix + "stopSignal"] == "SIGQUIT"
    assert found[prefix + "author"] == "label" and found["a"] == "b"
    assert found[prefix + "created"] == "2015-01-01T00:00:00Z" and found[prefix + "os"] == "linux"
    assert found[prefix + "architecture"] == "amd64" and found[prefix + "variant"] == "v8"
    assert json.loads(found["org.rootless.image.healthcheck"]) == {"Test": ["CMD", "true"]}
    assert found["org.rootless.image.volumes"] == "/data"


def test_terminal_is_false_unless_asked_for(work: Path) -> None:
    assert config_of(work, {})["process"]["terminal"] is False
    rootless("remove", "b", cwd=work)
    process = config_of(work, {}, "--tty")["process"]
    assert process["terminal"] is True and "TERM=xterm" in process["env"]


def test_maps_are_those_that_the_files_were_written_with(work: Path) -> None:
    linux = config_of(work, {})["linux"]
    inside = [line.split() for line in rootless("unshare", "cat", "/proc/self/uid_map", cwd=work).stdout.splitlines()]
    if os.geteuid() == 0:
        assert "uidMappings" not in linux and {"type": "user"} not in linux["namespaces"]
    else:
        written = [[str(m["containerID"]), str(m["hostID"]), str(m["size"])] for m in linux["uidMappings"]]
        assert written == inside and {"type": "user"} in linux["namespaces"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root has all ids: this is about a user with one")
def test_single_id_maps_the_user_of_the_image(work: Path) -> None:
    done = convert(work, a.docker_archive([ROOTFS], {"User": "web"}), "--owners", "squash")
    assert done.returncode == 0 and "33:44 is mapped to you" in done.stderr
    config = json.loads((work / "b/config.json").read_text())
    assert config["linux"]["uidMappings"] == [{"containerID": 33, "hostID": os.getuid(), "size": 1}]
    assert config["linux"]["gidMappings"] == [{"containerID": 44, "hostID": os.getgid(), "size": 1}]
    assert "additionalGids" not in config["process"]["user"]


# Owners


@pytest.mark.skipif(os.geteuid() == 0, reason="root has all ids: this is about a range")
def test_owner_beyond_the_range_is_folded_and_counted_or_refused(work: Path) -> None:
    if is_single(work):
        pytest.skip("this user has no range in /etc/subuid")
    layer = a.file("f", uid=0o7777777 - 1) + a.file("g", uid=5, gid=6) + a.END
    refused = convert(work, a.docker_archive([layer]), "--owners", "strict")
    assert refused.returncode == 1 and "beyond your range" in refused.stderr and os.listdir(work) == ["image.tar"]
    done = convert(work, a.docker_archive([layer]))
    assert done.returncode == 0 and done.stderr.count("\n") == 1
    assert "1 files have owners beyond your range" in done.stderr and str(0o7777777 - 1) in done.stderr
    rows = {row.split("\t")[0]: row.split("\t") for row in tree(work / "b")}
    assert rows["f"][3] == "65534" and rows["g"][3:5] == ["5", "6"]


def test_capability_is_kept_in_the_users_namespace(work: Path) -> None:
    value = bytes.fromhex("0100000200040000000000000000000000000000")  # version 2, cap_net_bind_service+ep
    layer = a.pax({"SCHILY.xattr.security.capability": value}) + a.file("f", mode=0o755, uid=3) + a.END
    assert convert(work, a.docker_archive([layer])).returncode == 0
    script = "import os; print(os.getxattr('b/rootfs/f', 'security.capability').hex())"
    read = rootless("unshare", shutil.which("python3", path="/usr/bin"), "-c", script, cwd=work)
    if is_single(work):
        pytest.skip("this user has no range in /etc/subuid: the attribute is in the record only")
    assert read.stdout.strip() == value.hex()


@pytest.mark.parametrize(
    ("highest", "way_out"),
    [(70_000, "a range of 70000 ids"), (4294967290, "--owners xattr"), (2**32 - 2, "--owners xattr"), (2**32, "")],
)
def test_hint_for_an_owner_beyond_the_range_can_be_followed(highest: int, way_out: str) -> None:
    found = owners.Owners("map", [(0, 1000, 1), (1, 100000, 65536)], [(0, 1000, 1), (1, 100000, 65536)])
    assert found.owner_on_disk(highest, 0, "f") == (65534, 0)
    assert found.way_out().startswith(way_out) and bool(found.way_out()) == bool(way_out)


def test_rootlesscontainers_value_is_umocis() -> None:
    assert owners.encode(1000, 100) == b"\x08\xe8\x07\x10\x64" and owners.encode(0, 5) == b"\x10\x05"
    for ids in ((0, 0), (1, 0), (0, 1), (1000, 65534), (2**32 - 2, 2**31)):
        assert owners.decode(owners.encode(*ids)) == ids
    assert owners.decode(b"\x08\xff\xff\xff\xff\x0f\x10\x2a") == (0, 42)


def test_setgid_directory_above_hands_nothing_down(work: Path) -> None:
    os.chmod(work, 0o2755)
    assert convert(work, a.docker_archive([ROOTFS])).returncode == 0
    assert os.lstat(work / "b/rootfs/etc").st_mode & 0o7777 == 0o755
    assert os.lstat(work / "b").st_mode & 0o7777 == 0o700


# Which image


def index(*images: tuple[str, str, str]) -> bytes:
    """Return a layout of (ref name, architecture, variant)."""
    files: dict[str, bytes] = {}
    manifests = []
    for name, architecture, variant in images:
        one = a.layout([a.file("arch", (architecture + variant).encode()) + a.END])
        manifest = json.loads(one["index.json"])["manifests"][0]
        path = "blobs/" + manifest["digest"].replace(":", "/")
        document = json.loads(one[path])
        config_path = "blobs/" + document["config"]["digest"].replace(":", "/")
        config = a.dumped({**json.loads(one[config_path]), "architecture": architecture, "variant": variant})
        digest = hashlib.sha256(config).hexdigest()
        document["config"] |= {"digest": f"sha256:{digest}", "size": len(config)}
        data = a.dumped(document)
        top = hashlib.sha256(data).hexdigest()
        files |= one | {f"blobs/sha256/{digest}": config, f"blobs/sha256/{top}": data}
        manifests.append(
            {**manifest, "digest": f"sha256:{top}", "size": len(data),
             "annotations": {"org.opencontainers.image.ref.name": name}}
        )  # fmt: skip
    return a.tar_of({**files, "index.json": a.dumped({"manifests": manifests})})


def chosen(work: Path, data: bytes, *args: str) -> str:
    (work / "i.tar").write_bytes(data)
    with open_archive(str(work / "i.tar")) as archive:
        return choose(read_images(archive), *args).platform


def test_platform_of_the_host_is_the_default(work: Path) -> None:
    host = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine)
    if host is None:
        pytest.skip(f"no name for the machine {os.uname().machine} in this test")
    data = index(("v1", "s390x", ""), ("v1", "amd64", ""), ("v1", "arm64", "v8"))
    assert chosen(work, data).startswith(f"linux/{host}")
    assert chosen(work, data, "v1", "linux/s390x") == "linux/s390x"
    assert chosen(work, data, "", "linux/arm64") == "linux/arm64/v8"


def test_platform_that_is_not_there_is_refused_with_a_list(work: Path) -> None:
    with pytest.raises(OciError, match=r"no image for linux/riscv64.*linux/s390x"):
        chosen(work, index(("v1", "s390x", ""), ("v1", "amd64", "")), "", "linux/riscv64")


def test_arm_takes_the_newest_variant_that_runs(work: Path) -> None:
    data = index(("v1", "arm", "v5"), ("v1", "arm", "v6"), ("v1", "arm", "v7"))
    assert chosen(work, data, "", "linux/arm/v6") == "linux/arm/v6"
    assert chosen(work, data, "", "linux/arm") == "linux/arm/v7"


def test_foreign_image_converts_with_a_warning(work: Path) -> None:
    done = convert(work, index(("v1", "s390x", "")))
    assert done.returncode == 0 and "linux/s390x" in done.stderr and done.stderr.count("\n") == 1


def test_several_images_are_listed_and_picked_by_name_digest_and_position(work: Path) -> None:
    data = index(("one", "amd64", ""), ("two:v1", "amd64", "v2"))
    refused = convert(work, data)
    assert refused.returncode == 1 and "one" in refused.stderr and "two:v1" in refused.stderr
    listed = json.loads(rootless("convert", "--list", "--json", "image.tar", cwd=work).stdout)
    assert [image["names"] for image in listed] == [["one"], ["two:v1"]]
    for tag in ("two:v1", "@1", listed[1]["digest"], listed[1]["digest"][7:19]):
        assert chosen(work, data, tag) == "linux/amd64/v2"
    head, *rows = rootless("convert", "--list", "image.tar", cwd=work).stdout.splitlines()
    assert head.split() == ["NAME", "DIGEST", "PLATFORM", "LAYERS", "SIZE"]
    assert [row.split()[0] for row in rows] == ["one", "two:v1"] and "linux/amd64/v2" in rows[1]
    assert max(map(len, rows)) < 80 and rows[1].endswith("KB")


def test_tag_may_leave_out_what_docker_adds(work: Path) -> None:
    data = a.docker_archive([ROOTFS]).replace(b'"test:1"', b'"docker.io/library/t:latest"')
    members = {"config.json": a.dumped({"os": "linux", "rootfs": {}}), "manifest.json": a.dumped(
        [{"Config": "config.json", "RepoTags": ["docker.io/library/t:latest"], "Layers": []}])}  # fmt: skip
    data = a.tar_of(members)
    for tag in ("t", "t:latest", "docker.io/library/t", "library/t:latest"):
        assert chosen(work, data, tag) == "linux/unknown"
    with pytest.raises(OciError, match="no image 'u'"):
        chosen(work, data, "u")


def test_inspect_shows_config_history_and_layers(work: Path) -> None:
    (work / "image.tar").write_bytes(a.docker_archive([ROOTFS], {"Env": ["A=b"]}, history=[{"created_by": "made"}]))
    shown = call("inspect", work, image="image.tar", tag="", platform="", json=False)
    assert shown.returncode == 0, shown.stderr
    assert "test:1" in shown.stdout and '["A=b"]' in shown.stdout and "made" in shown.stdout
    document = json.loads(call("inspect", work, image="image.tar", tag="", platform="", json=True).stdout)
    assert document["layers"][0]["diffId"] == "sha256:" + hashlib.sha256(ROOTFS).hexdigest()
    assert convert(work, (work / "image.tar").read_bytes()).returncode == 0
    assert json.loads(call("inspect", work, image="b", tag="", platform="", json=True).stdout)["names"] == ["test:1"]


# Compression


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout


def lz4(data: bytes) -> bytes:
    return subprocess.run(["lz4", "-qc"], input=data, capture_output=True, check=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd, "lz4": lz4,
}  # fmt: skip


def packer(name: str) -> Callable[[bytes], bytes]:
    if name in ("zstd", "lz4") and not shutil.which(name):
        pytest.skip(f"the program {name} is not installed")
    return PACKERS[name]


@pytest.mark.parametrize("name", PACKERS)
def test_compressed_layer_and_archive(work: Path, name: str) -> None:
    press = packer(name)
    layer = a.file("f", os.urandom(300_000)) + a.END
    data = a.docker_archive([press(layer)], rootfs={"diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]})
    done = convert(work, press(data))
    assert done.returncode == 0, done.stderr
    assert (work / "b/rootfs/f").read_bytes() == layer[512:300_512]


@pytest.mark.parametrize("name", PACKERS)
def test_compressed_layer_in_several_members_as_estargz_has(work: Path, name: str) -> None:
    press = packer(name)
    layer = a.file("f", os.urandom(3000)) + a.file("g", b"g") + a.END
    data = a.docker_archive([press(layer[:700]) + press(layer[700:])], rootfs={"diff_ids": []})
    done = convert(work, data)
    assert done.returncode == 0, done.stderr
    assert (work / "b/rootfs/g").read_bytes() == b"g"


def test_zstd_chunked_layer_has_frames_that_are_skipped(work: Path) -> None:
    press = packer("zstd")
    layer = a.file("f", b"f") + a.file("g", b"g") + a.END
    skipped = (0x184D2A50).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(64)
    data = a.docker_archive([press(layer[:512]) + press(layer[512:]) + skipped], rootfs={"diff_ids": []})
    done = convert(work, data)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(work / "b/rootfs")) == ["f", "g"]


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("cut", [12, 1000, -8, -1])
def test_truncated_compression_is_refused(work: Path, name: str, cut: int) -> None:
    layer = packer(name)(a.file("f", os.urandom(3000)) + a.END)[:cut]
    done = convert(work, a.docker_archive([layer], rootfs={"diff_ids": []}))
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "truncated" in done.stderr, done.stderr
    assert os.listdir(work) == ["image.tar"]


@pytest.mark.parametrize(("name", "package"), [("zstd", "backports.zstd"), ("lz4", "lz4")])
def test_a_compression_without_its_library_names_the_package(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    from oci import compression

    for module in ("compression.zstd", "backports.zstd", "lz4.frame"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OciError, match=f"{name} compression needs a library.*pip install {package}"):
        b"".join(compression.decompress(name, iter([b"x"]), "x"))


def test_a_library_that_cannot_be_loaded_is_not_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from oci import compression

    def fail(name: str) -> None:
        raise ImportError(f"{name}: cannot open shared object file: Too many open files")

    monkeypatch.setattr(compression.importlib, "import_module", fail)
    for name in ("zstd", "lz4", "gzip"):
        with pytest.raises(ImportError, match="Too many open files"):
            b"".join(compression.decompress(name, iter([b"x"]), "x"))


def test_gzip_without_the_fast_library_goes_through_zlib(monkeypatch: pytest.MonkeyPatch) -> None:
    from oci import compression

    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    data = gzip.compress(b"x" * 1_000_000) + gzip.compress(b"y")
    assert b"".join(compression.decompress("gzip", iter([data[:10], data[10:]]), "x")) == b"x" * 1_000_000 + b"y"
    with pytest.raises(OciError, match="truncated gzip"):
        b"".join(compression.decompress("gzip", iter([data[:500]]), "x"))


# Our reader and the standard library's


@pytest.mark.parametrize("style", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files_of_gnu_tar(work: Path, style: str) -> None:
    with open(work / "sparse", "wb") as file:
        for offset in range(0, 40 << 20, 1 << 20):
            os.pwrite(file.fileno(), b"data" * 1024, offset)
        os.ftruncate(file.fileno(), 50 << 20)
    want = hashlib.sha256((work / "sparse").read_bytes()).hexdigest()
    how = ["--format=gnu"] if style == "gnu" else ["--format=posix", f"--sparse-version={style}"]
    subprocess.run(["tar", "-S", *how, "-cf", "s.tar", "sparse", "--remove-files"], cwd=work, check=True)
    assert (work / "s.tar").stat().st_size < 2 << 20
    done = rootless("import", "s.tar", "-o", "b", cwd=work)
    assert done.returncode == 0, done.stderr
    st = os.lstat(work / "b/rootfs/sparse")
    assert st.st_size == 50 << 20 and st.st_blocks * 512 < 10 << 20
    assert hashlib.sha256((work / "b/rootfs/sparse").read_bytes()).hexdigest() == want


# Layers


def test_mtime_has_nanoseconds_and_may_be_before_1970(work: Path) -> None:
    layer = a.pax({"mtime": "1420070400.123456789"}) + a.file("f") + a.pax({"mtime": "-5.5"}) + a.file("g") + a.END
    assert convert(work, a.docker_archive([layer])).returncode == 0
    assert os.lstat(work / "b/rootfs/f").st_mtime_ns == 1420070400123456789
    assert os.lstat(work / "b/rootfs/g").st_mtime_ns == -5500000000


def test_overlayfs_whiteouts_are_known_too(work: Path) -> None:
    lower = a.file("gone") + a.directory("d") + a.file("d/old") + a.END
    upper = a.header("gone", type_=b"3") + a.pax({"SCHILY.xattr.trusted.overlay.opaque": "y"}) + a.directory("d")
    assert convert(work, a.docker_archive([lower, upper + a.file("d/new") + a.END])).returncode == 0
    assert sorted(os.listdir(work / "b/rootfs")) == ["d"] and os.listdir(work / "b/rootfs/d") == ["new"]


def test_whiteout_that_comes_after_its_siblings_spares_them(work: Path) -> None:
    lower = a.directory("d") + a.file("d/old") + a.directory("d/sub") + a.file("d/sub/old") + a.END
    upper = a.file("d/sub/new") + a.file("d/new") + a.file("d/.wh..wh..opq", b"") + a.file(".wh.other", b"") + a.END
    assert convert(work, a.docker_archive([lower, upper])).returncode == 0
    assert sorted(os.listdir(work / "b/rootfs/d")) == ["new", "sub"]
    assert os.listdir(work / "b/rootfs/d/sub") == ["new"]


def test_hard_links_to_the_branch_of_aufs(work: Path) -> None:
    plink = b".wh..wh.plnk/12.34"
    layer = a.file(plink, b"linked", mode=0o600) + a.hard_link("a", plink) + a.hard_link("b", plink) + a.END
    assert convert(work, a.docker_archive([layer])).returncode == 0
    one, two = (os.lstat(work / "b/rootfs" / name) for name in "ab")
    assert one.st_ino == two.st_ino and one.st_nlink == 2 and (work / "b/rootfs/a").read_bytes() == b"linked"
    assert os.listdir(work / "b/.oci") and sorted(os.listdir(work / "b/rootfs")) == ["a", "b"]


def test_last_of_duplicate_members_wins(work: Path) -> None:
    layer = a.file("f", b"1") + a.directory("d") + a.file("d/x") + a.file("f", b"2") + a.file("d", b"3") + a.END
    assert convert(work, a.docker_archive([layer])).returncode == 0
    assert (work / "b/rootfs/f").read_bytes() == b"2" and (work / "b/rootfs/d").read_bytes() == b"3"


# Import


def test_import_of_a_pipe_takes_one_pass(work: Path) -> None:
    command = [LAUNCHER, "import", "-", "-o", "b", "--arg", "/bin/x", "--arg", "y"]
    done = subprocess.run(command, cwd=work, input=gzip.compress(ROOTFS), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((work / "b/config.json").read_text())["process"]["args"] == ["/bin/x", "y"]


def test_import_with_changes(work: Path) -> None:
    (work / "r.tar").write_bytes(ROOTFS)
    changes = ['CMD ["a", "b"]', "ENTRYPOINT /e", "ENV A=1 B='x y'", "USER web", "WORKDIR /w", "LABEL k=v", "EXPOSE 80",
               'VOLUME ["/data"]', "STOPSIGNAL SIGINT"]  # fmt: skip
    flags = [word for change in changes for word in ("--change", change)]
    done = rootless("import", "r.tar", "-o", "b", *flags, cwd=work)
    assert done.returncode == 0, done.stderr
    config = json.loads((work / "b/config.json").read_text())
    assert config["process"]["args"] == ["/bin/sh", "-c", "/e", "a", "b"] and config["process"]["cwd"] == "/w"
    assert "B=x y" in config["process"]["env"] and config["process"]["user"]["uid"] == 33
    assert config["annotations"]["k"] == "v"
    refused = rootless("import", "r.tar", "-o", "c", "--change", "RUN rm", cwd=work)
    assert refused.returncode == 1 and "unknown instruction 'RUN'" in refused.stderr


@pytest.mark.parametrize(
    "change", ["CMD", "CMD ", "ENTRYPOINT", "USER", "ENV", "ENV A", "ENV A ", "ENV =x", "LABEL k", ""]
)
def test_a_change_without_a_value_is_refused(work: Path, change: str) -> None:
    (work / "r.tar").write_bytes(ROOTFS)
    refused = rootless("import", "r.tar", "-o", "c", "--change", change, cwd=work)
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1 and "--change" in refused.stderr
    assert not (work / "c").exists()


def test_import_and_convert_name_each_other(work: Path) -> None:
    (work / "r.tar").write_bytes(ROOTFS)
    (work / "i.tar").write_bytes(a.docker_archive([ROOTFS]))
    wrong = rootless("convert", "r.tar", cwd=work)
    assert wrong.returncode == 1 and "import" in wrong.stderr
    other = rootless("import", "i.tar", cwd=work)
    assert other.returncode == 1 and "convert" in other.stderr
    assert sorted(os.listdir(work)) == ["i.tar", "r.tar"]


# The bundle


def test_existing_target_is_refused_and_replaced_by_force_only_if_it_is_a_bundle(work: Path) -> None:
    assert convert(work, a.docker_archive([ROOTFS])).returncode == 0
    assert "exists already" in convert(work, a.docker_archive([ROOTFS])).stderr
    assert convert(work, a.docker_archive([a.file("other") + a.END]), "--force").returncode == 0
    assert os.listdir(work / "b/rootfs") == ["other"]
    (work / "mine").mkdir()
    (work / "mine/thesis").write_text("x")
    refused = rootless("convert", "image.tar", "-o", "mine", "--force", cwd=work)
    assert refused.returncode == 1 and "not a bundle" in refused.stderr and (work / "mine/thesis").exists()


def test_limits_are_flags(work: Path) -> None:
    data = a.docker_archive([a.file("f", bytes(100_000)) + a.END])
    for flags, words in (
        (["--max-size", "10k"], "--max-size"),
        (["--max-files", "0"], ""),
        (["--max-size", "x"], "not a size"),
    ):
        done = convert(work, data, *flags)
        assert words in done.stderr
        if not words:
            assert done.returncode == 0
            rootless("remove", "b", cwd=work)
    assert os.listdir(work) == ["image.tar"]


def test_full_file_system_leaves_nothing(work: Path) -> None:
    (work / "image.tar").write_bytes(a.docker_archive([a.file("f", bytes(4 << 20)) + a.END]))
    (work / "small").mkdir()
    script = f"mount -t tmpfs -o size=1m none small && {LAUNCHER} convert image.tar -o small/b; echo $?; ls -A small"
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    assert done.stdout == "1\n", done.stderr
    assert "ENOSPC" in done.stderr and done.stderr.count("\n") == 1


def test_unwritable_place_is_named(work: Path) -> None:
    done = convert(work, a.docker_archive([ROOTFS]))
    refused = rootless("convert", "image.tar", "-o", "/proc/b", cwd=work)
    assert done.returncode == 0 and refused.returncode == 1 and "/proc" in refused.stderr
    missing = rootless("convert", "image.tar", "-o", "no/such/b", cwd=work)
    assert missing.returncode == 1 and "ENOENT" in missing.stderr


def test_remove_takes_unwritable_and_very_deep_trees(work: Path) -> None:
    assert convert(work, a.docker_archive([a.directory("d", mode=0) + a.file("d/f", uid=9) + a.END])).returncode == 0
    deep = "import os\nfor _ in range(3000):\n    os.mkdir('deep'); os.chdir('deep')\n"
    made = rootless("unshare", "/usr/bin/python3", "-c", deep, cwd=work / "b/rootfs")
    assert made.returncode == 0, made.stderr
    removed = rootless("remove", "b", cwd=work)
    assert removed.returncode == 0, removed.stderr
    assert os.listdir(work) == ["image.tar"]


def test_volumes_on_request(work: Path) -> None:
    (work / "image.tar").write_bytes(a.docker_archive([ROOTFS], {"Volumes": {"/data": {}}}))
    options = {
        "image": "image.tar", "output": "b", "owners": "", "force": True, "tty": False, "quiet": True, "max_size": "",
        "max_files": 0, "tag": "", "platform": "", "list": False, "json": False,
    }  # fmt: skip
    for kind in ("tmpfs", "bind"):
        done = call("convert", work, volumes=kind, **options)
        assert done.returncode == 0, done.stderr
        mounts = json.loads((work / "b/config.json").read_text())["mounts"]
        assert [m["type"] for m in mounts if m["destination"] == "/data"] == [kind]
    assert os.listdir(work / "b/volumes/0") == ["f"]
    refused = call("convert", work, volumes="x", **options)
    assert refused.returncode == 1 and "--volumes" in refused.stderr


def test_the_record_of_a_bundle_counts_its_files(work: Path) -> None:
    assert recorded_files(str(work)) == 0
    assert convert(work, a.docker_archive([ROOTFS]), "-o", "b").returncode == 0
    inside = [name for _, directories, files in os.walk(work / "b/rootfs") for name in (*directories, *files)]
    assert len(inside) <= recorded_files(str(work / "b")) <= len(inside) + 3


def test_a_record_that_is_a_fifo_is_not_waited_for(work: Path) -> None:
    """Another user's bundle may have one, and nobody ever writes to it."""
    for name, words in (("image.json", "inspect b"), ("base.mtree", "pack b -o o.tar"), ("base.mtree", "remove b")):
        assert convert(work, a.docker_archive([ROOTFS]), "--force").returncode == 0
        (work / "b/.oci" / name).unlink()
        os.mkfifo(work / "b/.oci" / name)
        done = rootless(*words.split(), cwd=work, timeout=60)
        assert (done.returncode, "EINVAL" in done.stderr) == ((0, False) if words == "remove b" else (1, True))
