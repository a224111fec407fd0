"""scripts/build.sh makes the same sdist and wheel from the same sources, and the wheel holds all that is installed."""

import gzip
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from rootless.cli.commands.completion import SCRIPTS
from rootless.cli.options import COMMANDS

CHECKOUT = Path(__file__).resolve().parents[2]
EPOCH = 1234567890
NAMES = ("rootless", "oci", "bin", "docs/reference", "scripts", "pyproject.toml", "README.md", "LICENSE")


def built(directory: Path, umask: int, **environment: str) -> Path:
    """Copy the sources with other times and modes into `directory`, build them, and return where the archives are."""
    try:
        version = metadata.version("setuptools")
        metadata.version("wheel")
    except metadata.PackageNotFoundError:
        pytest.skip("this interpreter lacks setuptools or wheel")
    if int(version.split(".")[0]) < 77:
        pytest.skip(f"setuptools {version} is older than 77")
    tree = directory / "tree"
    for name in NAMES:
        source, copy = CHECKOUT / name, tree / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, copy)
    for path in tree.rglob("*"):
        path.chmod((0o777 if path.is_dir() or path.parent.name in ("bin", "scripts") else 0o666) & ~umask)
    subprocess.run(
        ["sh", "-c", f'umask {umask:o}; exec scripts/build.sh "$1"', "sh", directory / "out"],
        cwd=tree, check=True,
        env={
            **os.environ, **environment,
            "PYTHON": sys.executable, "SOURCE_DATE_EPOCH": str(EPOCH), "TMPDIR": str(directory),
        },
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return directory / "out"


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("one"), 0o022, LC_ALL="C", PYTHONHASHSEED="1")


def test_another_clone_gives_the_same_archives(archives: Path, tmp_path: Path) -> None:
    other = built(tmp_path / "another", 0o077, LC_ALL="C.UTF-8", LANGUAGE="de", PYTHONHASHSEED="7", HOME=str(tmp_path))
    names = sorted(path.name for path in archives.iterdir())
    assert [name.rpartition(".")[2] for name in names] == ["whl", "gz"]
    assert names == sorted(path.name for path in other.iterdir())
    assert not [name for name in names if (archives / name).read_bytes() != (other / name).read_bytes()]


def test_the_wheel_holds_all_that_is_installed(archives: Path) -> None:
    (wheel,) = archives.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = {name.partition(".data/data/")[2] or name for name in opened.namelist()}
        times = {entry.date_time for entry in opened.infolist()}
        script = next(entry for entry in opened.infolist() if entry.filename.endswith(".data/scripts/rootless"))
        shell = opened.read(script)
    pages = {"rootless.1", *(f"rootless-{name}.1" for name in COMMANDS)}
    assert {f"share/man/man1/{page}" for page in pages} <= names
    completions = {
        "bash": "share/bash-completion/completions/rootless",
        "zsh": "share/zsh/site-functions/_rootless",
        "fish": "share/fish/vendor_completions.d/rootless.fish",
    }
    assert completions.keys() == SCRIPTS.keys() and set(completions.values()) <= names
    assert {"rootless/py.typed", "oci/py.typed", "rootless/__main__.py"} <= names
    sources = [path for top in ("rootless", "oci") for path in (CHECKOUT / top).rglob("*.py")]
    assert not [path for path in sources if str(path.relative_to(CHECKOUT)) not in names]
    assert len(times) == 1 and next(iter(times))[:3] == (2009, 2, 13)
    assert shell == (CHECKOUT / "bin/rootless").read_bytes() and script.external_attr >> 16 & 0o111 == 0o111


def test_the_sdist_says_nothing_about_the_machine(archives: Path) -> None:
    (sdist,) = archives.glob("*.tar.gz")
    assert gzip.open(sdist).read(1) and sdist.read_bytes()[4:8] == bytes(4)  # the time in gzip's own header
    with tarfile.open(sdist) as opened:
        members = opened.getmembers()
    assert {(member.mtime, member.uid, member.gid, member.uname) for member in members} == {(EPOCH, 0, 0, "")}
    assert {member.mode & 0o022 for member in members} == {0}
