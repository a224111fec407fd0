"""Any number of containers share one bundle by throw-away roots, and none changes it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.runtime import upper

SCRIPT = (
    "echo x > /etc/new; rm /etc/passwd; rm -r /home; mkdir /home; ls /home /etc; awk '$5==\"/\" {print $9}' "
    "/proc/self/mountinfo; stat -c %a /"
)

BOX = f"box-{os.getpid()}"  # cgroups are named after containers, whatever state root they have


@pytest.fixture
def box(make_bundle: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a bundle, and use a cache of the test's own, from whose directory the test runs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return make_bundle(BOX, {"root": {"readonly": False}})


def uppers(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache/rootless/upper").glob("*"))


def tree(path: Path) -> list[str]:
    return sorted(str(each) for each in path.rglob("*"))


def test_what_is_changed_is_thrown_away(box: Any, rootless: Any, tmp_path: Path) -> None:
    before = tree(box.rootfs)
    result = rootless("run", "--ephemeral", f"./{BOX}", "sh", "-c", SCRIPT)
    assert result.returncode == 0, result.stderr
    mode = f"{box.rootfs.stat().st_mode & 0o7777:o}"
    assert result.stdout.split() == ["/etc:", "group", "new", "/home:", "overlay", mode]
    assert tree(box.rootfs) == before and uppers(tmp_path) == []


def test_in_memory(box: Any, rootless: Any, tmp_path: Path) -> None:
    """A tmpfs has extended attributes of users since Linux 6.6; before, the option is refused with the reason."""
    before = tree(box.rootfs)
    result = rootless(
        "run", "--ephemeral=tmpfs:size=1m", f"./{BOX}", "sh", "-c", f"{SCRIPT}; head -c 2m /dev/zero > /big"
    )
    if "Linux 6.6" in result.stderr:
        assert result.returncode == 1 and rootless.ids() == []
        return
    assert result.returncode == 1 and result.stderr.startswith("head: ")
    assert result.stdout.split()[:5] == ["/etc:", "group", "new", "/home:", "overlay"]
    assert tree(box.rootfs) == before and uppers(tmp_path) == []


def test_many_at_once_do_not_see_each_other(box: Any, rootless: Any, tmp_path: Path) -> None:
    """Each of twenty parallel calls gets a name and a root of its own."""
    script = "ls / | grep -c mine; echo > /mine"
    started = [rootless.popen("run", "--ephemeral", f"./{BOX}", "sh", "-c", script) for _ in range(20)]
    results = [(process.communicate(timeout=100), process.returncode) for process in started]
    assert [result for result in results if result != (("0\n", ""), 0)] == []
    assert uppers(tmp_path) == [] and not (box.rootfs / "mine").exists()


def test_files_of_other_ids_are_removed_too(box: Any, rootless: Any, tmp_path: Path) -> None:
    result = rootless("run", "-u", "user", "--ephemeral", f"./{BOX}", "sh", "-c", "mkdir /tmp/d; chmod 0 /tmp/d; id -u")
    assert (result.returncode, result.stdout) == (0, "1000\n"), result.stderr
    assert uppers(tmp_path) == []


def test_delete_takes_the_changes_away_after_a_kill(box: Any, rootless: Any, tmp_path: Path) -> None:
    process = rootless.popen("run", "--ephemeral", f"./{BOX}", "sh", "-c", "echo up; sleep 100")
    assert process.stdout and process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert process.stderr
    process.stderr.close()
    assert uppers(tmp_path) == [BOX]
    assert rootless("delete", "--force", BOX).returncode == 0
    assert uppers(tmp_path) == []


def test_prune_finds_what_lost_its_container(box: Any, rootless: Any, tmp_path: Path) -> None:
    """A container that exists keeps its changes; those of one whose state directory is gone are removed."""
    with open(os.devnull, "w") as null:
        rootless("run", "-d", "--ephemeral", f"./{BOX}", "sleep", "100", capture_output=False, stdout=null, stderr=null)
    left = tmp_path / "cache/rootless/upper/left"
    (left / "upper").mkdir(parents=True)
    (left / "owner").symlink_to(tmp_path / "state/gone")
    assert upper.abandoned() == [str(left)]
    result = rootless("cache", "prune")
    assert result.returncode == 0, result.stderr
    assert uppers(tmp_path) == [BOX]
    assert rootless("delete", "--force", BOX).returncode == 0


@pytest.mark.parametrize("command", [("cache", "prune"), ("doctor", "--clean")])
@pytest.mark.parametrize("name", ["upper", "images"])
def test_nothing_is_removed_through_a_link(box: Any, rootless: Any, tmp_path: Path, command: Any, name: str) -> None:
    """If root has another user's cache directory, that user may have made the link."""
    (tmp_path / "precious/.ssh").mkdir(parents=True)
    (tmp_path / "cache/rootless").mkdir(mode=0o700, parents=True, exist_ok=True)
    (tmp_path / f"cache/rootless/{name}").symlink_to(tmp_path / "precious")
    rootless(*command)
    assert (tmp_path / "precious/.ssh").is_dir()


def test_a_cache_that_cannot_be_written_is_named(box: Any, rootless: Any, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "cache").mkdir(0o500)
    result = rootless("run", "--ephemeral", f"./{BOX}", "true")
    assert result.returncode == 1 and "cannot make the throw-away root" in result.stderr
    assert "XDG_CACHE_HOME" in result.stderr and rootless.ids() == []


def test_the_plan_shows_the_overlay(box: Any, rootless: Any, tmp_path: Path) -> None:
    out = rootless("run", "--dry-run", "--ephemeral", f"./{BOX}").stdout
    assert f"lowerdir={box.rootfs}" in out and "mount overlay" in out and uppers(tmp_path) == []


def test_a_root_on_which_something_is_mounted_already_is_refused(box: Any, rootless: Any) -> None:
    box.patch({"mounts": [{"destination": "/", "type": "overlay", "options": ["lowerdir=/a:/b"]}]})
    result = rootless("run", "--ephemeral", f"./{BOX}", "true")
    assert result.returncode == 1 and "already mounts something on /" in result.stderr


def test_two_state_roots_with_one_name(box: Any, rootless: Any, tmp_path: Path) -> None:
    """The upper directory is named after the container, and another state root has a container of the same name."""
    other = [*rootless.command()[:3], "--root", str(tmp_path / "other")]
    process = rootless.popen("run", "--ephemeral", f"./{BOX}", "sh", "-c", "echo up; sleep 100")
    try:
        assert process.stdout and process.stdout.readline() == "up\n"
        done = subprocess.run(
            [*other, "--cgroup-manager", "disabled", "run", "--ephemeral", f"./{BOX}", "ls", "/etc"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert uppers(tmp_path) == [BOX]
    finally:
        assert rootless("kill", BOX, "KILL").returncode == 0
        process.communicate(timeout=60)
