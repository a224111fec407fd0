"""A release has a lock file, a bill of materials and notes besides its archives."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from rootless import __version__

CHECKOUT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
LOCK = (CHECKOUT / "requirements-dev.lock").read_text()
BLOCKS = [block for block in re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE) if "==" in block]
REQUIREMENTS = [
    *PROJECT["dependencies"],
    *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
]


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


@pytest.mark.parametrize("requirement", sorted(set(REQUIREMENTS)))
def test_the_lock_satisfies_pyproject(requirement: str) -> None:
    """pyproject.toml uses no operator but >=."""
    parsed = re.fullmatch(r"([A-Za-z0-9._-]+)>=([0-9.]+)(; .*)?", requirement)
    assert parsed
    name = re.sub(r"[-_.]+", "-", parsed[1].lower())
    versions = [found[1] for block in BLOCKS if (found := re.match(rf"{re.escape(name)}==(\S+)", block))]
    assert versions, f"{name} is not in requirements-dev.lock: make lock"
    assert all(numbers(version) >= numbers(parsed[2]) for version in versions)


def test_all_that_is_locked_has_digests() -> None:
    assert len(BLOCKS) > 30
    assert [block.split()[0] for block in BLOCKS if not re.search(r"--hash=sha256:[0-9a-f]{64}", block)] == []
    assert "--index-url" not in LOCK and "file://" not in LOCK


def call(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Return a wheel with the metadata that setuptools writes for this pyproject.toml."""
    extras = PROJECT["optional-dependencies"].items()
    lines = [
        f"Name: rootless\nVersion: {__version__}\nSummary: {PROJECT['description']}\nLicense-Expression: Apache-2.0"
    ]
    lines += [f"Requires-Dist: {each}" for each in PROJECT["dependencies"]]
    lines += [f'Requires-Dist: {each}; extra == "{name}"' for name, each in ((n, e) for n, es in extras for e in es)]
    path = tmp_path / f"rootless-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"rootless-{__version__}.dist-info/METADATA", "\n".join(["Metadata-Version: 2.4", *lines]) + "\n\ntext\n"
        )
    return path


def test_the_bill_of_materials_names_what_pip_installs(wheel: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        done = call(CHECKOUT / "scripts/sbom.py", wheel, tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    bill = json.loads((tmp_path / "one").read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["version"]) == ("CycloneDX", __version__)
    scopes = {each["name"]: each["scope"] for each in bill["components"]}
    assert [name for name, scope in scopes.items() if scope == "required"] == ["attrs", "click", "jeepney"]
    assert {"backports-zstd", "lz4", "isal"} <= scopes.keys() and not {"pytest", "mypy"} & scopes.keys()
    for each in bill["components"]:
        assert f"{each['name']}=={each['version']}" in LOCK and each["externalReferences"][0]["hashes"]


def test_notes_of_a_release() -> None:
    done = call(CHECKOUT / "scripts/release_notes.py")
    assert done.returncode == 0 and done.stdout == call(CHECKOUT / "scripts/release_notes.py", __version__).stdout
    assert "## " not in done.stdout and len(done.stdout.splitlines()) > 10
    assert not re.search(r"\]\((?!https://|#)", done.stdout)
    none = call(CHECKOUT / "scripts/release_notes.py", "99.0")
    assert none.returncode == 1 and none.stderr == "release_notes: CHANGELOG.md has no section 99.0\n"
