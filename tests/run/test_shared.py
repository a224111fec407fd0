"""One user makes a bundle with `convert --shared`, and a second user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from stat import S_IMODE
from typing import Any

import pytest

from tests.support import archives as a

CHECKOUT = Path(__file__).resolve().parents[2]
SECOND = 54321  # a user without a name and without subordinate ids


@pytest.fixture
def shared(rootless: Any, tmp_path: Path, busybox: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a shared bundle of an image with a file that only its owner may read."""
    for parent in (tmp_path, *tmp_path.parents[:3]):
        status = parent.stat()
        if status.st_uid == os.geteuid():  # the second user has to get through; /tmp, which is root's, stays as it is
            parent.chmod(S_IMODE(status.st_mode) | 0o055)
    monkeypatch.chdir(tmp_path)
    program = [sys.executable, str(CHECKOUT / "scripts/legacy_archive.py"), str(busybox), "shared.tar"]
    subprocess.run(program, check=True)
    (tmp_path / "secret").write_text("of the image")
    script = "cat /s > /etc/shadow; chmod 600 /etc/shadow"
    words = ["-v", "./secret:/s", "shared.tar", "--", "sh", "-c", script]
    assert rootless("run", "--save-changes", "more.tar", *words, env=environment(tmp_path)).returncode == 0
    result = rootless("convert", "--shared", "-o", "bundle", "more.tar")
    assert result.returncode == 0 and "everybody can read now: /etc/shadow" in result.stderr, result.stderr
    return tmp_path / "bundle"


def environment(directory: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(directory / "cache"), "HOME": str(directory)}


def test_a_shared_bundle_is_nobodys(shared: Path, rootless: Any, tmp_path: Path) -> None:
    config = json.loads((shared / "config.json").read_text())
    assert "uidMappings" not in config["linux"] and "gidMappings" not in config["linux"]
    for path in [shared, *shared.rglob("*")]:
        if not path.is_symlink():
            wanted = 0o005 if path.is_dir() else 0o004
            assert path.stat().st_mode & wanted == wanted and path.stat().st_uid == os.geteuid(), path
    assert rootless("run", shared, "--", "cat", "/etc/shadow").stdout == "of the image"
    refused = rootless("convert", "--shared", "--owners", "map", "-o", "other", "more.tar")
    assert refused.returncode == 1 and "a shared bundle keeps no owners" in refused.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be a second user")
def test_a_second_user_runs_it(shared: Path, tmp_path: Path) -> None:
    """It is copied once into that user's cache and does not change; with --read-only it is used in place."""
    home = tmp_path / "second"
    home.mkdir()
    os.chown(home, SECOND, SECOND)
    before = sorted(map(str, shared.rglob("*")))
    options: dict[str, Any] = {"user": SECOND, "group": SECOND, "extra_groups": [], "cwd": home, "text": True}
    command = [sys.executable, "-IS", str(CHECKOUT / "bin/rootless"), "--root", str(home / "state")]

    def run(*words: str) -> str:
        done = subprocess.run(
            [*command, "run", *words], env=environment(home), capture_output=True, check=False, **options
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    script = "id -u; cat /etc/shadow > /etc/new; rm /etc/passwd; ls /etc"
    for _ in range(2):
        assert run(str(shared), "--", "sh", "-c", script).split() == ["0", "group", "new", "shadow"]
    assert run("--read-only", str(shared), "--", "ls", "/etc").split() == ["group", "passwd", "shadow"]
    copies = [path for path in (home / "cache/rootless/images").iterdir() if path.name != "index"]
    (copy,) = [path for path in copies if path.suffix != ".lock"]
    assert copy.stat().st_uid == SECOND
    refused = subprocess.run(
        [*command, "remove", str(shared)], env=environment(home), capture_output=True, check=False, **options
    )
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    assert f"cannot remove: {shared}" in refused.stderr and "EACCES" in refused.stderr
    assert "hint: it belongs to another user" in refused.stderr and sorted(map(str, shared.rglob("*"))) == before


def test_ones_own_bundle_whose_root_belongs_to_a_user_of_the_image(
    rootless: Any, busybox: Path, tmp_path: Path
) -> None:
    """`tar -C rootfs -c .` of an ordinary user gives all files to that user, one of many ids in the container."""
    members = [
        a.directory("./", uid=12, gid=12),
        a.directory("bin"),
        a.file("bin/sh", busybox.read_bytes(), mode=0o755),
    ]
    (tmp_path / "rootfs.tar").write_bytes(b"".join(members) + a.END)
    assert rootless("import", tmp_path / "rootfs.tar", "-o", tmp_path / "own").returncode == 0
    words = ["--name", f"own-{os.getpid()}", tmp_path / "own", "--", "sh", "-c", "echo > /new"]
    result = rootless("run", *words, env=environment(tmp_path))
    is_changed = (tmp_path / "own/rootfs/new").exists()
    rootless("remove", tmp_path / "own")  # files of subordinate ids, which no other program removes
    assert (result.returncode, result.stderr, is_changed) == (0, "", True)


def test_ones_own_bundle_is_used_in_place(rootless: Any, make_bundle: Callable[..., Any], tmp_path: Path) -> None:
    bundle = make_bundle("own", {"root": {"readonly": False}})
    result = rootless(
        "run", "--name", f"own-{os.getpid()}", bundle.path, "--", "touch", "/new", env=environment(tmp_path)
    )
    assert result.returncode == 0 and (bundle.rootfs / "new").exists()
    # Byte code goes into the user's cache where root owns the program's own directory.
    assert {path.name for path in (tmp_path / "cache/rootless").glob("*")} <= {"code"}
