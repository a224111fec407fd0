"""Real archives: each gives exactly the tree that its expected listing holds, or is refused and leaves nothing."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("ROOTLESS_SHARED", CHECKOUT.parent / "shared"))
IMAGES, EXPECTED = SHARED / "fixtures/images", SHARED / "fixtures/expected"
PLAIN = ("rootfs-", "layer-", "tar-", "bundle-", "busybox-rootfs")
OCI_LAYOUT = ("oci-", "hybrid-hello-world")

pytestmark = pytest.mark.skipif(not IMAGES.is_dir(), reason="the shared image archives are not on this machine")


def rootless(*args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(CHECKOUT / "bin/rootless"), *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, errors="surrogateescape")


def expected() -> list[str]:
    if not EXPECTED.is_dir():
        return []
    return sorted(p.name.removesuffix(".txt.gz") for p in EXPECTED.iterdir() if not p.name.startswith("oci-"))


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


@pytest.mark.parametrize("name", expected())
def test_archive_gives_the_expected_tree(name: str, tmp_path: Path) -> None:
    archive = IMAGES / name.split("@")[0]
    image, want = read_expected(name)
    command: list[object] = ["import" if archive.name.startswith(PLAIN) else "convert", archive, "-o", tmp_path / "b"]
    if "@" in name and command[0] == "convert":
        command += ["--tag", image]
    converted = rootless(*command, cwd=tmp_path)
    assert converted.returncode == 0, converted.stderr
    listing = rootless(
        "unshare", sys.executable, Path(__file__).with_name("listing.py"), tmp_path / "b/rootfs", cwd=tmp_path
    )
    assert listing.returncode == 0, listing.stderr
    rows = {line.split("\t")[0]: line.split("\t") for line in listing.stdout.splitlines()}
    removed = rootless("remove", tmp_path / "b", cwd=tmp_path)
    assert sorted(rows) == sorted(want)
    owners = has_range()
    wrong = [(rows[path], want[path]) for path in want if not compare(rows[path], want[path], owners)]
    assert not wrong
    assert removed.returncode == 0, removed.stderr


REFUSED = [
    "manifest-null.tar",
    "manifest-layer-missing.tar",
    "manifest-windows.tar.gz",
    "manifest-stub-layers.tar.gz",
    "rootfs-dotdot.tar",
    "tar-negative-size.tar",
]


@pytest.mark.parametrize("name", REFUSED)
def test_broken_archive_is_refused_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    command = "import" if name.startswith(("rootfs-", "tar-")) else "convert"
    tag = ["--tag", "user/image:1"] if name == "manifest-stub-layers.tar.gz" else []
    run = rootless(command, IMAGES / name, "-o", tmp_path / "b", *tag, cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith("rootless: ") and run.stderr.count("\n") == 1, run.stderr
    assert os.listdir(tmp_path) == []
