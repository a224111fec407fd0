"""Limits on a kernel with all controllers: each file has its value, each limit bites, nothing is left."""

from __future__ import annotations

import json
import os
import select

import pytest

from .conftest import run

pytestmark = pytest.mark.vm

MIB = 2**20
DISK = os.stat("/").st_dev
MAJOR, MINOR = os.major(DISK), os.minor(DISK)

# resource, its files
VALUES = {
    "memory": (
        {"memory": {"limit": 64 * MIB, "reservation": 8 * MIB, "swap": 96 * MIB}},
        {"memory.max": str(64 * MIB), "memory.low": str(8 * MIB), "memory.swap.max": str(32 * MIB)},
    ),
    "cpu": (
        {"cpu": {"shares": 512, "quota": 50000, "period": 200000, "burst": 10000, "cpus": "0", "mems": "0"}},
        {"cpu.weight": "59", "cpu.max": "50000 200000", "cpu.max.burst": "10000", "cpuset.cpus": "0",
         "cpuset.mems": "0"},
    ),
    "idle": ({"cpu": {"idle": 1}}, {"cpu.idle": "1"}),
    "pids": ({"pids": {"limit": 42}}, {"pids.max": "42"}),
    "unified": (
        {"unified": {"memory.high": str(32 * MIB), "cgroup.max.depth": "3"}},
        {"memory.high": str(32 * MIB), "cgroup.max.depth": "3"},
    ),
    "throttle": (
        {"blockIO": {"throttleReadBpsDevice": [{"major": MAJOR, "minor": MINOR, "rate": 1048576}],
                     "throttleWriteIOPSDevice": [{"major": MAJOR, "minor": MINOR, "rate": 100}]}},
        {"io.max": f"{MAJOR}:{MINOR} rbps=1048576 wbps=max riops=max wiops=100"},
    ),
    "nothing": (
        {"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"shares": 1024, "quota": -1}, "blockIO": {}},
        {"memory.max": "max", "pids.max": "max", "cpu.weight": "100", "cpu.max": "max 100000"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_each_file_has_its_value_seen_from_outside_and_inside(limited, name, who):
    resources, files = VALUES[name]
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]}
    box = limited(resources, linux={"namespaces": _with_cgroup_namespace()}, mounts=_mounts(mount))
    for file, value in files.items():
        if not (box.path / file).exists() and file.partition(".")[0] not in box.read("cgroup.controllers").split():
            pytest.skip(f"the {file} controller is not delegated to {who}")
        assert box.read(file) == value
    inside = _in(box, *(f"cat /sys/fs/cgroup/{file}" for file in files))
    assert inside == list(files.values())


def test_a_memory_limit_kills_and_is_reported(limited, rootless):
    script = "until [ -e /go ]; do sleep 0.2; done; tail /dev/zero; echo $?; sleep 1000"
    box = limited({"memory": {"limit": 16 * MIB, "swap": 16 * MIB}}, "sh", "-c", script)
    watcher = rootless.popen("events", "--interval", "1s", box.container.id)
    assert json.loads(watcher.stdout.readline())["type"] == "stats"  # it watches now
    (box.container.bundle.rootfs / "go").touch()
    event = {}
    while event.get("type") != "oom":
        event = json.loads(watcher.stdout.readline())
    assert event == {"type": "oom", "id": box.container.id}
    _until(lambda: "\n137\n" in box.out.read_text())  # after the shell's "Killed"
    box.container.kill("KILL")
    watcher.communicate(timeout=60)
    assert watcher.returncode == 0


def test_a_pids_limit_refuses_forks(limited):
    box = limited({"pids": {"limit": 3}}, "sh", "-c", "sleep 1000 & sleep 1000 & sleep 1000 & wait")
    box.container.wait()
    assert "an't fork" in box.out.read_text()


def test_half_a_core_is_half_a_core(limited):
    """Counted in the scheduler's own periods, so that a slow machine changes nothing."""
    box = limited({"cpu": {"quota": 50000, "period": 100000}}, "sh", "-c", "while :; do :; done")
    assert _poll_stat(box, "nr_periods", 20) >= 20
    stat = _stat(box)
    assert stat["nr_throttled"] > 0
    assert 0.3 < stat["usage_usec"] / (stat["nr_periods"] * 100000) < 0.75


def test_update_changes_the_files_and_systemds_properties(limited, rootless, manager, who):
    box = limited({"memory": {"limit": 64 * MIB}, "pids": {"limit": 10}})
    result = rootless("update", "--memory", "48m", "--pids-limit", "20", "--cpu-quota", "30000", box.container.id)
    assert result.returncode == 0, result.stderr
    assert [box.read(f) for f in ("memory.max", "pids.max", "cpu.max")] == [str(48 * MIB), "20", "30000 100000"]
    if manager == "systemd":
        properties = _properties(box, who)
        assert properties["MemoryMax"] == str(48 * MIB)
        assert properties["TasksMax"] == "20"
        assert properties["CPUQuotaPerSecUSec"] == "300ms"
    result = rootless("update", "--memory=-1", "--pids-limit=-1", box.container.id)
    assert result.returncode == 0, result.stderr
    assert [box.read(f) for f in ("memory.max", "pids.max", "cpu.max")] == ["max", "max", "30000 100000"]


def test_a_failed_update_leaves_all_as_it_was(limited, rootless):
    box = limited({"memory": {"limit": 64 * MIB}})
    result = rootless("update", "--memory", "48m", "--cpuset-cpus", "4000", box.container.id)
    assert result.returncode == 1
    assert "/cpu/cpus" in result.stderr
    assert box.read("memory.max") == str(64 * MIB)


def test_systemd_properties_and_files_agree(limited, manager, who):
    if manager != "systemd":
        pytest.skip("the cgroupfs manager has no unit")
    box = limited(
        {"memory": {"limit": 64 * MIB, "reservation": 8 * MIB}, "cpu": {"shares": 512, "quota": 33333}},
        annotations={"org.systemd.property.TimeoutStopUSec": "uint64 7000000"},
    )
    properties = _properties(box, who)
    assert properties["MemoryMax"] == box.read("memory.max") == str(64 * MIB)
    assert properties["MemoryLow"] == box.read("memory.low")
    assert properties["CPUWeight"] == box.read("cpu.weight") == "59"
    assert box.read("cpu.max") == "33333 100000"
    assert properties["TasksMax"] == "infinity"
    assert box.read("pids.max") == "max"
    assert properties["Delegate"] == "yes"


def test_events_stats_tell_memory_cpu_pids_and_pressure(limited, rootless):
    box = limited({"memory": {"limit": 64 * MIB}, "pids": {"limit": 10}})
    data = json.loads(rootless("events", "--stats", box.container.id).stdout)["data"]
    assert data["memory"]["usage"]["limit"] == 64 * MIB
    assert 0 < data["memory"]["usage"]["usage"] < 64 * MIB
    assert data["pids"] == {"current": 1, "limit": 10}
    assert data["cpu"]["usage"]["total"] > 0
    assert data["memory"]["raw"]["anon"] > 0


def test_a_container_with_its_cgroup_writable_limits_a_child_and_delete_leaves_nothing(limited, manager):
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw", "nosuid"]}
    script = (
        "cd /sys/fs/cgroup && mkdir init && echo 1 >init/cgroup.procs && echo +memory +pids >cgroup.subtree_control "
        "&& mkdir -p child/deep && echo 5 >child/pids.max && cat child/pids.max; sleep 1000"
    )
    box = limited({"pids": {"limit": 50}}, "sh", "-c", script,
                  linux={"namespaces": _with_cgroup_namespace()}, mounts=_mounts(mount))  # fmt: skip
    _until(box.out.read_text)
    assert box.out.read_text().strip() == "5"
    assert box.read("child/pids.max") == "5"
    assert box.container.delete("--force").returncode == 0
    assert not box.path.exists()


def test_pause_and_resume(limited, rootless):
    box = limited({"pids": {"limit": 10}})
    assert rootless("pause", box.container.id).returncode == 0
    assert "frozen 1" in box.read("cgroup.events")
    assert box.container.status() == "paused"
    assert rootless("resume", box.container.id).returncode == 0
    assert box.container.status() == "running"


def _with_cgroup_namespace():
    names = ["pid", "network", "ipc", "uts", "mount", "cgroup"] + (["user"] if os.geteuid() else [])
    return [{"type": name} for name in names]


def _mounts(*more):
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        *more,
    ]


def _in(box, *commands):
    """The lines that commands print in the container's mounts."""
    pid = str(box.container.state()["pid"])
    flags = ["-m"] if os.geteuid() == 0 else ["-U", "-m", "--preserve-credentials"]
    result = run("nsenter", "-t", pid, *flags, "sh", "-c", "; ".join(commands))
    assert result.returncode == 0, result.stderr
    return [line.strip() for line in result.stdout.splitlines()]


def _stat(box):
    return {k: int(v) for k, v in (line.split() for line in box.read("cpu.stat").splitlines())}


def _poll_stat(box, key, wanted):
    """Wait in the container's own time: the pressure file tells nothing here, so periods are waited for by a pidfd
    that does not fire."""
    pidfd = os.pidfd_open(box.container.state()["pid"])
    try:
        for _ in range(200):
            if _stat(box)[key] >= wanted or select.select([pidfd], [], [], 0.5)[0]:
                break
    finally:
        os.close(pidfd)
    return _stat(box)[key]


def _until(condition):
    for _ in range(300):
        if condition():
            return
        select.select([], [], [], 0.2)
    raise AssertionError("it does not come")


def _properties(box, who):
    flags = () if who == "root" else ("--user",)
    result = run("systemctl", *flags, "show", box.record["unit"])
    return dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)


def test_device_rules_bite_for_root(container, rootless, who):
    """A node that the rules do not allow is there and cannot be opened; the default ones can."""
    if who != "root":
        pytest.skip("a device program needs root")
    fuse = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}
    rules = [{"allow": False, "access": "rwm"}, fuse]
    box = container({"root": {"readonly": False}, "linux": {"resources": {"devices": rules}}})
    script = (
        "mknod /tmp/fuse c 10 229; mknod /tmp/tun c 10 200; "
        "for f in /tmp/fuse /tmp/tun /dev/null; do dd if=$f of=/dev/null count=0 2>&1 && echo opened; done"
    )
    box.bundle.patch({"process": {"capabilities": {k: ["CAP_MKNOD"] for k in ("bounding", "effective", "permitted")}}})
    lines = [line for line in box.sh(script).splitlines() if "records" not in line]
    assert lines == ["opened", "dd: can't open '/tmp/tun': Operation not permitted", "opened"]
