"""`cache ls` lists the code cache of installations that are gone; `cache prune` and `doctor --clean` remove it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rootless.startup import codecache
from tests.support.containers import Rootless

Put = Callable[[str, str], Path]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Write a file for a command and an installation, named as startup/codecache.py names it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache/rootless/code"
    folder.mkdir(parents=True)
    for directory in (tmp_path / "cache", folder.parent, folder):
        directory.chmod(0o700)

    def write(command: str, package: str) -> Path:
        monkeypatch.setattr(codecache, "PACKAGE", f"{package}/")
        path = folder / codecache.users_name(command)
        path.write_bytes(b"code")
        return path

    return write


def install(package: Path) -> str:
    (package / "startup").mkdir(parents=True)
    (package / "startup/codecache.py").touch()
    return str(package)


def test_code_of_a_removed_installation_goes(rootless: Rootless, put: Put, tmp_path: Path) -> None:
    here = put("run", install(tmp_path / "here/rootless"))
    odd = put("run", install(tmp_path / "100%/rootless"))
    gone = [put(command, f"{tmp_path}/gone/rootless") for command in ("run", "kill")]
    half = Path(f"{gone[0]}.0123456789abcdef")
    half.touch()
    own = {here, odd}
    (entry,) = (e for e in json.loads(rootless("cache", "ls", "--json").stdout) if e["kind"] == "code")
    assert entry["package"] == f"{tmp_path}/gone/rootless"
    assert sorted(entry["files"]) == sorted(path.name for path in (*gone, half))
    assert f"{tmp_path}/gone/rootless (not there any more)" in rootless("cache", "ls").stdout
    assert "code of 1 old installations removed" in rootless("cache", "prune").stdout
    assert not any(path.exists() for path in (*gone, half)) and all(path.exists() for path in own)
    assert "old installations" not in rootless("cache", "prune").stdout


def test_doctor_clean_removes_it(rootless: Rootless, put: Put, tmp_path: Path) -> None:
    gone = put("run", f"{tmp_path}/gone/rootless")
    assert f"code       {tmp_path}/gone/rootless\n" in rootless("doctor", "--clean").stdout
    assert not gone.exists()


def test_code_of_a_replaced_installation_goes(rootless: Rootless, put: Put, tmp_path: Path) -> None:
    path = put("run", install(tmp_path / "new/rootless"))
    os.utime(path, (1, 1))  # the sources came after it
    rootless("cache", "prune")
    assert not path.exists()


def test_what_has_another_name_or_is_a_link_stays(rootless: Rootless, put: Put, tmp_path: Path) -> None:
    path = put("run", f"{tmp_path}/gone/rootless")
    target = tmp_path / "target"
    path.rename(target)
    path.symlink_to(target)
    others = [path.parent / name for name in ("notes", "run.code", "run.cpython-311%gone%other.code")]
    for other in others:
        other.touch()
    rootless("cache", "prune")
    rootless("doctor", "--clean")
    assert path.is_symlink() and target.exists() and all(other.exists() for other in others)


def test_nothing_is_removed_through_a_link_to_the_folder_or_from_one_that_others_write(
    rootless: Rootless, put: Put, tmp_path: Path
) -> None:
    path = put("run", f"{tmp_path}/gone/rootless")
    folder = path.parent
    folder.chmod(0o777)
    rootless("cache", "prune")
    assert path.exists()
    folder.chmod(0o700)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    rootless("cache", "prune")
    assert (tmp_path / "elsewhere" / path.name).exists()
