"""On a host whose limits belong to cgroup v1 containers run, and limits are refused with the reason.

If the user may write the unified hierarchy beside it, that one serves for what it has: processes, freezing, killing.
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from rootless.kernel import cgroup_view as view

pytestmark = pytest.mark.skipif(
    os.path.exists("/sys/fs/cgroup/cgroup.controllers") or not os.path.exists("/sys/fs/cgroup/memory"),
    reason="this machine is not a host with cgroup v1 controllers",
)
NOTHING = {"memory": {"limit": 0, "swap": -1}, "cpu": {"shares": 1024, "quota": -1}, "pids": {"limit": -1}}
LIMITS = {
    "memory/limit": {"memory": {"limit": 64 << 20}},
    "pids/limit": {"pids": {"limit": 10}},
    "cpu/quota": {"cpu": {"quota": 50000}},
    "unified/memory.high": {"unified": {"memory.high": "1000000"}},
}


def test_a_container_without_limits_runs(container):
    box = container({"linux": {"resources": NOTHING}})
    assert box.output("echo", "it runs") == "it runs\n"


@pytest.mark.parametrize("place", LIMITS)
def test_a_limit_is_refused_with_the_place_and_the_way_out(container, place):
    result = container({"linux": {"resources": LIMITS[place]}}).run()
    assert result.returncode == 1
    assert f"/linux/resources/{place}" in result.stderr
    assert "v1" in result.stderr and "cgroup v2 alone" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_controllers_of_version_1_are_left_alone(container):
    """The container stays in the v1 cgroups in which it was started."""
    box = container({"process": {"args": ["sleep", "1000"]}})
    assert box.run_detached().returncode == 0
    with open("/proc/self/cgroup") as ours, open(f"/proc/{box.state()['pid']}/cgroup") as theirs:
        assert [a for a in ours if not a.startswith("0::")] == [b for b in theirs if not b.startswith("0::")]


def test_the_unified_hierarchy_serves_processes_freezing_and_killing(container, rootless):
    if os.geteuid():
        pytest.skip("only root may write this machine's unified hierarchy")
    box = container({"process": {"args": ["sh", "-c", "sleep 1000 & exec sleep 1000"]}})
    assert box.run_detached().returncode == 0
    path = json.loads((rootless.state / box.id / "state.json").read_text())["cgroup"]["path"]
    assert path.startswith(f"{view.read().mount}/")
    assert box.state()["pid"] in json.loads(rootless("ps", "--format", "json", box.id).stdout)
    assert rootless("pause", box.id).returncode == 0
    assert box.status() == "paused"
    assert rootless("resume", box.id).returncode == 0
    assert rootless("kill", "--all", box.id, "KILL").returncode == 0
    box.wait()
    assert box.delete().returncode == 0
    assert not os.path.exists(path)


def test_without_a_cgroup_pause_says_why_and_kill_works_by_the_pid_namespace(container, rootless):
    if not os.geteuid():
        pytest.skip("root has a cgroup here")
    box = container({"process": {"args": ["sleep", "1000"]}})
    assert box.run_detached().returncode == 0
    paused = rootless("pause", box.id)
    assert paused.returncode == 1
    assert "the container has no cgroup" in paused.stderr
    assert rootless("kill", "--all", box.id, "KILL").returncode == 0
    box.wait()


@pytest.mark.root
def test_a_host_with_version_1_alone(container):
    """The test unmounts the unified hierarchy in a mount namespace of its own."""
    if os.geteuid():
        pytest.skip("unmounting needs root")
    box = container()
    limited = container({"linux": {"resources": LIMITS["pids/limit"]}})
    alone = 'umount /sys/fs/cgroup/unified && exec "$@"'

    def run(each, *command):
        words = each.rootless.command("run", "-b", each.bundle.path, each.id, *command)
        return subprocess.run(["unshare", "-m", "sh", "-c", alone, "sh", *words], capture_output=True, text=True,
                              check=False)  # fmt: skip

    assert run(box, "--", "echo", "it runs").stdout == "it runs\n"
    refused = run(limited)
    assert refused.returncode == 1
    assert "/linux/resources/pids/limit" in refused.stderr
    assert "cgroup v1" in refused.stderr
