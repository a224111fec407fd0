"""contrib/debian fits the sources: its patch applies, its version is the program's, and the package is complete."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from rootless import __version__
from rootless.cli.options import COMMANDS

CHECKOUT = Path(__file__).resolve().parents[2]
DEBIAN = CHECKOUT / "contrib/debian"
NEEDED = (
    *("dpkg-dev", "debhelper", "dh-python", "pybuild-plugin-pyproject", "python3-all", "python3-setuptools"),
    *("python3-wheel", "python3-attr", "python3-click", "python3-jeepney"),
)


def test_its_version_is_the_programs() -> None:
    assert re.match(rf"rootless \({re.escape(__version__)}-\d+\) ", (DEBIAN / "changelog").read_text())


def test_the_patch_gives_what_old_setuptools_reads(tmp_path: Path) -> None:
    if not shutil.which("patch"):
        pytest.skip("this machine lacks patch")
    shutil.copyfile(CHECKOUT / "pyproject.toml", tmp_path / "pyproject.toml")
    with (DEBIAN / "patches/licence-table.patch").open() as patch:
        subprocess.run(["patch", "-p1", "--fuzz=0"], cwd=tmp_path, stdin=patch, check=True, capture_output=True)
    before, after = (tomllib.loads((place / "pyproject.toml").read_text()) for place in (CHECKOUT, tmp_path))
    assert after["project"]["license"] == {"text": before["project"]["license"]}
    before["project"]["license"] = after["project"]["license"]
    before["build-system"]["requires"] = after["build-system"]["requires"]
    assert after == before


def test_the_package_is_built_and_runs(tmp_path: Path) -> None:
    """Unpack the package in a directory: its launcher finds dist-packages beside itself."""
    if not shutil.which("dpkg-query"):
        pytest.skip("this machine lacks dpkg")
    query = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n", *NEEDED]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    present = {line.split()[1] for line in found.stdout.splitlines() if line.startswith("ii")}
    if missing := [name for name in NEEDED if name not in present]:
        pytest.skip(f"this machine lacks the Debian packages {' '.join(missing)}")
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("rootless", "oci", "bin", "docs/reference", "contrib", "scripts"):
        shutil.copytree(CHECKOUT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(CHECKOUT / name, clone)
    environment = {"TMPDIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    subprocess.run(
        ["scripts/debian.sh", str(tmp_path / "out")], cwd=clone, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    (package,) = (tmp_path / "out").glob("rootless_*_all.deb")
    root = tmp_path / "root"
    subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    done = subprocess.run([root / "usr/bin/rootless", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"rootless version {__version__}")
    share = root / "usr/share"
    assert {f"rootless-{name}.1.gz" for name in COMMANDS} <= {path.name for path in (share / "man/man1").iterdir()}
    for place in ("bash-completion/completions/rootless", "zsh/vendor-completions/_rootless",
                  "fish/vendor_completions.d/rootless.fish"):  # fmt: skip
        assert (share / place).is_file()
    listed = subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True, check=True).stdout
    assert "/rootless/py.typed" in listed and "__pycache__" not in listed
    assert (share / "rootless/apparmor/rootless").read_bytes() == (CHECKOUT / "contrib/apparmor/rootless").read_bytes()
    assert (root / "usr/lib/systemd/user/rootless@.service").is_file()
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".deb", ".dsc", ".gz", ".xz"}
