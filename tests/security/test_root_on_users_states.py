"""Root becomes the user whose states it works on, so what the states ask for is done with that user's rights."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.checkout import LAUNCHER, TIMEOUT, driver
from tests.support.commands import launch

UID = 4711
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="it is about root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return an empty state root of another user."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(stat.S_IMODE(parent.stat().st_mode) | 0o011)
    path = tmp_path / "state"
    path.mkdir(0o700)
    os.chown(path, UID, UID)
    return path


def forge(root: Path, config: dict[str, object] | None = None, **state: object) -> None:
    (root / "c").mkdir(0o700)
    known = {"id": "c", "pid": 0, "start_time": 0, "created": "2026-01-01T00:00:00Z", **state}
    (root / "c/state.json").write_text(json.dumps(known))
    (root / "c/config.json").write_text(json.dumps(config or {}))
    for path in (root / "c/state.json", root / "c/config.json", root / "c"):
        os.chown(path, UID, UID)


def start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19])


def test_a_hook_runs_as_the_user(root: Path, tmp_path: Path) -> None:
    """The hook has the user's uid, gid and groups, no capability, nothing of root's environment, and not root's
    terminal.
    """
    out = tmp_path / "out"
    out.touch()
    os.chown(out, UID, UID)
    script = f"grep -E '^(Uid|Gid|Groups|CapPrm|CapEff|CapInh|CapAmb):' /proc/self/status >{out}; env >>{out}"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"{script}; cat /proc/$PPID/environ >>{out}"]}
    forge(root, {"ociVersion": "1.0.0", "hooks": {"poststop": [hook]}}, hooks=["poststop"])
    done = launch("--debug", "--root", root, "delete", "--force", "c", env={**os.environ, "SECRET_OF_ROOT": "s3cret"})
    assert done.returncode == 0
    assert f"belongs to uid {UID}: from here on this command has uid {UID}, gid {UID} and groups []" in done.stderr
    text = out.read_text()
    fields = {line.partition(":")[0]: line.split()[1:] for line in text.splitlines() if ":\t" in line}
    assert fields["Uid"] == fields["Gid"] == [str(UID)] * 4
    assert fields["Groups"] == []
    assert {fields[name][0] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
    assert "s3cret" not in text
    assert os.listdir(root) == []


@pytest.mark.parametrize("words", [["kill", "c", "KILL"], ["delete", "--force", "c"], ["start", "c"]])
def test_a_forged_pid_is_not_killed(root: Path, words: list[str]) -> None:
    with subprocess.Popen(["sleep", "1000"]) as victim:
        forge(root, pid=victim.pid, start_time=start_time(victim.pid))
        done = launch("--root", root, *words)
        alive = victim.poll() is None
        victim.kill()
    assert (done.returncode, alive) == (1, True)
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(("rootless: cannot start a container in the running", "rootless: cannot send signal"))


def test_no_code_is_read_after_the_change(root: Path, tmp_path: Path) -> None:
    """All code is loaded before, because the program may lie where the user cannot read, such as below root's home."""
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    for name in ("rootless", "oci", "bin"):
        shutil.copytree(LAUNCHER.parent.parent / name, closed / name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for words in (["list"], ["ps", "c"], ["exec", "c", "true"], ["update", "--pids-limit", "5", "c"], ["delete", "c"]):
        forge(root) if not (root / "c").exists() else None
        done = subprocess.run(
            [sys.executable, "-IS", closed / "bin/rootless", "--root", root, *words],
            capture_output=True, text=True, check=False, timeout=TIMEOUT, env=environment,
        )  # fmt: skip
        assert "cannot load" not in done.stderr
        assert "EACCES" not in done.stderr
    assert (done.returncode, (root / "c").exists()) == (0, False)


def test_every_module_is_imported_before_the_change() -> None:
    libraries = sysconfig.get_path("purelib")  # of this environment: attrs, click and jeepney
    program = f"sys.path.append({libraries!r})\n"
    program += "from rootless.runtime import owner; owner._import_all(); print(*(n for n in sys.modules))"
    done = subprocess.run(driver(program), capture_output=True, text=True, check=True, timeout=TIMEOUT)
    package = LAUNCHER.parent.parent / "rootless"
    names = {
        ".".join(file.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        for file in package.rglob("*.py")
    }
    missing = names - {"rootless.__main__", "rootless.mcp.__main__"} - set(done.stdout.split())
    assert missing == set()


def test_what_only_root_could_do_is_said(root: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as victim:
        forge(root, pid=victim.pid, start_time=start_time(victim.pid))
        done = launch("--root", root, "kill", "c", "KILL")
        victim.send_signal(signal.SIGKILL)
    assert "EPERM" in done.stderr
    assert f"belong to uid {UID}, so that this command is not root but that user" in done.stderr


def test_a_forged_cgroup_stays(root: Path) -> None:
    mount = next((line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line), "")
    if not mount:
        pytest.skip("no cgroup2 is mounted")
    group = Path(mount) / f"rootless-test-{os.getpid()}"
    group.mkdir()
    try:
        forge(root, cgroup={"manager": "cgroupfs", "path": str(group), "files": [], "devices": [], "made": []})
        done = launch("--root", root, "delete", "--force", "c")
        assert group.is_dir()
        assert done.returncode == 1
        assert "is not root but that user" in done.stderr
    finally:
        group.rmdir()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_what_does_not_belong_to_one_user_is_refused(root: Path, mode: int) -> None:
    forge(root)
    root.chmod(mode)
    done = launch("--root", root, "delete", "--force", "c")
    assert (done.returncode, (root / "c").exists()) == (1, True)
    assert "may be written by its group or others" in done.stderr


def test_an_unknown_users_group_is_not_taken_from_a_set_group_id_parent(root: Path, tmp_path: Path) -> None:
    """A directory below one with the set-group-ID bit gets that group, even if its maker is not in it; so the group is
    not used.
    """
    os.chown(root, UID, 4)
    forge(root)
    done = launch("--debug", "--root", root, "state", "c")
    assert f"uid {UID}, gid 65534 and groups []" in done.stderr


@pytest.mark.parametrize(
    "words",
    [["state", "c"], ["list"], ["ps", "c"], ["pause", "c"], ["resume", "c"], ["events", "--stats", "c"],
     ["update", "--pids-limit", "5", "c"], ["exec", "c", "true"], ["start", "c"], ["kill", "c"], ["delete", "c"],
     ["checkpoint", "c"], ["restore", "c"], ["create", "-b", "/nonexistent", "d"], ["run", "-b", "/nonexistent", "d"]],
)  # fmt: skip
def test_every_command_becomes_the_user(root: Path, words: list[str]) -> None:
    forge(root)
    done = launch("--debug", "--root", root, *words)
    assert f"from here on this command has uid {UID}" in done.stderr
    assert "Traceback" not in done.stderr or "RootlessError" in done.stderr  # --debug shows where a refusal came from


def test_in_a_user_namespace_an_unmapped_owner_is_refused(root: Path) -> None:
    forge(root)
    words = ["unshare", "--user", "--map-root-user", sys.executable, "-IS", str(LAUNCHER), "--root", str(root), "list"]
    root.chmod(0o755)
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 1
    assert "not mapped in this user namespace" in done.stderr


def test_roots_own_states_stay_roots(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(0o700)
    done = launch("--debug", "--root", tmp_path / "state", "list")
    assert (done.returncode, "from here on" in done.stderr) == (0, False)
