"""Each session gives a container its manager and its cgroup, or the error says why there is none."""

from __future__ import annotations

import json
import os
import shlex
import tempfile

import pytest

from tests.support.limits import run

pytestmark = pytest.mark.vm

LIMIT = {"linux": {"resources": {"memory": {"limit": 64 * 2**20}}}}


def test_without_a_manager_named_limits_hold_in_every_session(container, rootless, who):
    box = container(LIMIT | {"process": {"args": ["sleep", "1000"]}})
    assert box.run_detached().returncode == 0, (box.bundle.path / "stderr").read_text()
    record = json.loads((rootless.state / box.id / "state.json").read_text())["cgroup"]
    assert record["manager"] == ("cgroupfs" if who == "root" else "systemd")
    with open(f"{record['path']}/memory.max") as file:
        assert file.read() == f"{64 * 2**20}\n"


def test_exec_enters_the_containers_cgroup_from_every_session(container, rootless, tmp_path):
    """After a plain login only systemd can move it there, because the cgroup above both is root's."""
    box = container(LIMIT | {"process": {"args": ["sleep", "1000"]}})
    assert box.run_detached().returncode == 0, (box.bundle.path / "stderr").read_text()
    record = json.loads((rootless.state / box.id / "state.json").read_text())["cgroup"]
    pid_file = tmp_path / "pid"
    began = rootless("exec", "-d", "--pid-file", pid_file, box.id, "sleep", "1000", capture_output=False, stdout=-3)
    assert began.returncode == 0
    assert int(pid_file.read_text()) in map(int, open(f"{record['path']}/cgroup.procs"))
    assert rootless("exec", box.id, "echo", "inside").stdout == "inside\n"
    os.mkdir(f"{record['path']}/below")
    below = rootless("exec", "--cgroup", "below", box.id, "cat", "/proc/self/cgroup")
    assert below.stdout.endswith("/below\n"), below.stderr
    # Without the session's bus nobody can be asked. In the other sessions the process goes there by itself.
    environment = {k: v for k, v in os.environ.items() if k not in ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")}
    alone = rootless("exec", box.id, "echo", "inside", env=environment)
    if alone.returncode:
        assert alone.stderr.startswith("rootless: exec failed: cannot enter the container's cgroup from this session")
        assert alone.stderr.count("\n") == 1 and "EACCES" in alone.stderr and "hint: " in alone.stderr


def test_cgroupfs_in_a_login_refuses_limits_and_says_who_has_to_do_what(container, rootless, who):
    if who != "login":
        pytest.skip("only a plain login has no cgroup that it may write")
    box = container(LIMIT)
    result = rootless("--cgroup-manager", "cgroupfs", "run", "-b", box.bundle.path, box.id)
    assert result.returncode == 1
    assert "/linux/resources/memory/limit" in result.stderr
    assert "systemd-run --user --scope -p Delegate=yes" in result.stderr
    box.bundle.patch({"linux": {"resources": {"memory": None}}})
    result = rootless("--cgroup-manager", "cgroupfs", "run", "-b", box.bundle.path, box.id, "--", "echo", "unlimited")
    assert result.stdout == "unlimited\n"


def test_without_the_bus_the_systemd_manager_says_so(container, rootless, who):
    if who == "root":
        pytest.skip("root's bus is at a fixed place")
    box = container(LIMIT)
    environment = {k: v for k, v in os.environ.items() if k not in ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")}
    result = rootless("--systemd-cgroup", "run", "-b", box.bundle.path, box.id, env=environment)
    assert result.returncode == 1
    assert "no D-Bus session of this user" in result.stderr


def test_a_scope_that_exists_is_refused_with_systemds_words(container, rootless):
    patch = {"process": {"args": ["sleep", "1000"]}, "linux": {"cgroupsPath": ":same:name"}}
    first, second = container(patch), container(patch)
    out = (first.bundle.path / "out").open("w")
    started = rootless("--systemd-cgroup", "run", "-d", "-b", first.bundle.path, first.id,
                       capture_output=False, stdout=out, stderr=out)  # fmt: skip
    assert started.returncode == 0, (first.bundle.path / "out").read_text()
    result = rootless("--systemd-cgroup", "run", "-b", second.bundle.path, second.id)
    assert result.returncode == 1
    assert "same-name.scope" in result.stderr
    assert first.status() == "running"


def test_moving_into_a_leaf_is_said_once(container, rootless, who):
    """The scope that holds this process has to hand on controllers, so the process moves to a leaf."""
    if who != "delegated":
        pytest.skip("only there a cgroup is both ours and full")
    patch = LIMIT | {"process": {"args": ["cat", "/proc/self/cgroup"]}}
    inner = [container(patch), container(patch)]
    commands = [rootless.command("--cgroup-manager", "cgroupfs", "run", "-b", c.bundle.path, c.id) for c in inner]
    script = "\n".join(shlex.join(command) for command in commands)
    scope = ["systemd-run", "--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--"]
    result = run(*scope, "sh", "-c", script)
    assert result.returncode == 0, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "moved 2 processes from /sys/fs/cgroup/" in result.stderr
    assert "to rootless-leaf below it: a cgroup that hands on controllers holds none" in result.stderr


def test_the_smallest_memory_limit_in_which_true_runs(container, rootless, who, manager):
    """It is at most 5 MiB, for the pages of the interpreter that are copied before execve."""
    if who == "login":
        pytest.skip("the delegated user's figure is the same")

    said = []

    def runs(kib):
        patch = {"process": {"args": ["true"]}, "linux": {"resources": {"memory": {"limit": kib * 1024}}}}
        box = container(patch)
        result = rootless("--cgroup-manager", manager, "run", "-b", box.bundle.path, box.id)
        said.append((kib, result.returncode, result.stderr))
        return result.returncode == 0

    low, high = 0, 2048  # the aim: 2 MiB, where runc needs 10
    assert runs(high), said
    while high - low > 256:
        middle = (low + high) // 2
        low, high = (low, middle) if runs(middle) else (middle, high)
    print(f"the smallest memory.max: {high} KiB under {manager} as {who}")


@pytest.fixture
def short():
    """Return a short path, because podman accepts no runroot of more than 50 characters."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as path:
        yield path


def test_podman_with_limits(manager, who, tmp_path, short):
    """podman uses the runtime under both managers; its limits are set, and it can read and change them."""
    if who == "login":
        pytest.skip("podman's own cgroups need a session of the user's manager")
    launcher = tmp_path / "rootless"
    here = os.path.abspath(f"{__file__}/../../../bin/rootless")
    launcher.write_text(f'#!/bin/sh\nexec /usr/bin/python3 -IS {here} "$@"\n')
    launcher.chmod(0o755)
    rootfs = tmp_path / "rootfs/bin"
    rootfs.mkdir(parents=True)
    run("cp", "/bin/busybox", str(rootfs))
    for name in ("sh", "sleep", "cat"):
        (rootfs / name).symlink_to("busybox")
    places = ["--root", str(tmp_path / "graph"), "--runroot", short]
    options = ["--runtime", str(launcher), "--cgroup-manager", manager, "--events-backend", "file"]

    def podman(*args):
        result = run("podman", *places, *options, *args)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    try:
        podman("run", "-d", "--name", "box", "--memory", "64m", "--pids-limit", "33", "--network", "none",
               "--security-opt", "seccomp=unconfined", "--rootfs", str(tmp_path / "rootfs"),
               "sleep", "1000")  # fmt: skip
        with open(f"/proc/{podman('inspect', '-f', '{{.State.Pid}}', 'box')}/cgroup") as file:
            path = "/sys/fs/cgroup" + file.read().strip().removeprefix("0::")
        assert _limits(path) == [str(64 * 2**20), "33"]
        assert podman("exec", "box", "cat", "/sys/fs/cgroup/memory.max") == str(64 * 2**20)
        assert podman("stats", "--no-stream", "--format", "{{.MemLimit}} {{.PIDS}}", "box") == f"{64 * 2**20} 1"
        if run("podman", "update", "--help").returncode == 0:  # from 4.3 on
            podman("update", "--memory", "48m", "box")
            assert _limits(path) == [str(48 * 2**20), "33"]
        podman("pause", "box")
        with open(f"{path}/cgroup.events") as events:
            assert "frozen 1" in events.read()
        podman("unpause", "box")
    finally:
        run("podman", *places, *options, "rm", "-f", "-t", "0", "box")
    assert not os.path.exists(path)


def _limits(path):
    with open(f"{path}/memory.max") as memory, open(f"{path}/pids.max") as pids:
        return [memory.read().strip(), pids.read().strip()]
