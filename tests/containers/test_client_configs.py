"""A bundle that a client made for runc or crun runs here unchanged.

The tests change only what belongs to another machine: paths and ids of the host, namespaces and hooks of processes that
have ended, and real limits, which have tests of their own. Limits that ask for nothing are added to all configs.
"""

import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from rootless.kernel.host import Host
from tests.support.containers import has_libseccomp

PLANS = Path(__file__).resolve().parents[1] / "plans"
ROOT = os.geteuid() == 0
# As who: real root, an ordinary user, the same as root of a user namespace (how podman and buildah call).
CONFIGS = sorted(path for path in PLANS.glob("*/*.json") if (path.parent.name == "root") == ROOT)
# Everything that generated configs hold and that asks for nothing: docker's, containerd's, podman's, CRI-O's.
NOTHING = {
    "devices": [{"allow": False, "access": "rwm"}]
    + [{"allow": True, "type": "c", "major": 1, "minor": n, "access": "rwm"} for n in (3, 5, 7, 8, 9)]
    + [{"allow": True, "type": "c", "major": 5, "minor": n, "access": "rwm"} for n in (0, 1, 2)],
    "memory": {"limit": 0, "swap": -1, "reservation": 0, "swappiness": 0, "disableOOMKiller": False},
    "cpu": {"shares": 1024, "quota": 0, "period": 0, "cpus": "", "mems": "", "realtimeRuntime": 0},
    "pids": {"limit": -1},
    "blockIO": {"weight": 0, "leafWeight": 0, "weightDevice": []},
    "hugepageLimits": [],
    "network": {"classID": 0, "priorities": []},
    "rdma": {},
    "unified": {},
}
LONG = {"root": "root/docker-run", "user": "userns/podman-run", "userns": "userns/podman-run"}  # whole seccomp profiles


def localized(config: dict[str, Any], kind: str, rootfs: Path) -> dict[str, Any]:
    """Return the config with the paths and ids of this machine."""
    linux, process = config["linux"], config["process"]
    config["root"]["path"] = str(rootfs)
    process.update(args=["/bin/true"], terminal=False)
    if process.get("oomScoreAdj", 0) < 0:
        process["oomScoreAdj"] = 0
    for limit in process.get("rlimits", ()):
        hard = resource.getrlimit(getattr(resource, limit["type"]))[1]
        if hard != resource.RLIM_INFINITY:
            limit.update(soft=min(limit["soft"], hard), hard=min(limit["hard"], hard))
    config["mounts"] = [m for m in config["mounts"] if m["type"] != "bind" or os.path.exists(m["source"])]
    for hooks in config.get("hooks", {}).values():
        hooks[0]["path"] = "/bin/true"
    for namespace in linux["namespaces"]:
        namespace.pop("path", None)
    linux.pop("cgroupsPath", None)
    linux["resources"] = NOTHING
    if kind == "user":
        for key, own in (("uidMappings", os.geteuid()), ("gidMappings", os.getegid())):
            if key in linux:
                linux[key][0]["hostID"] = own
    if "seccomp" in linux:
        linux["seccomp"] = json.loads((PLANS / f"{LONG[kind]}.json").read_text())["linux"]["seccomp"]
        if not has_libseccomp():
            del linux["seccomp"]
    return config


@pytest.mark.parametrize("path", CONFIGS, ids=[f"{path.parent.name}-{path.stem}" for path in CONFIGS])
def test_a_clients_config_runs(rootless, container, path) -> None:
    kind = path.parent.name
    host = Host()
    if kind == "userns" and not (host.subuid and host.subgid):
        pytest.skip("this user has no subordinate ids")
    c = container()
    for folder in ("run/lock", "var/log/journal", "mnt", "data", "vol", "t", "srv"):
        (c.bundle.rootfs / folder).mkdir(parents=True)
    c.bundle.config = localized(json.loads(path.read_text()), kind, c.bundle.rootfs)
    if path.stem == "podman-auto":
        for folder, _, _ in os.walk(c.bundle.rootfs):  # the container's root is another user here
            os.chmod(folder, 0o777)
    c.bundle.write()
    words = ["run", "-b", str(c.bundle.path), c.id]
    if kind == "userns":
        words = ["unshare", *rootless.command(*words)]
    result = rootless(*words)
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stderr.splitlines() if "warning: " not in line] == []
