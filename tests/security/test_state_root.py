"""No command trusts a state root that another user made, owns or may write."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import LAUNCHER, TIMEOUT, driver
from tests.support.code_cache import read_cache, write_cache
from tests.support.commands import launch

COMMANDS = {
    "state": ["c"],
    "kill": ["c", "KILL"],
    "delete": ["--force", "c"],
    "start": ["c"],
    "exec": ["c", "true"],
    "list": [],
    "ps": ["c"],
    "pause": ["c"],
    "resume": ["c"],
    "update": ["--pids-limit", "7", "c"],
    "events": ["--stats", "c"],
}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes another user's directory")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory that every user can reach."""
    for parent in (tmp_path, *tmp_path.parents):
        found = parent.stat()
        if found.st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(stat.S_IMODE(found.st_mode) | 0o011)
    return tmp_path


def forge(root: Path, marker: Path, uid: int, mode: int = 0o755, **state: object) -> None:
    """Make a state of user `uid`: a stopped container whose poststop hook would tell who ran it."""
    (root / "c").mkdir(parents=True)
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"id -u >{marker}"]}
    (root / "c/config.json").write_text(json.dumps({"ociVersion": "1.0.0", "hooks": {"poststop": [hook]}}))
    known = {"id": "c", "pid": 0, "start_time": 0, "created": "2026-01-01T00:00:00Z", "hooks": ["poststop"], **state}
    (root / "c/state.json").write_text(json.dumps(known))
    for path in (root / "c/config.json", root / "c/state.json", root / "c", root):
        os.chown(path, uid, uid)
    (root / "c").chmod(0o755)
    root.chmod(mode)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_link_is_not_followed(tmp_path: Path, command: str) -> None:
    forge(tmp_path / "real", tmp_path / "marker", os.geteuid())
    (tmp_path / "link").symlink_to("real")
    done = launch("--root", tmp_path / "link", command, *COMMANDS[command])
    assert done.returncode in (1, 255)
    assert "symbolic link" in done.stderr
    assert (tmp_path / "real/c/state.json").exists()
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o757])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_others_may_write_is_refused(tmp_path: Path, command: str, mode: int) -> None:
    forge(tmp_path / "state", tmp_path / "marker", os.geteuid(), mode)
    done = launch("--root", tmp_path / "state", command, *COMMANDS[command])
    assert done.returncode in (1, 255)
    assert "may be written by its group or others" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("command", ["create", "run"])
def test_nothing_is_made_in_what_others_may_write(container, tmp_path: Path, command: str) -> None:
    c = container()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    done = launch("--root", tmp_path / "open", command, "-b", c.bundle.path, "c")
    assert (done.returncode, os.listdir(tmp_path / "open")) == (1, [])


@as_root
@pytest.mark.parametrize("command", COMMANDS)
def test_another_users_directory_is_not_believed(place: Path, command: str) -> None:
    """/tmp/rootless-UID is refused if another user made it while the victim had no XDG_RUNTIME_DIR."""
    forge(place / "state", place / "marker", 4711)
    reach = "os.setgroups([]); os.setresgid(4712, 4712, 4712); os.setresuid(4712, 4712, 4712)"
    program = f"import os; {reach}\nfrom rootless.__main__ import launcher\nlauncher()"
    command_line = driver(program, "--root", place / "state", command, *COMMANDS[command])
    done = subprocess.run(command_line, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.returncode in (1, 255)
    assert "belongs to uid 4711" in done.stderr
    assert (place / "state/c/state.json").exists()
    assert not (place / "marker").exists()


@as_root
def test_another_users_container_in_a_root_of_ones_own(place: Path) -> None:
    """A state that another user planted while the root was open to all is not trusted later."""
    forge(place / "state", place / "marker", 4711)
    os.chown(place / "state", 0, 0)
    done = launch("--root", place / "state", "delete", "--force", "c")
    assert (done.returncode, "belongs to uid 4711" in done.stderr) == (1, True)
    assert not (place / "marker").exists()


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_missing_parents_are_nobody_elses(container, tmp_path: Path, umask: int) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    root = tmp_path / "a/b/state"
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    words = [sys.executable, "-IS", LAUNCHER, "--root", root]
    made = subprocess.run(
        [*words, "create", "-b", c.bundle.path, c.id], check=False, umask=umask, timeout=TIMEOUT, **streams
    )
    try:
        assert made.returncode == 0
        modes = {str(path): stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a/b", root)}
        assert list(modes.values()) == [0o700, 0o700, 0o1700]
        assert stat.S_IMODE((root / c.id).stat().st_mode) == 0o700
        assert [p for p in (root / c.id).iterdir() if p.is_file() and stat.S_IMODE(p.stat().st_mode) != 0o600] == []
        assert launch("--root", root, "start", c.id, umask=umask).returncode == 0
    finally:
        deleted = launch("--root", root, "delete", "--force", c.id, umask=umask)
    assert (deleted.returncode, deleted.stderr, os.listdir(root)) == (0, "", [])


def test_a_state_directory_without_permissions_can_be_deleted(container, rootless) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    (rootless.state / c.id / "state.json").chmod(0)
    (rootless.state / c.id).chmod(0)
    assert (c.delete("--force").returncode, rootless.ids()) == (0, [])


def test_the_pid_file_follows_no_planted_link(container, tmp_path: Path) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    (tmp_path / "victim").write_text("kept")
    (tmp_path / ".pid").symlink_to("victim")
    assert c.create("--pid-file", str(tmp_path / "pid")).returncode == 0
    assert (tmp_path / "victim").read_text() == "kept"
    assert (tmp_path / "pid").read_text() == str(c.state()["pid"])
    assert c.rootless("exec", "--pid-file", tmp_path / "pid", c.id, "true").returncode == 0
    assert (tmp_path / "victim").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".pid"]


def test_a_pid_file_that_cannot_be_put_in_place_leaves_nothing(container, tmp_path: Path) -> None:
    c = container()
    (tmp_path / "pid/full").mkdir(parents=True)
    done = c.create("--pid-file", str(tmp_path / "pid"))
    assert (done.returncode, "pid file" in done.stderr) == (1, True)
    assert list(tmp_path.glob(".*")) == []


# --- caches


def test_the_cache_of_layers(tmp_path: Path) -> None:
    """A cache that others may write is refused, because its files would get into a root file system."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    trees = tmp_path / "cache/rootless/trees"
    trees.mkdir(parents=True)
    trees.chmod(0o777)
    for words in (["ls"], ["prune"]):
        done = launch("cache", *words, env=environment)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "may write it" in done.stderr
    trees.rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/.precious").write_text("kept")
    trees.symlink_to(tmp_path / "elsewhere")
    done = launch("cache", "prune", env=environment)
    assert (done.returncode, "symbolic link" in done.stderr) == (1, True)
    assert (tmp_path / "elsewhere/.precious").read_text() == "kept"


def test_directories_are_made_private_under_any_umask(tmp_path: Path) -> None:
    program = """
import os, sys
os.umask(int(sys.argv[1]))
from oci.private import open_private
open_private(sys.argv[2], make=True)
"""
    for umask in (0, 0o777):
        path = tmp_path / f"{umask}" / "b" / "c"
        subprocess.run(driver(program, str(umask), path), check=True)
        for each in (path, path.parent, path.parent.parent):
            assert stat.S_IMODE(each.stat().st_mode) == 0o700


def test_byte_code_that_others_may_write_is_not_run(tmp_path: Path) -> None:
    """The __pycache__ of an installation that was unpacked under `umask 0` is not used."""
    for name in ("bin", "rootless", "oci"):  # without __pycache__: other tests' commands write there meanwhile
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(LAUNCHER.parent.parent / name, tmp_path / "copy" / name, ignore=ignored)
    launcher = tmp_path / "copy/bin/rootless"
    words = [sys.executable, "-IS", str(launcher), "--root", str(tmp_path / "none"), "state", "c"]
    for _ in range(2):
        subprocess.run(words, check=False, capture_output=True)
    (code,) = (tmp_path / "copy/rootless/__pycache__").glob("state.*.code")
    parts, rest = read_cache(code)
    entries = parts[2]
    planted = compile(f"open({str(tmp_path / 'marker')!r}, 'w')", "planted", "exec")
    place = next(place for place, entry in enumerate(entries) if entry[0] == "rootless")
    entries[place] = (*entries[place][:3], planted, *entries[place][4:])
    write_cache(code, parts, rest)
    code.chmod(0o666)
    assert subprocess.run(words, check=False, capture_output=True).returncode == 1
    assert not (tmp_path / "marker").exists()
    write_cache(code, parts, rest)
    code.chmod(0o644)
    subprocess.run(words, check=False, capture_output=True)
    assert (tmp_path / "marker").exists(), "code that nobody else may write is run"
