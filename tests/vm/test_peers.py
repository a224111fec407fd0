"""The same resources give the same file values under crun, runc and this runtime: a differential test."""

from __future__ import annotations

import json
import os
import random
import shutil

import pytest

from rootless.kernel.host import Host, default_id_map
from tests.support.limits import run

pytestmark = pytest.mark.vm

DISK = os.stat("/").st_dev
FILES = ("memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpuset.cpus", "cpuset.mems", "pids.max",
         "io.weight", "io.max", "hugetlb.2MB.max", "memory.high", "memory.oom.group", "cgroup.max.depth")  # fmt: skip
SAMPLES = 4
IDS = ("containerID", "hostID", "size")


def generate(seed, hugetlb):
    """Return resources of runtime-spec 1.0 by a seed: each property is there or not, with a value of its range."""
    pick = random.Random(seed)
    maybe = lambda value: value if pick.random() < 0.7 else None  # noqa: E731
    limit = pick.choice([-1, 4096 * pick.randrange(2000, 20000)])
    swap = limit if limit == -1 else pick.choice([-1, limit, limit + 4096 * pick.randrange(1000)])
    device = {"major": os.major(DISK), "minor": os.minor(DISK)}
    resources = {
        "memory": {"limit": limit, "swap": maybe(swap), "reservation": maybe(4096 * pick.randrange(1, 2000))},
        "cpu": {"shares": maybe(pick.randrange(2, 262145)),
                "quota": maybe(pick.choice([-1, pick.randrange(2000, 99999)])),
                "period": maybe(pick.randrange(10000, 1000000)), "cpus": maybe(pick.choice(["0", "1", "0-1"])),
                "mems": maybe("0")},
        "pids": {"limit": pick.choice([-1, pick.randrange(20, 5000)])},
        "blockIO": {"weight": maybe(pick.randrange(10, 1001))},
        "unified": {"memory.high": maybe(str(4096 * pick.randrange(2000, 20000))), "memory.oom.group": maybe("1"),
                    "cgroup.max.depth": maybe(str(pick.randrange(100)))},
    }  # fmt: skip
    for what in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS"):
        if pick.random() < 0.5:
            resources["blockIO"][f"throttle{what}Device"] = [device | {"rate": pick.randrange(10000, 10**9)}]
    if hugetlb and pick.random() < 0.7:
        resources["hugepageLimits"] = [{"pageSize": "2MB", "limit": 2**21 * pick.randrange(10)}]
    return {name: {k: v for k, v in part.items() if v is not None} if isinstance(part, dict) else part
            for name, part in resources.items()}  # fmt: skip


@pytest.mark.parametrize("seed", range(SAMPLES))
def test_the_files_are_those_of_crun_and_runc(container, rootless, who, seed):
    """cpu.weight is left out, because these versions of the peers convert shares linearly."""
    if who == "login" or (who == "delegated" and seed != 1):
        pytest.skip("root compares under both managers, an ordinary user under systemd")
    resources = generate(seed, hugetlb=who == "root")
    box = container({"ociVersion": "1.0.2", "linux": {"resources": resources}, "process": {"args": ["sleep", "1000"]}})
    if who != "root":
        for kind, (own, ranges) in {"uid": (os.getuid(), Host().subuid), "gid": (os.getgid(), Host().subgid)}.items():
            ids = [dict(zip(IDS, entry, strict=True)) for entry in default_id_map(own, ranges)]
            box.bundle.patch({"linux": {f"{kind}Mappings": ids}})
    systemd = ["--systemd-cgroup"] if seed % 2 else []
    slice_ = "system.slice" if who == "root" else "user.slice"
    values = {}
    for name in ("crun", "runc", "rootless"):
        where = {"linux": {"cgroupsPath": f"{slice_}:{name}:{box.id}" if systemd else f"/{name}-{box.id}"}}
        box.bundle.patch(where)
        command = (
            rootless.command() if name == "rootless" else [shutil.which(name), "--root", str(rootless.state) + name]
        )
        with open(box.bundle.path / "out", "w+") as out:
            created = run(*command, *systemd, "create", "-b", str(box.bundle.path), box.id, capture_output=False,
                          stdout=out, stderr=out)  # fmt: skip
            out.seek(0)
            assert created.returncode == 0, f"{name}: {out.read()}"
        pid = json.loads(run(*command, "state", box.id).stdout)["pid"]
        with open(f"/proc/{pid}/cgroup") as file:
            path = "/sys/fs/cgroup" + file.read().strip().removeprefix("0::")
        values[name] = {file: _read(path, file) for file in FILES}
        weight = _read(path, "cpu.weight")
        assert run(*command, "delete", "--force", box.id).returncode == 0
        if shares := resources["cpu"].get("shares"):
            assert name == "rootless" or int(weight) == 1 + (shares - 2) * 9999 // 262142
    assert values["rootless"] == values["crun"], resources
    assert values["rootless"] == values["runc"], resources


def _read(path, file):
    try:
        with open(f"{path}/{file}") as found:
            return found.read().strip()
    except FileNotFoundError:
        return None
