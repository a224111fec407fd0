"""On a kernel with all controllers each file has its value, each limit takes effect, and nothing is left."""

from __future__ import annotations

import json
import os
import time

import pytest

from tests.support.limits import run

pytestmark = pytest.mark.vm

MIB = 2**20
DISK = os.stat("/").st_dev
MAJOR, MINOR = os.major(DISK), os.minor(DISK)

THROTTLES = {
    f"throttle{what}Device": [{"major": MAJOR, "minor": MINOR, "rate": rate}]
    for what, rate in (("ReadBps", 4096), ("WriteBps", 8192), ("ReadIOPS", 10), ("WriteIOPS", 20))
}
USUAL = (
    {
        "memory": {"limit": 64 * MIB, "reservation": 8 * MIB, "swap": 96 * MIB},
        "cpu": {"shares": 512, "quota": 50000, "period": 200000, "burst": 10000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 42},
        "blockIO": {"weight": 500, **THROTTLES},
        "unified": {"memory.high": str(32 * MIB), "cgroup.max.depth": "3"},
    },
    {
        "memory.max": str(64 * MIB), "memory.low": str(8 * MIB), "memory.swap.max": str(32 * MIB),
        "cpu.weight": "59", "cpu.max": "50000 200000", "cpu.max.burst": "10000", "cpuset.cpus": "0",
        "cpuset.mems": "0", "pids.max": "42", "io.weight": "default 4950",
        "io.max": f"{MAJOR}:{MINOR} rbps=4096 wbps=8192 riops=10 wiops=20",
        "memory.high": str(32 * MIB), "cgroup.max.depth": "3",
    },
)  # fmt: skip
ROOTS = (
    {
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
        "rdma": {"rxe0": {"hcaHandles": 3, "hcaObjects": 1000}},
    },
    {
        "hugetlb.2MB.max": str(4 * MIB), "hugetlb.2MB.rsvd.max": str(4 * MIB),
        "rdma.max": "rxe0 hca_handle=3 hca_object=1000",
    },
)  # fmt: skip
OTHERS = {
    "idle": ({"cpu": {"idle": 1}}, {"cpu.idle": "1"}),
    "nothing": (
        {"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"shares": 1024, "quota": -1}, "blockIO": {}},
        {"memory.max": "max", "pids.max": "max", "cpu.weight": "100", "cpu.max": "max 100000"},
    ),
}


def test_each_file_has_its_value_seen_from_outside_and_inside(limited, who):
    resources, files = USUAL
    if who == "root":  # systemd, which does not know these controllers, delegates them to nobody
        resources, files = resources | ROOTS[0], files | ROOTS[1]
    box = limited(resources)
    assert {file: box.read(file) for file in files} == files
    assert dict(zip(files, _in(box, *(f"cat /sys/fs/cgroup/{file}" for file in files)), strict=True)) == files


@pytest.mark.parametrize("name", OTHERS)
def test_idle_groups_and_values_that_ask_for_nothing(limited, name):
    resources, files = OTHERS[name]
    box = limited(resources)
    assert {file: box.read(file) for file in files} == files


def test_a_controller_that_nobody_delegated_is_named_with_who_has_to_do_what(container, rootless, who, manager):
    if who == "root":
        pytest.skip("root has all controllers")
    box = container({"linux": {"resources": {"hugepageLimits": ROOTS[0]["hugepageLimits"]}}})
    result = rootless("--cgroup-manager", manager, "run", "-b", box.bundle.path, box.id)
    assert result.returncode == 1
    assert "controller `hugetlb` is not available" in result.stderr
    assert "/linux/resources/hugepageLimits/0" in result.stderr
    assert "root has to delegate it" in result.stderr


def test_a_memory_limit_kills_and_is_reported(limited, rootless):
    box = limited({"memory": {"limit": 16 * MIB, "swap": 16 * MIB}})
    watcher = rootless.popen("events", "--interval", "1s", box.container.id)
    assert json.loads(watcher.stdout.readline())["type"] == "stats"  # it watches now
    killed = rootless("exec", box.container.id, "tail", "/dev/zero")
    assert killed.returncode == 137
    limit = f"memory.max is {16 * MIB} bytes: /linux/resources/memory/limit"
    assert killed.stderr == f"rootless: warning: out of memory: the kernel killed a process of the container: {limit}\n"
    box.container.kill("KILL")
    lines, _ = watcher.communicate(timeout=300)
    assert watcher.returncode == 0
    assert {"type": "oom", "id": box.container.id} in map(json.loads, lines.splitlines())


def test_run_says_that_memory_ran_out(container, rootless, manager):
    patch = {"process": {"args": ["tail", "/dev/zero"]}, "linux": {"resources": {"memory": {"limit": 16 * MIB}}}}
    box = container(patch)
    result = rootless("--cgroup-manager", manager, "run", "-b", box.bundle.path, box.id)
    assert result.returncode == 137
    said = [f"out of memory: the kernel killed a process of the container: memory.max is {16 * MIB}"]
    if manager == "systemd":  # it may remove the scope, and with it the count, before that can be read
        said.append(f"probably out of memory: memory.max is {16 * MIB} bytes")
    assert [each for each in said if each in result.stderr], result.stderr


def test_memory_that_runs_out_in_the_set_up_is_reported_with_the_limit(container, rootless, manager):
    box = container({"process": {"args": ["true"]}, "linux": {"resources": {"memory": {"limit": 4096}}}})
    result = rootless("--cgroup-manager", manager, "run", "-b", box.bundle.path, box.id)
    assert result.returncode == 1
    assert "memory.max is 4096 bytes" in result.stderr
    assert "/linux/resources/memory/limit" in result.stderr


def test_a_pids_limit_refuses_forks(limited):
    box = limited({"pids": {"limit": 3}}, "sh", "-c", "sleep 1000 & sleep 1000 & sleep 1000 & wait")
    assert "an't fork" in box.line()


def test_half_a_core_is_half_a_core(limited):
    """The container counts in the scheduler's own periods, so a slow machine changes nothing."""
    count = "while read k v; do [ $k = nr_periods ] && n=$v; done </sys/fs/cgroup/cpu.stat"
    script = f"n=0; while [ $n -lt 20 ]; do {count}; done; cat /sys/fs/cgroup/cpu.stat; echo; exec sleep 1000"
    box = limited({"cpu": {"quota": 50000, "period": 100000}}, "sh", "-c", script)
    stat = {key: int(value) for key, value in (line.split() for line in iter(box.line, ""))}
    assert stat["nr_throttled"] > 0
    assert 0.3 < stat["usage_usec"] / (stat["nr_periods"] * 100000) < 0.75


def test_a_throttled_disk_gives_no_more_than_its_rate(limited):
    script = "read go; dd if=/data of=/dev/null bs=64k iflag=direct 2>&1 | grep -c 'records out'; exec sleep 1000"
    throttle = [{"major": MAJOR, "minor": MINOR, "rate": MIB}]
    reader, writer = os.pipe()
    box = limited({"blockIO": {"throttleReadBpsDevice": throttle}}, "sh", "-c", script, stdin=reader, data=3 * MIB)
    os.close(reader)
    started = time.monotonic()
    os.write(writer, b"go\n")
    assert box.line() == "1"
    assert 3 * MIB / (time.monotonic() - started) < 1.5 * MIB
    os.close(writer)
    figures = dict(line.split(" ", 1) for line in box.read("io.stat").splitlines())[f"{MAJOR}:{MINOR}"]
    assert int(figures.split()[0].removeprefix("rbytes=")) >= 3 * MIB


def test_update_changes_the_files_and_systemds_properties(limited, rootless, manager, who):
    box = limited({"memory": {"limit": 64 * MIB}, "pids": {"limit": 10}})
    flags = {
        "--memory": "48m", "--memory-swap": "64m", "--memory-reservation": "8m", "--pids-limit": "20",
        "--cpu-quota": "30000", "--cpu-period": "50000", "--cpu-share": "512", "--cpuset-cpus": "1",
        "--cpuset-mems": "0", "--blkio-weight": "500",
    }  # fmt: skip
    expected = {
        "memory.max": str(48 * MIB), "memory.swap.max": str(16 * MIB), "memory.low": str(8 * MIB), "pids.max": "20",
        "cpu.max": "30000 50000", "cpu.weight": "59", "cpuset.cpus": "1", "cpuset.mems": "0",
        "io.weight": "default 4950",
    }  # fmt: skip
    result = rootless("update", *(word for pair in flags.items() for word in pair), box.container.id)
    assert result.returncode == 0, result.stderr
    assert {file: box.read(file) for file in expected} == expected
    if manager == "systemd":
        properties = _properties(box, who)
        names = ("MemoryMax", "MemorySwapMax", "MemoryLow", "TasksMax", "CPUWeight", "IOWeight", "AllowedCPUs")
        assert [properties[name] for name in names] == [
            str(48 * MIB), str(16 * MIB), str(8 * MIB), "20", "59", "4950", "1"
        ]  # fmt: skip
        assert properties["CPUQuotaPerSecUSec"] == "600ms"
        run("systemctl", *_of(who), "daemon-reload")
        assert {file: box.read(file) for file in expected} == expected
    result = rootless("update", "--resources", "-", box.container.id,
                      input=json.dumps({"memory": {"limit": -1}, "pids": {"limit": -1}}))  # fmt: skip
    assert result.returncode == 0, result.stderr
    expected |= {"memory.max": "max", "memory.swap.max": "max", "pids.max": "max"}
    assert {file: box.read(file) for file in expected} == expected


def test_a_failed_update_leaves_all_as_it_was(limited, rootless):
    """One update asks for a CPU that does not exist, the other for a limit below what is used, with config.json's
    check.
    """
    box = limited({"memory": {"limit": 64 * MIB, "checkBeforeUpdate": True}})
    result = rootless("update", "--memory", "48m", "--cpuset-cpus", "4000", box.container.id)
    assert result.returncode == 1
    assert "/cpu/cpus" in result.stderr
    result = rootless("update", "--memory", "4k", box.container.id)
    assert result.returncode == 1
    assert "below the current usage" in result.stderr
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
    assert properties["TimeoutStopUSec"] == "7s"
    assert properties["CollectMode"] == "inactive-or-failed"


def test_events_stats_tell_memory_cpu_pids_and_pressure(limited, rootless):
    box = limited({"memory": {"limit": 64 * MIB}, "pids": {"limit": 10}})
    data = json.loads(rootless("events", "--stats", box.container.id).stdout)["data"]
    assert data["memory"]["usage"]["limit"] == 64 * MIB
    assert 0 < data["memory"]["usage"]["usage"] < 64 * MIB
    assert data["pids"] == {"current": 1, "limit": 10}
    assert data["cpu"]["usage"]["total"] > 0
    assert data["memory"]["raw"]["anon"] > 0
    assert data["blkio"]["ioServiceBytesRecursive"] is not None
    for kind in ("cpu", "memory", "blkio"):
        assert data[kind]["psi"]["some"]["total"] >= 0
    if (box.path / "hugetlb.2MB.current").exists():
        assert data["hugetlb"]["2MB"] == {"usage": 0, "failcnt": 0}


def test_a_container_with_its_cgroup_writable_limits_a_child_and_delete_leaves_nothing(limited, manager):
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw", "nosuid"]}
    script = (
        "cd /sys/fs/cgroup && mkdir init && echo 1 >init/cgroup.procs && echo +memory +pids >cgroup.subtree_control "
        "&& mkdir -p child/deep && echo 5 >child/pids.max && cat child/pids.max; exec sleep 1000"
    )
    box = limited({"pids": {"limit": 50}}, "sh", "-c", script, mounts=_mounts(mount))
    assert box.line() == "5"
    assert box.read("child/pids.max") == "5"
    assert box.container.delete("--force").returncode == 0
    assert not box.path.exists()


def test_pause_ps_and_kill_all_reach_every_process(limited, rootless):
    box = limited({"pids": {"limit": 10}}, "sh", "-c", "sleep 1000 & sleep 1000 & echo started; wait")
    assert box.line() == "started"
    assert json.loads(rootless("ps", "--format", "json", box.container.id).stdout) == sorted(
        map(int, box.read("cgroup.procs").split())
    )
    assert rootless("pause", box.container.id).returncode == 0
    assert "frozen 1" in box.read("cgroup.events")
    assert box.container.status() == "paused"
    assert rootless("resume", box.container.id).returncode == 0
    assert box.container.status() == "running"
    assert rootless("kill", "--all", box.container.id, "KILL").returncode == 0
    assert box.line() == ""  # nobody holds the pipe


def _mounts(*more):
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        *more,
    ]


def _in(box, *commands):
    """Return the lines that commands print in the container's mount namespace."""
    pid = str(box.container.state()["pid"])
    flags = ["-m"] if os.geteuid() == 0 else ["-U", "-m", "--preserve-credentials"]
    result = run("nsenter", "-t", pid, *flags, "sh", "-c", "; ".join(commands))
    assert result.returncode == 0, result.stderr
    return [line.strip() for line in result.stdout.splitlines()]


def _of(who):
    return () if who == "root" else ("--user",)


def _properties(box, who):
    result = run("systemctl", *_of(who), "show", box.record["unit"])
    return dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)


def test_device_rules_bite_for_root(container, rootless, who):
    """A node that the rules do not allow exists and cannot be opened; the default ones can."""
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
