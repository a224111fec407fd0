"""`run` with docker's flags, as the user who runs the tests: with a range of ids, or with one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.kernel.host import Host
from rootless.userns.run import default_maps

Run = Callable[..., Any]
RANGED = os.geteuid() == 0 or len(default_maps(Host())[0]) > 1

BOX = f"box-{os.getpid()}"  # cgroups are named after containers, whatever state root they have


@pytest.fixture
def run(rootless: Any, make_bundle: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return `run(*flags, script)`, which returns what a shell script in the bundle prints, or the whole result."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    make_bundle(BOX, {"root": {"readonly": False}})

    def call(*flags: str, script: str = "true", fails: bool = False, **options: Any) -> Any:
        result = rootless("run", *flags, f"./{BOX}", "sh", "-c", script, **options)
        if fails:
            return result
        assert result.returncode == 0, result.stderr
        return result.stdout

    return call


def test_a_volume_is_there_and_can_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    run("-v", "./data:/data:Z", script="echo x > /data/new")
    assert (tmp_path / "data/new").read_text() == "x\n"


def test_a_read_only_volume_is_so_with_all_below_it(run: Run, tmp_path: Path) -> None:
    """`ro` of a volume also holds for what is mounted below its source, such as /dev/shm below /dev."""
    (tmp_path / "a/sub").mkdir(parents=True)
    out = run("-v", "./a:/a:ro", script="touch /a/x /a/sub/x 2>&1; true")
    assert out.count("Read-only file system") == 2
    script = "for d in /dev /dev/shm; do touch /host$d/rootless-test; done 2>&1; true"
    assert run("-v", "/dev:/host/dev:ro", script=script).count("Read-only file system") == 2
    assert not Path("/dev/shm/rootless-test").exists()


def test_the_program_and_its_surroundings(run: Run, tmp_path: Path) -> None:
    (tmp_path / "vars").write_text("# comment\n\nONE=1\nTWO=two words\nHOST_ONE\nABSENT_ONE\n")
    script = (
        'echo "$ONE/$TWO/$HOST_ONE/${ABSENT_ONE-unset}/$E"; pwd; hostname; cat /proc/self/limits | grep "open files"'
    )
    flags = ["--env-file", "vars", "-e", "E=a=b", "-w", "/tmp", "--hostname", "box7", "--ulimit", "nofile=99:100"]
    out = run(*flags, script=script, env={**os.environ, "HOST_ONE": "from outside"}).split("\n")
    assert out[:3] == ["1/two words/from outside/unset/a=b", "/tmp", "box7"] and out[3].split()[3:5] == ["99", "100"]


@pytest.mark.parametrize("flags", [["--ephemeral"], ["--tag", "a:b"], ["--platform", "linux/arm64"]])
def test_a_flag_about_an_images_root_is_refused_with_host(rootless: Any, flags: list[str]) -> None:
    result = rootless("run", "--host", *flags, "--", "true")
    assert result.returncode == 1 and result.stderr.startswith("rootless: the host's own system is "), result.stderr
    assert result.stderr.endswith(f": {flags[0]}; hint: leave {flags[0]} or --host out\n")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["-u", "nosuch", "true"], "the host's etc/passwd has no user of that name: --user nosuch; hint: a user of"),
        (["--group-add", "nosuch", "true"], "the host's etc/group has no group of that name: --group-add nosuch; hint"),
        (["/etc/passwd"], "hint: the file is not executable: chmod a+x it\n"),
    ],
)
def test_an_error_of_the_hosts_own_system_speaks_of_the_host(rootless: Any, words: list[str], wanted: str) -> None:
    result = rootless("run", "--host", *words)
    assert result.returncode == 1 and wanted in result.stderr, result.stderr
    assert "image" not in result.stderr and "bundle" not in result.stderr


def test_a_program_that_only_the_host_has_is_brought_in_by_the_hint(
    rootless: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "prefix/bin/tool"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\nexit 3\n")
    tool.chmod(0o755)
    volume = f"{tool.parent.parent}:{tool.parent.parent}:ro"
    result = rootless("run", "--host", "--", tool)
    assert (result.returncode, result.stderr.rpartition("; hint: ")[2]) == (1, f"-v {volume}\n"), result.stderr
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    result = rootless("run", "--host", "--", "tool")
    assert result.stderr.endswith(f"; hint: -v {volume}, and its path {tool}\n"), result.stderr
    assert rootless("run", "--host", "-v", volume, "--", tool).returncode == 3
    assert "hint" not in rootless("run", "--host", "--", tool.with_name("other")).stderr


def test_a_container_is_not_kept_and_deleted_at_once(rootless: Any, run: Run) -> None:
    result = run("--keep", "--rm", fails=True)
    assert result.returncode == 1 and result.stderr.endswith(": --keep --rm; hint: leave one out\n"), result.stderr
    assert run("--keep", "--rm=false") == "" and rootless("delete", BOX).returncode == 0


def test_the_entrypoint_takes_the_words_as_arguments(rootless: Any, run: Run) -> None:
    result = rootless("run", "--entrypoint", "echo", f"./{BOX}", "a", "-n")
    assert (result.returncode, result.stdout) == (0, "a -n\n")


@pytest.mark.parametrize("user", ["user", "1000", "user:wheel", "1000:10"])
def test_a_user_by_name_and_by_number(run: Run, user: str) -> None:
    """With a range of ids the user has all groups; with one id that id is the user."""
    uid, gid, groups, home = run("-u", user, script='id -u; id -g; id -G; echo "$HOME"').split("\n")[:4]
    assert (uid, home) == ("1000", "/home/user") and gid == ("10" if ":" in user else "1000")
    if user == "user" and RANGED:
        assert groups.split() == ["1000", "10"]


def test_a_user_of_exec_by_name(rootless: Any, run: Run, container: Callable[..., Any]) -> None:
    groups = {"user": {"additionalGids": [0, 5]}} if RANGED else {}
    ids: dict[str, Any] = {"linux": {"uidMappings": [], "gidMappings": []}} if RANGED else {}
    c = container({"process": {"args": ["sleep", "100"], **groups}, **ids})
    assert c.run_detached().returncode == 0
    out = rootless(
        "exec", "-u", "root:root", "-w", "/tmp", "-e", "A=1", "-e", "B", c.id, "sh", "-c", "id -u; pwd; echo $A"
    )
    assert out.stdout == "0\n/tmp\n1\n", out.stderr
    if RANGED:  # like with docker, and not the groups of the container's first program
        for user, groups in (("user", "1000 10"), ("user:12", "12"), ("7:8", "8"), ("0", "0")):
            assert rootless("exec", "-u", user, c.id, "id", "-G").stdout.split() == groups.split()
    refused = rootless("exec", "-u", "nosuch", c.id, "true")
    assert refused.returncode == 255 and "no user of that name: --user nosuch" in refused.stderr


def test_limits_reach_config_json_and_the_plan(run: Run, rootless: Any, tmp_path: Path) -> None:
    out = rootless("run", "--dry-run", "--memory", "64m", "--pids-limit", "9", "--shm-size", "1m", f"./{BOX}").stdout
    assert "size=1048576" in out
    if out.split()[1] == "cgroup":  # otherwise no cgroup can be made here, and `run` without --dry-run says so
        assert "memory.max" in out and "67108864" in out and "pids.max" in out
    (tmp_path / "spec").mkdir()
    assert rootless("spec", "-b", tmp_path / "spec", "--memory", "64m", "--pids-limit", "9").returncode == 0
    resources = json.loads((tmp_path / "spec/config.json").read_text())["linux"]["resources"]
    assert resources["memory"]["limit"] == 64 << 20 and resources["pids"]["limit"] == 9


def test_a_limit_without_its_controller_is_refused_before_anything_is_made(run: Run, tmp_path: Path) -> None:
    result = run("--memory", "64m", fails=True)
    if result.returncode == 0:
        pytest.skip("there is a cgroup with the memory controller here")
    assert "memory.max" in result.stderr and "; hint: " in result.stderr, result.stderr
    assert not (tmp_path / "state").exists()


def test_groups_of_the_container_by_name(run: Run) -> None:
    result = run("--group-add", "nosuch", fails=True)
    assert result.returncode == 1 and "no group of that name: --group-add nosuch" in result.stderr
    if RANGED:
        assert run("--group-add", "wheel", "--group-add", "12", script="id -G").split() == ["0", "10", "12"]


def test_capabilities_and_no_new_privileges(run: Run) -> None:
    script = "grep -E 'CapBnd|NoNewPrivs' /proc/self/status"
    out = run("--cap-drop", "all", "--cap-add", "chown", "--security-opt", "no-new-privileges", script=script)
    assert out.split() == ["CapBnd:", f"{1:016x}", "NoNewPrivs:", "1"]
    out = run("--cap-add", "all", "--cap-drop", "net_raw", script="grep CapEff /proc/self/status")
    assert int(out.split()[1], 16) & 1 << 13 == 0 != int(out.split()[1], 16) & 1 << 21


def test_the_default_seccomp_profile_denies_what_a_capability_would_open(run: Run) -> None:
    script = "mkdir -p /m; mount -t tmpfs x /m 2>&1; unshare -U true 2>&1; grep Seccomp: /proc/self/status"
    out = run("--security-opt", "seccomp=default", script=script)
    assert "Operation not permitted" in out and out.split()[-1] == "2"
    flags = ("--security-opt", "seccomp=unconfined", "--no-root-emulation")  # a filter, too, if the user has one id
    assert run(*flags, script="grep Seccomp: /proc/self/status").split()[-1] == "0"


def test_a_seccomp_profile_of_a_file(run: Run, tmp_path: Path) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95, "includes": {}}
    (tmp_path / "p.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    assert "not supported" in run("--security-opt", "seccomp=p.json", script="mkdir /tmp/x 2>&1; true")


def test_a_tmpfs_and_a_read_only_root(run: Run) -> None:
    script = "touch /tmp/x && df -k /tmp | tail -1; touch /x 2>&1"
    out = run("--read-only", "--tmpfs", "/tmp:size=64k", script=f"{script}; true")
    assert out.split()[1] == "64" and "Read-only" in out


def test_the_callers_directories(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    out = run("--mount-home", "--mount-cwd", script="pwd; echo $HOME; ls", env={**os.environ, "HOME": str(home)})
    assert out.split()[:2] == [str(tmp_path), str(home)] and BOX in out.split()


def test_the_hosts_network_comes_with_its_names(run: Run) -> None:
    out = run("--network", "host", "--ephemeral", script="cat /etc/hosts; ls -d /sys/class/net/lo")
    assert out.startswith(Path("/etc/hosts").read_text())
    assert run("--network", "none", script="cat /proc/net/dev").count(":") == 1


def test_a_name_that_is_taken_gets_a_number(run: Run, rootless: Any) -> None:
    out = [
        rootless("run", "-d", f"./{BOX}", "sleep", "100", capture_output=False, stdout=os.open(os.devnull, os.O_RDWR))
    ]
    try:
        assert out[0].returncode == 0 and rootless.ids() == [BOX]
        assert run("--hostname", "x", script="true") == ""  # box-2, which is gone again
        taken = rootless("run", "--name", BOX, f"./{BOX}", "true")
        assert taken.returncode == 1 and "already exists" in taken.stderr and f"hint: --name {BOX}-2, " in taken.stderr
        assert rootless("run", "--name", "other", f"./{BOX}", "true").returncode == 0
    finally:
        rootless("delete", "--force", BOX)
    assert rootless("run", "--rm=false", f"./{BOX}", "true").returncode == 0
    assert rootless("run", "--rm=false", f"./{BOX}", "true").returncode == 0  # a stopped one keeps its name, too
    assert rootless.ids() == [BOX, f"{BOX}-2"]
    for name in rootless.ids():
        rootless("delete", name)


def test_a_detached_container_prints_the_name_that_it_got(run: Run, rootless: Any, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        for _ in range(2):
            rootless("run", "-d", f"./{BOX}", "sleep", "100", capture_output=False, stdout=out, stderr=out)
    assert (tmp_path / "out").read_text() == f"{BOX}\n{BOX}-2\n"
    for name in (BOX, f"{BOX}-2"):
        assert rootless("delete", "--force", name).returncode == 0


@pytest.mark.parametrize(
    ("script", "said"),
    [("exec sleep 100", ""), ("trap 'echo term; exit 3' TERM; while :; do sleep 0.1; done", "term\n")],
)
def test_a_time_limit_ends_the_program(run: Run, script: str, said: str) -> None:
    """Pid 1 without a handler cannot get TERM and is killed; a handler runs."""
    for limit in ("0.5s", "5s", "50s"):  # the first is too short for the trap where the machine stands still
        result = run("--timeout", limit, script=script, fails=True)
        if result.stdout == said:
            break
    assert (result.returncode, result.stdout) == (124, said)
    assert run("--timeout", "1h", script="echo done") == "done\n"


def test_a_small_init_reaps_and_passes_signals_on(run: Run) -> None:
    """Without it pid 1 would not get the ABRT that it sends to itself, and orphans would stay zombies."""
    aborted = run("--init", script="test $$ -ne 1 && kill -ABRT $$; echo not reached", fails=True)
    assert (aborted.returncode, aborted.stdout) == (134, "")
    script = "(sleep 0.1 & ) ; sleep 1; while ps -o stat,comm | grep -q '^Z'; do sleep 0.1; done; echo reaped"
    assert run("--init", script=script) == "reaped\n"
    assert run("--init", "--timeout", "0.5s", script="exec sleep 100", fails=True).returncode == 124


@pytest.mark.parametrize(
    "flags",
    [
        ["-m", "0"], ["--memory-swap", "0"], ["--memory-swap", "-1"], ["--cpus", "0"], ["--cpus=0.000"],
        ["--pids-limit", "0"], ["--pids-limit", "-1"], ["--shm-size", "0"],
    ],
)  # fmt: skip
def test_no_limit_needs_no_cgroup(run: Run, flags: list[str]) -> None:
    """Flags that set no limit with docker need no controller, so `run` does not refuse them."""
    assert run(*flags, script="df /dev/shm | tail -n 1").split()[1] == "65536", "docker's default size"


def test_spec_writes_the_settings_down(rootless: Any, run: Run, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert rootless("spec", "--bundle", "new", "-v", f"./{BOX}:/b:ro", "-m", "1g", "-e", "A=1").returncode == 0
    config = json.loads((tmp_path / "new/config.json").read_text())
    assert config["mounts"][-1]["source"] == f"{tmp_path}/{BOX}" and "A=1" in config["process"]["env"]
    assert config["linux"]["resources"]["memory"]["limit"] == 1 << 30


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-v", "data:/d"], "hint: ./data"), (["-v", "./none:/d"], "the source does not exist"),
        (["-u", "nosuch"], "no user of that name"), (["-u", "root:nosuch"], "no group of that name"),
        (["--env-file", "none"], "cannot read the variables"),
        (["--volume", ""], "a value is missing: --volume ''; hint: SRC:DST"),
        (["--security-opt", "seccomp=none"], "cannot read the"),
        (["--security-opt", "seccomp=/dev/null"], "not JSON"), (["--timeout", "soon"], "not a duration"),
        (["--timeout", "0"], "not a duration"), (["--ephemeral=disc"], "unknown place"),
        (["--ephemeral=tmpfs:size=x"], "not a size"), (["--name", "a/b"], "invalid character"),
        (["--memory", ""], "a value is missing: --memory"), (["--timeout="], "not a duration"),
        (["--pids-limit="], "a value is missing"), (["--security-opt", "seccomp=/etc/passwd"], "profile is not JSON"),
        (["--ulimit", "nofile=3"], "RLIMIT_NOFILE is too low"), (["-v", "/tmp:/d:ro,rw"], "both ro and rw"),
        (["--cpus", "many"], "not a number of CPUs"), (["--network", "bridge"], "unknown network"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(
    run: Run, rootless: Any, tmp_path: Path, flags: list[str], words: str
) -> None:
    result = run(*flags, fails=True)
    assert result.returncode == 1 and words in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert rootless.ids() == [] and not list((tmp_path / "cache").glob("rootless/upper/*"))


def test_what_cannot_be_meant_is_refused(run: Run, rootless: Any, tmp_path: Path) -> None:
    """keep-groups next to another group (podman's rule), the working directory / as a mount, a file as a bundle."""
    result = run("--group-add", "5", "--group-add", "keep-groups", fails=True)
    assert result.returncode == 1 and "no other group can be added" in result.stderr
    result = rootless("run", "--mount-cwd", f"{tmp_path}/{BOX}", "true", cwd="/")
    assert result.returncode == 1 and "over the whole root: --mount-cwd; hint: cd " in result.stderr
    (tmp_path / "image.tar").touch()
    result = rootless("create", "./image.tar")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "a bundle is a directory: ./image.tar: ENOTDIR" in result.stderr and "rootless run -d ./im" in result.stderr


def test_a_user_by_number_for_a_rootfs_to_come(rootless: Any, tmp_path: Path) -> None:
    assert rootless("spec", "-b", tmp_path, "-u", "5:6").returncode == 0
    user = json.loads((tmp_path / "config.json").read_text())["process"]["user"]
    assert (user["uid"], user["gid"]) == (5, 6)


def test_the_network_of_another_container(run: Run, rootless: Any, container: Callable[..., Any]) -> None:
    """Both see one loopback device, as podman's containers do that share a network namespace."""
    script = "echo shared >/tmp/index.html; exec httpd -f -p 127.0.0.1:8000 -h /tmp"
    c = container({"process": {"args": ["sh", "-c", script]}, "root": {"readonly": False}})
    assert c.run_detached().returncode == 0
    path = f"/proc/{c.state()['pid']}/ns/net"
    asks = "until wget -q -O - http://127.0.0.1:8000/; do sleep 0.1; done; touch /made"
    assert run("--network", f"ns:{path}", script=asks) == "shared\n"
    assert os.stat(f"{BOX}/rootfs/made").st_uid == os.geteuid()


def test_a_program_as_a_file_of_variables_is_not_printed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"\x7fELF \x00\xff" * 99)
    result = run("--env-file", "program", script="true", fails=True)
    assert "not an environment variable" in result.stderr and "..." in result.stderr and len(result.stderr) < 600
