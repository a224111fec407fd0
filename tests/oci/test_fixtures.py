"""Each real archive gives exactly the tree of its expected listing, or is refused and leaves nothing."""

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oci.owners import decode
from oci.remove import remove_tree
from tests.support import archives as a
from tests.support.checkout import CHECKOUT
from tests.support.commands import EXPECTED, IMAGES, readable

PLAIN = ("rootfs-", "layer-", "tar-", "bundle-", "busybox-rootfs")

pytestmark = pytest.mark.skipif(not os.path.isdir(IMAGES), reason="the shared image archives are not on this machine")


def rootless(*args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(CHECKOUT / "bin/rootless"), *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, errors="surrogateescape")


def expected() -> list[str]:
    if not readable(EXPECTED):
        return []
    return sorted(p.name.removesuffix(".txt.gz") for p in EXPECTED.iterdir())


def has_range() -> bool:
    run = rootless("unshare", "cat", "/proc/self/uid_map", cwd=Path("/"))
    return os.geteuid() == 0 or len(run.stdout.splitlines()) > 1


def read_expected(name: str) -> tuple[str, dict[str, list[str]]]:
    with gzip.open(EXPECTED / f"{name}.txt.gz", "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    image = next((line[8:] for line in lines if line.startswith("# image ")), "")
    rows = (line.split("\t") for line in lines if not line.startswith("#"))
    return image, {row[0]: row for row in rows}


def compare(row: list[str], want: list[str], owners: bool) -> bool:
    kind = want[1]
    if kind in "cb":  # devices become empty files
        return row[1] == "f" and row[5] == "0"
    fields = [0, 1, 2, 5, 6, 8] + ([3, 4] if owners and max(int(want[3]), int(want[4])) < 65534 else [])
    if kind in "fl" and want[7] != "-":
        fields.append(7)
    if any(row[i] != want[i] for i in fields):
        return False
    user = {x for x in want[9].split(";") if x.startswith("user.")}
    return kind not in "fd" or set(row[9].split(";")) - {"-"} == user


def read_tree(bundle: Path) -> dict[str, list[str]]:
    """Return the listing of a bundle's rootfs, with the owners as the container sees them if they are mapped."""
    script = [sys.executable, str(CHECKOUT / "tests/support/listing.py"), str(bundle / "rootfs")]
    listing = rootless("unshare", *script, cwd=bundle)
    assert listing.returncode == 0, listing.stderr
    return {line.split("\t")[0]: line.split("\t") for line in listing.stdout.splitlines()}


def command_for(name: str, image: str) -> tuple[list[str], Path]:
    """Return (convert or import with the right --tag, archive) for an expected listing."""
    archive = IMAGES / name.split("@")[0]
    if archive.name.startswith(PLAIN):
        return ["import"], archive
    return ["convert", *(["--tag", image] if "@" in name else [])], archive


def check(bundle: Path, want: dict[str, list[str]], *, owners: bool) -> None:
    rows = read_tree(bundle)
    assert sorted(rows) == sorted(want)
    assert not [(rows[path], want[path]) for path in want if not compare(rows[path], want[path], owners)]
    removed = rootless("remove", bundle, cwd=bundle.parent)
    assert removed.returncode == 0, removed.stderr
    assert os.listdir(bundle.parent) == []


@pytest.mark.parametrize("name", expected())
def test_archive_gives_the_expected_tree(name: str, tmp_path: Path) -> None:
    image, want = read_expected(name)
    command, archive = command_for(name, image)
    converted = rootless(*command, archive, "-o", tmp_path / "b", cwd=tmp_path)
    assert converted.returncode == 0, converted.stderr
    check(tmp_path / "b", want, owners=has_range())


@pytest.mark.parametrize("name", expected())
def test_archive_on_standard_input_gives_the_same_tree(name: str, tmp_path: Path) -> None:
    image, want = read_expected(name)
    command, archive = command_for(name, image)
    command = [str(CHECKOUT / "bin/rootless"), *command, "-", "-o", str(tmp_path / "b")]
    with subprocess.Popen(["cat", archive], stdout=subprocess.PIPE) as pipe:
        converted = subprocess.run(command, stdin=pipe.stdout, capture_output=True, text=True, check=False)
    assert converted.returncode == 0, converted.stderr
    check(tmp_path / "b", want, owners=has_range())


IMAGE_ARCHIVES = [name for name in expected() if not name.startswith(PLAIN) and not name.split("@")[0].endswith("gz")]


@pytest.mark.parametrize("name", IMAGE_ARCHIVES)
def test_directory_gives_the_same_tree(name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    image, want = read_expected(name)
    command, archive = command_for(name, image)
    directory = tmp_path_factory.mktemp("archive")
    subprocess.run(["tar", "-C", directory, "-xf", archive], check=True)
    converted = rootless(*command, directory, "-o", tmp_path / "b", cwd=tmp_path)
    assert converted.returncode == 0, converted.stderr
    check(tmp_path / "b", want, owners=has_range())


@pytest.mark.parametrize("how", ["xattr", "squash"])
@pytest.mark.parametrize("name", expected())
def test_without_a_map_everything_is_the_users(
    name: str, how: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The package itself converts a file, a pipe and a directory, and needs no user namespace for this."""
    image, want = read_expected(name)
    command, archive = command_for(name, image)
    tag = image if "@" in name else ""
    bundles = []
    for source, place in sources(archive, tmp_path_factory.mktemp("archive"), directory=name in IMAGE_ARCHIVES):
        bundles.append(tmp_path / source)
        if command[0] == "import":
            a.unpack_rootfs(place, bundles[-1], how)
        else:
            a.unpack(place, bundles[-1], how, tag)
    for bundle in bundles:
        assert {os.lstat(path).st_uid for path in (bundle / "rootfs").rglob("*")} <= {os.geteuid()}
        if how == "xattr":
            take_kept_owners(bundle / "rootfs", want)
        rows = read_tree(bundle)
        assert sorted(rows) == sorted(want)
        assert not [(rows[path], want[path]) for path in want if not compare(rows[path], want[path], False)]
        remove_tree(str(bundle))


def sources(archive: Path, work: Path, *, directory: bool) -> Iterator[tuple[str, Path]]:
    """Yield (what it is, path): the archive as it is, as a pipe, and unpacked if that makes sense."""
    yield "file", archive
    ours, theirs = os.pipe()
    with subprocess.Popen(["cat", archive], stdout=theirs):
        os.close(theirs)
        yield "pipe", Path(f"/proc/self/fd/{ours}")
        os.close(ours)
    if directory:
        subprocess.run(["tar", "-C", work, "-xf", archive], check=True)
        yield "directory", work


def take_kept_owners(rootfs: Path, want: dict[str, list[str]]) -> None:
    """Compare user.rootlesscontainers with the expected owners, and take it away: the rest is as expected then."""
    kept: dict[int, list[str]] = {}
    for path, row in want.items():
        if row[1] in "fd" and (row[3], row[4]) != ("0", "0"):
            inode = os.lstat(rootfs / path).st_ino  # hard links of one file have the same attribute
            kept.setdefault(inode, []).append(path)
    for paths in kept.values():
        row, path = want[paths[0]], rootfs / paths[0]
        assert decode(os.getxattr(path, "user.rootlesscontainers")) == (int(row[3]), int(row[4]))
        os.chmod(path, 0o600)
        os.removexattr(path, "user.rootlesscontainers")
        os.chmod(path, int(row[2], 8))


REFUSED = [
    "manifest-null.tar",
    "manifest-layer-missing.tar",
    "manifest-windows.tar.gz",
    "manifest-stub-layers.tar.gz",
    "rootfs-dotdot.tar",
    "tar-negative-size.tar",
    "oci-blob-missing.tar",
    "oci-no-manifests.tar",
    "oci-broken-layers.tar",
]


@pytest.mark.parametrize("name", REFUSED)
def test_broken_archive_is_refused_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    command = "import" if name.startswith(("rootfs-", "tar-")) else "convert"
    tag = ["--tag", "user/image:1"] if name == "manifest-stub-layers.tar.gz" else []
    run = rootless(command, IMAGES / name, "-o", tmp_path / "b", *tag, cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith("rootless: ") and run.stderr.count("\n") == 1, run.stderr
    assert os.listdir(tmp_path) == []
