"""`doctor` says what works here, and an error message says the same when something is taken away."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oci.image.platforms import host_platform
from rootless.cli.doctor import images, places, residues
from rootless.cli.doctor.line import LIMITED, OK
from rootless.kernel.cgroup_view import View
from rootless.kernel.hints import HINTS, hint
from tests.support import archives as a
from tests.support.checkout import TIMEOUT, driver
from tests.support.containers import USER, Bundle, Container, Rootless, needs_range
from tests.support.processes import until

KEYS = ["name", "status", "detail", "cost", "hint", "command", "who"]
USERS_OWN = pytest.mark.skipif(not USER, reason="root needs no user namespace, no range and no session")


def examine(rootless: Rootless, *args: str | Path, before: tuple[str, ...] = (), **options: Any) -> dict[str, Any]:
    """Return the lines of `doctor --json` by name, below "lines", and the exit code as "code"."""
    command = [*before, *rootless.command("doctor", "--json", *args)]
    return parse(subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False, **options))


def parse(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stdout, (done.returncode, done.stderr)
    document = json.loads(done.stdout)
    assert done.returncode == (0 if document["works"] else 1)
    return {"code": done.returncode, "lines": {line["name"]: line for line in document["lines"]}}


def hint_of(stderr: str) -> str:
    """Return the hint of the last error message."""
    return stderr.strip().splitlines()[-1].partition("; hint: ")[2]


def test_a_program_gets_stable_keys_and_the_exit_code_of_a_plain_run(rootless: Rootless) -> None:
    found = examine(rootless)
    assert all(list(line) == KEYS for line in found["lines"].values())
    assert {line["status"] for line in found["lines"].values()} <= {"ok", "limited", "missing"}
    assert {"kernel", "user-namespaces", "cgroup", "seccomp", "tun", "fuse", "cache", "state", "run"} <= {
        *found["lines"]
    }
    assert found["code"] == (rootless("run", "--host", "--", "true").returncode and 1)


def test_what_is_not_ok_says_what_it_costs(rootless: Rootless) -> None:
    for line in examine(rootless)["lines"].values():
        assert line["status"] == OK or line["cost"], line
        assert bool(line["command"]) == bool(line["who"]), line


def test_people_get_a_line_for_each_check_and_a_verdict(rootless: Rootless) -> None:
    done = rootless("doctor")
    assert done.stderr == "" and done.returncode == 0
    assert done.stdout.splitlines()[-1] == "a plain run works here"
    assert any(line.split()[:2] == ["ok", "kernel"] for line in done.stdout.splitlines())


# ------------------------------------------------------------------------------- a thing is taken away: both say it


@USERS_OWN
def test_no_user_namespace_is_left(rootless: Rootless, bundle: Bundle) -> None:
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps=-all --inh-caps=-all "$@"'
    before = ("unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", forbid, "sh")
    found = examine(rootless, before=before)
    command = [*before, *rootless.command("run", "-b", bundle.path, "none")]
    error = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    line = found["lines"]["user-namespaces"]
    assert found["code"] == 1 and error.returncode == 1
    assert line["status"] == "missing" and line["who"] == "root"
    assert line["hint"] == hint_of(error.stderr) == HINTS["userns-limit"].text
    assert found["lines"]["nested"]["status"] == LIMITED


LIMITS = ("mnt", "pid", "net", "ipc", "uts", "cgroup", "time")


@pytest.mark.parametrize("kind", LIMITS)
def test_no_namespace_of_a_kind_is_left(rootless: Rootless, container: Callable[..., Container], kind: str) -> None:
    kinds = ("mount", "pid", "user", "uts", "ipc", "network", "time")
    c = container({"linux": {"namespaces": [{"type": name} for name in kinds]}} if kind == "time" else {})
    forbid = f'echo 0 >/proc/sys/user/max_{kind}_namespaces && exec setpriv --ambient-caps=-all --inh-caps=-all "$@"'
    before = ("unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", forbid, "sh")
    found = examine(rootless, before=before)
    command = [*before, *rootless.command("run", "-b", c.bundle.path, "none")]
    error = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    line = found["lines"][f"{kind}-namespaces"]
    assert error.returncode == 1
    assert line["hint"] == hint_of(error.stderr) == hint("namespace-limit", kind=kind).text
    assert (line["command"], line["who"]) == (f"sysctl -w user.max_{kind}_namespaces=15000", "root")
    assert (found["code"], line["status"]) == ((0, LIMITED) if kind == "time" else (1, "missing"))
    assert found["lines"]["user-namespaces"]["status"] == OK


@pytest.mark.parametrize("kind", ["mnt", "time"])
def test_the_limit_of_an_outer_user_namespace_counts(rootless: Rootless, kind: str) -> None:
    """The inner namespace has a limit of its own, which is not the one that is reached."""
    forbid = f'echo 0 >/proc/sys/user/max_{kind}_namespaces && exec unshare --user --map-root-user "$@"'
    before = ("unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh")
    line = examine(rootless, before=before)["lines"][f"{kind}-namespaces"]
    assert line["hint"] == hint("namespace-limit", kind=kind).text


def test_no_limit_of_namespaces_is_reached(rootless: Rootless) -> None:
    line = examine(rootless)["lines"]["namespace-limits"]
    assert line["status"] == OK and all(kind in line["detail"] for kind in LIMITS)


@USERS_OWN
@needs_range
def test_newuidmap_is_not_in_path(rootless: Rootless) -> None:
    program = """
from rootless.kernel import find_program
find_program._USUAL = ""
from rootless.__main__ import main
sys.exit(main())
"""
    environment = {**os.environ, "PATH": "/nowhere"}

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        command = driver(program, "--root", rootless.state, *args)
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False, env=environment)

    found, error = parse(call("doctor", "--json")), call("unshare", "/bin/true")
    assert error.returncode != 0
    for name in ("newuidmap", "newgidmap"):
        line = found["lines"][name]
        assert line["status"] == LIMITED and line["command"] == "apt install uidmap" and line["who"] == "root"
        assert line["hint"] == hint_of(error.stderr) == HINTS["no-newuidmap"].text
    assert found["code"] == 0  # a plain run maps the own id only


def test_attrs_is_not_installed(rootless: Rootless) -> None:
    program = """
sys.modules["attrs"] = sys.modules["attr"] = None
from rootless.__main__ import main
sys.exit(main())
"""

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        command = driver(program, "--root", rootless.state, *args)
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)

    found, error = parse(call("doctor", "--json")), call("cache", "ls")
    assert error.returncode != 0 and "attrs" in error.stderr
    assert found["lines"]["packages"]["status"] == LIMITED
    assert "attrs" in found["lines"]["packages"]["command"]


@USERS_OWN
@needs_range
def test_newuidmap_has_no_privileges(rootless: Rootless) -> None:
    before = ("setpriv", "--no-new-privs")
    found = examine(rootless, before=before)
    command = [*before, *rootless.command("unshare", "true")]
    error = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert error.returncode != 0
    line = found["lines"]["newgidmap"]
    assert line["status"] == LIMITED and "no_new_privs" in line["detail"]
    assert line["hint"] == found["lines"]["id-map"]["hint"] == hint_of(error.stderr)


@USERS_OWN
@pytest.mark.parametrize("place", ["", "relative", "/", "/nowhere"])
def test_the_runtime_directory_is_not_the_users(rootless: Rootless, bundle: Bundle, place: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")}
    if place:
        environment["XDG_RUNTIME_DIR"] = place
    line = examine(rootless, env=environment)["lines"]["runtime-directory"]
    assert line["status"] == LIMITED and "XDG_RUNTIME_DIR" in line["detail"]
    error = rootless("--cgroup-manager", "systemd", "run", "-b", bundle.path, "none", env=environment)
    assert "no D-Bus session of this user" in error.stderr
    assert line["hint"] == hint_of(error.stderr) == HINTS["no-session"].text


def test_no_cgroup_is_mounted(rootless: Rootless, bundle: Bundle) -> None:
    hide = 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"'
    before = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", hide, "sh")
    found = examine(rootless, before=before)
    command = [*before, *rootless.command("run", "--memory", "64m", "-b", bundle.path, "none")]
    error = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert error.returncode == 1 and found["code"] == 0
    line = found["lines"]["cgroup"]
    assert line["status"] == LIMITED and "limits are refused" in line["cost"]
    assert line["hint"] == hint_of(error.stderr) == HINTS["no-cgroup"].text


def test_a_controller_is_missing(rootless: Rootless, bundle: Bundle) -> None:
    line = examine(rootless)["lines"].get("cgroup-controllers", {"status": OK})
    if line["status"] == OK:
        pytest.skip("this machine's cgroups have all controllers, or the user has no cgroup")
    error = rootless("run", "--memory", "64m", "--cpus", "1", "-b", bundle.path, "none")
    assert error.returncode == 1
    name = "no-controller" if USER else "no-controller-for-root"
    start = HINTS[name].text.partition("{")[0]
    assert line["hint"].startswith(start) and hint_of(error.stderr).startswith(start)


def test_a_container_around_covers_a_part_of_proc(rootless: Rootless) -> None:
    cover = 'mount --bind /dev/null /proc/version && exec unshare --user --map-root-user --mount "$@"'
    before = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", cover, "sh")
    found = examine(rootless, before=before)
    command = [*before, *rootless.command("run", "--host", "--", "true")]
    error = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert error.returncode == 1 and found["code"] == 1, error.stderr
    line = found["lines"]["proc"]
    assert line["status"] == LIMITED and "/proc/version" in line["detail"]
    assert line["hint"] == found["lines"]["run"]["hint"] == hint_of(error.stderr) == HINTS["covered-proc"].text


def test_the_state_root_cannot_be_made(bundle: Bundle) -> None:
    rootless = Rootless(Path("/proc/nowhere/state"))
    found = examine(rootless)
    error = rootless("run", "-b", bundle.path, "none")
    assert found["code"] == 1 and error.returncode == 1
    assert found["lines"]["run"]["hint"] == hint_of(error.stderr) == HINTS["state-elsewhere"].text


def test_the_bundle_is_on_a_file_system_without_exec(rootless: Rootless, bundle: Bundle, tmp_path: Path) -> None:
    target = tmp_path / "noexec"
    target.mkdir()
    # Not cp -a: bundles share one busybox by hard links, and a test run as root may have given it an owner that the
    # user namespace does not map.
    mount = f'mount -t tmpfs -o noexec none {target} && cp -r {bundle.path} {target}/bundle && exec "$@"'
    before = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    found = examine(rootless, target / "bundle", before=before)
    assert found["code"] == 1
    assert found["lines"]["bundle"]["status"] == "missing" and "noexec" in found["lines"]["bundle"]["detail"]
    assert found["lines"]["bundle"]["command"] == f"mount -o remount,exec {target}"
    command = [*before, *rootless.command("run", "-b", target / "bundle", "none", "--", "/bin/true")]
    assert subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False).returncode != 0


def test_a_file_system_without_attributes() -> None:
    line = places.attributes("cache-attributes", "/proc/self")
    assert line.status == LIMITED and "proc" in line.detail and line.cost


# --------------------------------------------------------------------------------------------- bundles and archives


def test_a_bundle_that_works(rootless: Rootless, bundle: Bundle) -> None:
    found = examine(rootless, bundle.path)
    assert (found["code"], found["lines"]["config"]["status"], found["lines"]["bundle"]["status"]) == (0, OK, OK)


def test_each_error_of_a_config_is_a_line(rootless: Rootless, bundle: Bundle) -> None:
    bundle.patch({"process": {"cwd": "relative", "rlimits": [{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}]}})
    done = rootless("doctor", "--json", bundle.path)
    lines = [line for line in json.loads(done.stdout)["lines"] if line["name"] == "config"]
    assert done.returncode == 1
    assert len(lines) == 2 and all(line["status"] == "missing" for line in lines)
    assert any("/process/cwd" in line["detail"] for line in lines)


def test_what_is_no_archive(rootless: Rootless, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive\n")
    found = examine(rootless, tmp_path / "text")
    assert found["code"] == 1 and found["lines"]["archive"]["status"] == "missing"
    done = rootless("doctor", tmp_path / "nothing")
    assert done.returncode == 1 and "no such bundle or image archive: " in done.stderr


def test_an_image_of_another_machine() -> None:
    own = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    assert images.platform(f"linux/{own}").status == OK
    other = images.platform("linux/s390x")
    assert other.status == LIMITED and "s390x" in other.detail and other.who == "root"


# ---------------------------------------------------------------------------------------------------------- --clean


def test_clean_removes_ended_containers_and_no_others(
    rootless: Rootless, container: Callable[..., Container], tmp_path: Path
) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    ended = container({"process": {"args": ["sleep", "1000"]}})
    lives = container({"process": {"args": ["sleep", "1000"]}})
    for each in (ended, lives):
        quiet: dict[str, Any] = {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        assert rootless("run", "--detach", "-b", each.bundle.path, each.id, **quiet).returncode == 0
    cgroups = {each.id: cgroup_of(rootless, each.id) for each in (ended, lives)}
    assert clean(rootless, *cgroups.values(), env=environment) == []
    assert rootless("kill", ended.id, "KILL").returncode == 0
    assert rootless("wait", ended.id).returncode >= 0
    found = clean(rootless, *cgroups.values(), env=environment)
    assert found[0] == ("container", ended.id)
    assert found[1:] in ([], [("cgroup", cgroups[ended.id])])
    assert rootless.ids() == [lives.id]
    if cgroups[lives.id]:
        assert os.path.isdir(cgroups[lives.id]) and not os.path.exists(cgroups[ended.id])


def cgroup_of(rootless: Rootless, container_id: str) -> str:
    """Return the directory of a container's cgroup, "" if this user may make none."""
    return str(json.loads((rootless.state / container_id / "state.json").read_text())["cgroup"].get("path", ""))


def clean(rootless: Rootless, *cgroups: str, **options: Any) -> list[tuple[str, str]]:
    """Return what `doctor --clean` lists as (kind, place). Of cgroups only these count, because other tests run
    meanwhile.

    Doctor looks for cgroups of all state roots, and a container of another test may be killed at this moment.
    """
    done = rootless("doctor", "--clean", "--json", **options)
    assert done.returncode == 0, done.stderr
    found = [(each["kind"], each["place"]) for each in json.loads(done.stdout)["residues"]]
    return [(kind, place) for kind, place in found if kind != "cgroup" or place in cgroups]


def test_clean_removes_a_damaged_state(rootless: Rootless, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    (rootless.state / "damaged").mkdir(0o700, parents=True)
    rootless.state.chmod(0o700)
    (rootless.state / "damaged/state.json").write_text("{")
    assert clean(rootless, env=environment) == [("container", "damaged")]
    assert rootless.ids() == []


def test_people_read_what_clean_removes_and_how_much_it_is(rootless: Rootless, tmp_path: Path) -> None:
    (rootless.state / "damaged").mkdir(0o700, parents=True)
    rootless.state.chmod(0o700)
    done = rootless("doctor", "--clean", env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")})
    first, *others, count = done.stdout.splitlines()
    assert first == "container  damaged"
    assert count == f"{len(others) + 1} residue{'s' if others else ''}"


def test_clean_removes_throw_away_roots_without_a_container(rootless: Rootless, tmp_path: Path) -> None:
    cache = tmp_path / "cache/rootless/upper"
    for name in ("gone", "used"):
        (cache / name / "upper").mkdir(parents=True)
        (cache / name / "owner").symlink_to(tmp_path / name)
    (tmp_path / "used").mkdir()
    (tmp_path / "used/upper").symlink_to(cache / "used")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert clean(rootless, env=environment) == [("root", f"{cache}/gone")]
    assert os.listdir(cache) == ["used"]


def test_clean_removes_half_written_cache_entries_only(rootless: Rootless, tmp_path: Path) -> None:
    cache = tmp_path / "cache/rootless"
    half, whole = cache / f"images/.{'a' * 32}.new", cache / f"images/{'b' * 32}"
    layer = cache / "trees/.c.new"
    for directory in (half, whole, layer, cache / "images/index"):
        directory.mkdir(parents=True)
    for directory in (cache, *cache.iterdir()):
        directory.chmod(0o700)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert clean(rootless, env=environment) == [("image", str(half)), ("layer", str(layer))]
    assert whole.exists() and not half.exists() and not layer.exists()


def test_clean_removes_cgroups_that_no_state_names(
    rootless: Rootless, container: Callable[..., Container], tmp_path: Path
) -> None:
    """The state directory is lost. A cgroup with processes is named and kept, with the container's throw-away root.

    A cgroup that the runtime has not made is kept, too.
    """
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}  # not what other tests are writing
    c = container({"process": {"args": ["sleep", "1000"]}})
    quiet: dict[str, Any] = {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    done = rootless("create", "--ephemeral", "-b", c.bundle.path, c.id, env=environment, **quiet)
    assert done.returncode == 0
    cgroup = json.loads((rootless.state / c.id / "state.json").read_text())["cgroup"]
    if not cgroup.get("created"):
        c.delete("--force")
        pytest.skip("this user may make no cgroup here")
    pid = c.state()["pid"]
    shutil.rmtree(rootless.state / c.id)
    mine = os.path.join(os.path.dirname(cgroup["path"]), f"{c.id}-mine")
    os.mkdir(mine)
    try:
        try:
            os.getxattr(cgroup["path"], "user.rootless")
        except OSError:
            os.kill(pid, signal.SIGKILL)
            assert until(lambda: not Path(cgroup["path"], "cgroup.procs").read_text())
            os.rmdir(cgroup["path"])
            pytest.skip("cgroups have no attributes of users here")
        mend = hint("lost-container", path=cgroup["path"])
        said = rootless("doctor", "--clean", env=environment).stdout
        assert f"running    {cgroup['path']}, whose state {rootless.state / c.id} is gone: {mend.text}\n" in said, said
        assert "nothing is left over" not in said and f"cgroup     {cgroup['path']}\n" not in said
        assert f"{mend.command}\n" in rootless("doctor", env=environment).stdout
        assert os.path.isdir(cgroup["path"]) and os.listdir(tmp_path / "cache/rootless/upper") == [c.id]
        os.kill(pid, signal.SIGKILL)
        assert until(lambda: not Path(cgroup["path"], "cgroup.procs").read_text())
        assert f"cgroup     {cgroup['path']}\n" in rootless("doctor", "--clean", env=environment).stdout
        assert not os.path.exists(cgroup["path"]) and os.path.isdir(mine)
        assert os.listdir(tmp_path / "cache/rootless/upper") == []
    finally:
        os.rmdir(mine)


def marked(tmp_path: Path) -> tuple[Path, Path]:
    """Return (a directory that looks like an empty cgroup, the state directory that its mark names)."""
    cgroup, state = tmp_path / "cgroup", tmp_path / "state"
    for directory in (cgroup, state):
        directory.mkdir()
    (cgroup / "cgroup.procs").touch()
    try:
        os.setxattr(cgroup, "user.rootless", bytes(state))
    except OSError:
        pytest.skip("the directory of the tests keeps no attributes of users")
    return cgroup, state


def test_a_cgroup_that_its_delete_takes_away_meanwhile_is_not_left_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroup, state = marked(tmp_path)
    assert not residues._is_nameless(str(cgroup))
    state.rmdir()
    assert residues._is_nameless(str(cgroup))
    state.mkdir()

    def delete_first(path: str) -> os.stat_result:  # `delete` removes the cgroup, then the state directory
        monkeypatch.undo()
        shutil.rmtree(cgroup)
        state.rmdir()
        return os.lstat(path)

    monkeypatch.setattr(residues.os, "lstat", delete_first)
    assert not residues._is_nameless(str(cgroup))


def test_a_cgroup_with_another_ones_below_is_not_left_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cgroup, state = marked(tmp_path)
    state.rmdir()
    monkeypatch.setattr(residues.cgroup_view, "read", lambda: View(str(tmp_path.parent), tmp_path.name))
    assert residues._nameless() == [str(cgroup)]
    (cgroup / "below").mkdir()
    assert residues._nameless() == []


def test_a_cgroup_whose_state_cannot_be_looked_at_is_not_left_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroup, state = marked(tmp_path)

    def closed(path: str) -> os.stat_result:
        raise PermissionError(errno.EACCES, "closed", path)

    monkeypatch.setattr(residues.os, "lstat", closed)
    assert not residues._is_nameless(str(cgroup)) and state.exists()


def test_the_verdict_tells_a_bundle_that_does_not_run_from_a_machine(rootless: Rootless, bundle: Bundle) -> None:
    bundle.patch({"process": {"args": ["nosuch"]}})
    done = rootless("doctor", bundle.path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"a plain run works here, but not {bundle.path}"


@USERS_OWN
def test_a_bundle_that_cannot_be_entered_is_not_taken_for_something_else(rootless: Rootless, bundle: Bundle) -> None:
    bundle.path.chmod(0)
    try:
        done = rootless("doctor", bundle.path)
    finally:
        bundle.path.chmod(0o755)
    assert done.returncode == 1 and "cannot enter the bundle" in done.stderr and "EACCES" in done.stderr


def test_cleaning_is_not_about_one_bundle(rootless: Rootless, bundle: Bundle) -> None:
    done = rootless("doctor", "--clean", bundle.path)
    assert (done.returncode, done.stdout) == (1, "") and str(bundle.path) in done.stderr


def test_a_pipe_is_neither_a_bundle_nor_an_id(rootless: Rootless, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for command in ("run", "explain", "doctor"):
        done = rootless(command, "pipe", cwd=tmp_path)
        assert done.returncode == 1 and "neither a bundle nor an archive of images: pipe" in done.stderr, done


def test_what_is_no_container_in_the_state_root_hinders_nothing(
    rootless: Rootless, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that somebody has put there kept `--clean`, `cache prune` and `remove` from everything else."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    image = a.docker_archive([a.file("x") + a.END], architecture=host_platform()[1])
    (tmp_path / "image.tar").write_bytes(image)
    half = tmp_path / "cache/rootless/images/.0123.abcdef01"
    foreign = [rootless.state / "file", rootless.state / "link"]
    rootless.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    foreign[0].write_text("")
    foreign[1].symlink_to("/nowhere")
    try:
        for command in (("doctor", "--clean"), ("cache", "prune")):
            assert rootless("cache", "add", tmp_path / "image.tar").returncode == 0
            half.mkdir(mode=0o700)
            done = rootless(*command)
            assert (done.returncode, done.stderr, half.exists()) == (0, "", False), done
        assert foreign[0].exists()
    finally:
        for each in foreign:
            each.unlink()
