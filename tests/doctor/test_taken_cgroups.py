"""When a cgroup is somebody else's, busy, frozen or missing, the error and `doctor` have the same hint."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doctor.taken import Make, both_say
from tests.support.containers import USER, Rootless

V2 = Path("/sys/fs/cgroup")


def own() -> Path:
    """Return this process's cgroup."""
    line = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    return V2 / line[4:].lstrip("/")


@pytest.fixture
def above() -> Iterator[Path]:
    """Return a cgroup of the test's own next to this process's, below which containers can have theirs."""
    if not (V2 / "cgroup.procs").exists():
        pytest.skip("cgroup v2 is not mounted at /sys/fs/cgroup")
    place = own().parent / f"above-{os.getpid()}"
    try:
        place.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    yield place
    for path in sorted([*place.rglob("*/"), place], reverse=True):
        if path.is_dir():
            path.rmdir()


def limited(path: str, **resources: Any) -> dict[str, Any]:
    return {"linux": {"cgroupsPath": path, "resources": resources or {"unified": {"cgroup.max.depth": "5"}}}}


def in_v2(path: Path) -> str:
    return "/" + str(path.relative_to(V2))


@pytest.mark.root
def test_a_cgroup_on_a_read_only_file_system(rootless: Rootless, container: Make) -> None:
    """Root of a container is in this place if its engine shows cgroups but lets nobody make one."""
    if USER:
        pytest.skip("for a user such a cgroup is none")
    script = 'umount -R /sys/fs/cgroup; mount -t cgroup2 -o ro none /sys/fs/cgroup && exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", script, "sh")
    both_say(rootless, container(limited("/nobodys/box")), "cgroup-elsewhere", before)


def test_a_frozen_cgroup(rootless: Rootless, container: Make, above: Path) -> None:
    (above / "cgroup.freeze").write_text("1")
    both_say(rootless, container(limited(in_v2(above))), "frozen-above")
    assert above.exists()


def test_a_cgroup_with_processes_of_others(rootless: Rootless, container: Make, above: Path) -> None:
    if "hugetlb" not in (above / "cgroup.controllers").read_text().split():
        try:
            (above.parent / "cgroup.subtree_control").write_text("+hugetlb")
        except OSError as error:
            pytest.skip(f"this user has no controller to hand on: {error}")
    with subprocess.Popen(["sleep", "1000"]) as sleeper:
        try:
            (above / "cgroup.procs").write_text(str(sleeper.pid))
            limits = [{"pageSize": "2MB", "limit": 1 << 21}]
            both_say(rootless, container(limited(in_v2(above / "box"), hugepageLimits=limits)), "busy-cgroup")
            assert (above / "cgroup.procs").read_text().split() == [str(sleeper.pid)]
        finally:
            sleeper.kill()
