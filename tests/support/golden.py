"""Find the configs of real clients in tests/plans, and describe the hosts on which their plans are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rootless import plan
from rootless.config_node import Node
from rootless.kernel.host import Host
from rootless.plan import Call
from rootless.plan.compiler import Plan
from tests.support.full_config import PLAIN

PLANS = Path(__file__).resolve().parents[1] / "plans"
CONFIGS = sorted(PLANS.glob("*/*.json"))
_COMMON = {**PLAIN, "cgroup_mount": "/sys/fs/cgroup", "all_capabilities": 2**41 - 1, "grantable": 2**41 - 1}
_RANGES = {"subuid": [(100000, 65536)], "subgid": [(100000, 65536)]}
_INNER = [(0, 1000, 1), (1, 100000, 65536)]
# root: real root. user: an ordinary user. userns: the same user as root of a namespace, as podman and buildah run us.
HOSTS: dict[str, dict[str, Any]] = {
    "root": {**_COMMON, "uid": 0, "gid": 0, "uid_map": [(0, 0, 2**32 - 1)], "gid_map": [(0, 0, 2**32 - 1)],
             "is_root_here": True, "subuid": [], "subgid": [], "own_cgroup": "/system.slice/docker.service"},
    "user": {**_COMMON, **_RANGES, "uid": 1000, "gid": 1000, "uid_map": [(0, 0, 2**32 - 1)],
             "gid_map": [(0, 0, 2**32 - 1)], "is_root_here": False,
             "own_cgroup": "/user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope"},
    "userns": {**_COMMON, "uid": 0, "gid": 0, "uid_map": _INNER, "gid_map": _INNER, "is_root_here": True, "subuid": [],
               "subgid": [], "own_cgroup": "/user.slice/user-1000.slice/user@1000.service/user.slice/podman.scope"},
}  # fmt: skip


def compiled(config: dict[str, Any], kind: str) -> Plan:
    """Return the plan for a host of that kind."""
    manager = "systemd" if ":" in config["linux"].get("cgroupsPath", "") else ""
    return plan.compile(Node(config), Host(**HOSTS[kind]), Call("/bundle", "id", cgroup_manager=manager))
