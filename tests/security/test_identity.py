"""`delete --force` and `kill` end what was noted of this container, never what a config or a path suggests."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import TIMEOUT, driver

# `create` that is killed as it comes to the function named by its first argument.
KILLED = """
import os
from rootless import __main__
from rootless.runtime import create as launch
from rootless.cgroup import driver
place, name = {
    "create": (driver.Cgroup, "create"), "clone": (launch.Creation, "clone"), "save": (launch.Creation, "follow")
}[sys.argv.pop(1)]
setattr(place, name, lambda *_args, **_names: os.kill(os.getpid(), 9))
__main__.launcher()
"""


def killed(rootless: Any, moment: str, bundle: Path, name: str) -> None:
    """Run `create` of NAME, and kill it at that moment."""
    command = driver(KILLED, moment, "--root", rootless.state, "create", "-b", bundle, name)
    with open(os.devnull, "r+b") as nothing:
        done = subprocess.run(command, stdin=nothing, stdout=nothing, stderr=nothing, check=False, timeout=TIMEOUT)
    assert done.returncode == -9


@pytest.fixture
def running(container) -> Any:
    """Return a container that runs in a cgroup of its own."""
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    state = json.loads((c.rootless.state / c.id / "state.json").read_text())
    if not state["cgroup"]["path"]:
        pytest.skip("no cgroup can be made here")
    yield c, state["cgroup"]["path"]


@pytest.mark.parametrize("moment", ["create", "clone", "save"])
def test_a_cgroup_that_another_container_runs_in(running, container, rootless, moment: str) -> None:
    """B was killed before its state was written, and its config names the cgroup that A has: deleting B leaves A
    running.
    """
    a, path = running
    b = container({"process": {"args": ["sleep", "1000"]}})
    killed(rootless, moment, b.bundle.path, b.id)
    config = json.loads((rootless.state / b.id / "config.json").read_text())
    mount = next(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line)
    config["linux"]["cgroupsPath"] = path.removeprefix(mount)
    (rootless.state / b.id / "config.json").write_text(json.dumps(config))
    assert (b.delete("--force").returncode, b.id in rootless.ids()) == (0, False)
    assert (a.status(), os.path.isdir(path)) == ("running", True)


@pytest.mark.parametrize("planned", [True, False])
def test_a_noted_path_that_is_another_cgroup_by_now(running, container, rootless, planned: bool) -> None:
    """B has noted a path that is A's cgroup by now.

    Deleting B leaves A running, whether B had made its cgroup or only planned it.
    """
    a, path = running
    b = container()
    directory = rootless.state / b.id
    directory.mkdir(0o700)
    (directory / "cgroup.planned").symlink_to(f"0 1 {path}")
    if not planned:
        (directory / "cgroup.made").symlink_to(f"{os.stat(path).st_ino + 1} 1 {path}")
    assert (b.delete("--force").returncode, b.id in rootless.ids()) == (0, False)
    assert (a.status(), os.path.isdir(path)) == ("running", True)


@pytest.mark.parametrize("words", [["kill", "--all"], ["delete", "--force"], ["delete"]])
def test_a_stopped_containers_cgroup_that_is_anothers_by_now(running, container, rootless, words: list[str]) -> None:
    a, path = running
    b = container({"process": {"args": ["true"]}})
    assert b.create().returncode == 0
    assert b.start().returncode == 0
    b.wait()
    file = rootless.state / b.id / "state.json"
    state = json.loads(file.read_text())
    os.rmdir(state["cgroup"]["path"])
    state["cgroup"]["path"] = path
    file.write_text(json.dumps(state))
    rootless(*words, b.id, *(["KILL"] if words[0] == "kill" else []))
    assert (a.status(), os.path.isdir(path)) == ("running", True)
    assert b.delete("--force").returncode == 0
    assert (a.status(), os.path.isdir(path)) == ("running", True)


def test_the_own_cgroup_goes_without_a_state(running, rootless) -> None:
    """The state is damaged, and the notes beside it are enough to end all of the container."""
    c, path = running
    (rootless.state / c.id / "state.json").write_text("damaged")
    assert (c.delete("--force").returncode, rootless.ids(), os.path.exists(path)) == (0, [], False)


def test_an_empty_cgroup_that_was_planned_goes(container, rootless) -> None:
    c = container()
    assert c.create().returncode == 0
    path = json.loads((rootless.state / c.id / "state.json").read_text())["cgroup"]["path"]
    if not path:
        pytest.skip("no cgroup can be made here")
    assert c.delete("--force").returncode == 0
    killed(rootless, "clone", c.bundle.path, c.id)
    assert os.path.isdir(path)
    (rootless.state / c.id / "cgroup.made").unlink()
    assert (c.delete("--force").returncode, rootless.ids(), os.path.exists(path)) == (0, [], False)
