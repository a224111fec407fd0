"""The plans of configs that real clients write: reviewed, and as they were reviewed.

tests/plans/HOST/NAME.json is a config, NAME.txt its plan on a host of that kind; `ROOTLESS_WRITE_PLANS=1` writes the
plans anew, for review by diff. The configs are what runc, crun, podman, buildah, docker, containerd and its CRI gave to
their runtime, without what is of the machine; those of CRI-O are written after its own.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from full import PLAIN
from snapshots import snapshot

from rootless import plan
from rootless.kernel.host import Host
from rootless.node import Node
from rootless.plan import Call
from rootless.plan.compiler import Plan
from rootless.plan.describe import Numbering, describe

PLANS = Path(__file__).resolve().parents[1] / "plans"
CONFIGS = sorted(PLANS.glob("*/*.json"))
_COMMON = {**PLAIN, "cgroup_mount": "/sys/fs/cgroup", "all_capabilities": 2**41 - 1, "grantable": 2**41 - 1}
_RANGES = {"subuid": [(100000, 65536)], "subgid": [(100000, 65536)]}
_INNER = [(0, 1000, 1), (1, 100000, 65536)]
# root: real root. user: an ordinary user. userns: the same user as root of a namespace, as podman and buildah run us.
HOSTS: dict[str, dict[str, Any]] = {
    "root": {**_COMMON, "uid": 0, "gid": 0, "uid_map": [(0, 0, 2**32 - 1)], "gid_map": [(0, 0, 2**32 - 1)],
             "privileged": True, "subuid": [], "subgid": [], "own_cgroup": "/system.slice/docker.service"},
    "user": {**_COMMON, **_RANGES, "uid": 1000, "gid": 1000, "uid_map": [(0, 0, 2**32 - 1)],
             "gid_map": [(0, 0, 2**32 - 1)], "privileged": False,
             "own_cgroup": "/user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope"},
    "userns": {**_COMMON, "uid": 0, "gid": 0, "uid_map": _INNER, "gid_map": _INNER, "privileged": True, "subuid": [],
               "subgid": [], "own_cgroup": "/user.slice/user-1000.slice/user@1000.service/user.slice/podman.scope"},
}  # fmt: skip


def compiled(config: dict[str, Any], kind: str) -> Plan:
    """The plan on a host of that kind."""
    manager = "systemd" if ":" in config["linux"].get("cgroupsPath", "") else ""
    return plan.compile(Node(config), Host(**HOSTS[kind]), Call("/bundle", "id", cgroup_manager=manager))


@pytest.mark.parametrize("path", CONFIGS, ids=[f"{path.parent.name}-{path.stem}" for path in CONFIGS])
def test_the_plan_is_the_reviewed_one(path: Path) -> None:
    made = compiled(json.loads(path.read_text()), path.parent.name)
    text = "".join(f"{line}\n" for line in [*describe(made), *(f"warning: {w}" for w in made.warnings)])
    reviewed = path.with_suffix(".txt")
    if os.environ.get("ROOTLESS_WRITE_PLANS"):
        reviewed.write_text(text)
    assert text == reviewed.read_text()


@pytest.mark.parametrize("path", CONFIGS, ids=[f"{path.parent.name}-{path.stem}" for path in CONFIGS])
def test_looking_at_the_plan_does_not_write_to_it(path: Path) -> None:
    """Neither --dry-run nor --debug, which asks for the same again; tests/containers/test_plan_kept.py executes it."""
    made = compiled(json.loads(path.read_text()), path.parent.name)
    before = snapshot(made)
    lines = describe(made)
    numbering = Numbering(made)
    assert [line for step in made.steps() for line in numbering.lines(step)] == lines
    made.hands_over_cgroup()
    assert snapshot(made) == before and describe(made) == lines


def test_there_are_thirty_of_every_client() -> None:
    assert len(CONFIGS) >= 30
    clients = {path.stem.partition("-")[0] for path in CONFIGS}
    assert clients >= {"runc", "crun", "podman", "docker", "containerd", "cri", "buildah", "crio", "rootless"}
