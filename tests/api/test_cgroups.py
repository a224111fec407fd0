"""Containers of the Python API have cgroups, if an ordinary user may make them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import rootless
from rootless.api.client import launcher_pid
from tests.support.checkout import TIMEOUT
from tests.support.processes import is_gone

LIMITED: dict[str, Any] = {"config": {"linux": {"resources": {"unified": {"cgroup.max.depth": "5"}}}}}


def own() -> Path:
    line = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    return Path("/sys/fs/cgroup" + line[3:]).parent


def launchers_cgroups() -> list[Path]:
    """Return the cgroups that this process's launcher has made, not those of other tests."""
    return list(own().glob(f"rootless-{launcher_pid()}-*"))


@pytest.fixture(autouse=True)
def delegated() -> None:
    if not os.access(own() / "cgroup.procs", os.W_OK) or os.getuid() == 0:
        pytest.skip("no cgroup is delegated to this user here")


def test_a_container_s_cgroup_goes_with_it() -> None:
    with rootless.Popen(["sleep", "1000"], **LIMITED) as box:
        try:
            assert len(launchers_cgroups()) == 1
            box.pause()
            box.resume()
        finally:
            box.kill()
    assert launchers_cgroups() == []


@pytest.mark.parametrize("name", ["", f"paused-{os.getpid()}"], ids=["no name", "a name"])
def test_a_paused_container_can_be_killed(name: str) -> None:
    """Its init is frozen as well, and could not report the end."""
    box = rootless.Popen(["sleep", "1000"], name=name, **LIMITED)
    box.pause()
    box.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        box.wait(0.1)
    box.kill()
    assert box.wait(TIMEOUT) in (-signal.SIGKILL, -signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        rootless.run(["sleep", "1000"], timeout=0.1, name=name, **LIMITED)


@pytest.mark.parametrize("name", ["", f"frozen-{os.getpid()}"], ids=["no name", "a name"])
def test_a_paused_container_takes_no_further_program(name: str) -> None:
    with rootless.Popen(["sleep", "1000"], name=name, **LIMITED) as box:
        try:
            box.pause()
            with pytest.raises(rootless.RootlessError, match="cannot exec in a paused container"):
                box.exec(["true"])
            box.resume()
            assert box.exec(["true"]).returncode == 0
        finally:
            box.kill()


def test_what_a_killed_launcher_leaves_is_removed_by_the_next() -> None:
    box = rootless.Popen(["sleep", "1000"], **LIMITED)
    left = launchers_cgroups()
    old = launcher_pid()
    os.kill(old, signal.SIGKILL)
    with pytest.raises(rootless.LauncherError):
        box.wait(TIMEOUT)
    box.returncode = -9
    assert is_gone(old) and is_gone(box.pid)
    assert rootless.run(["true"], **LIMITED).returncode == 0
    assert left and not any(path.exists() for path in left)
