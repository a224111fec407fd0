"""What a container sees of its own cgroup: read-only or writable, its owner, the cgroups that it makes, and its end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rootless import cgroup
from rootless.config_node import Node
from rootless.kernel import cgroup_view as view
from rootless.kernel.host import Host
from tests.support.containers import Rootless

READY = "echo ready; exec sleep 1000"


@pytest.fixture
def boxed(container, rootless):
    """Return `boxed(option, script, uid)`: it returns a running container, whose cgroup is mounted with that option and
    which has said `ready`, and the cgroup's directory.
    """
    made = cgroup.compile(Node({}, "/linux"), container_id="x", manager="", host=Host())
    cgroup.open(made)
    scope = made["manager"] == "systemd"
    if not (scope or (made["path"] and os.access(os.path.dirname(made["path"]), os.W_OK))):
        pytest.skip("this machine lacks a cgroup v2 that this user may write")

    def make(option, script, uid=0, **more):
        if uid and os.geteuid() and not (Host().subuid and shutil.which("newuidmap")):
            pytest.skip("this user lacks subordinate ids")
        linux = {"uidMappings": None, "gidMappings": None} if os.geteuid() else {}
        process = {"args": ["sh", "-c", script], "user": {"uid": uid, "gid": uid}}
        ready = container({"process": process, "linux": linux | more})
        options = ready.bundle.config["mounts"][-1]["options"]
        options[-1] = option
        ready.bundle.write()
        fifo = ready.bundle.path / "out"
        os.mkfifo(fifo)
        held = os.open(fifo, os.O_RDWR)  # so that opening for writing does not wait
        result = ready.rootless("run", "--detach", "-b", ready.bundle.path, ready.id,
                                capture_output=False, stdout=held, stderr=held)  # fmt: skip
        said = b""
        while result.returncode == 0 and not said.endswith(b"ready\n"):
            said += os.read(held, 4096)
            assert b"sh:" not in said, said
        os.close(held)
        ready.said = said.decode()
        assert result.returncode == 0
        path = json.loads((rootless.state / ready.id / "state.json").read_text())["cgroup"]["path"]
        return ready, Path(path)

    return make


NESTED = "cd /sys/fs/cgroup && mkdir -p init child/deep && echo 1 >init/cgroup.procs && echo 3 >child/cgroup.max.depth"


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_writable_cgroup_belongs_to_the_containers_user_who_divides_it(boxed, uid):
    """The user owns the directory and what /sys/kernel/cgroup/delegate names, nothing else
    (config-linux.md#cgroup-ownership).
    """
    box, path = boxed("rw", f"{NESTED} && {READY}", uid)
    listed = Path("/sys/kernel/cgroup/delegate").read_text().split()
    files = [name for name in listed if (path / name).exists()]
    inside = box.rootless("exec", box.id, "stat", "-c", "%u", *(f"/sys/fs/cgroup/{name}" for name in [".", *files]))
    assert inside.returncode == 0, inside.stderr
    assert inside.stdout.split() == [str(uid)] * (1 + len(files))
    assert (path / "cgroup.max.depth").stat().st_uid == os.geteuid()
    assert (path / "child/cgroup.max.depth").read_text() == "3\n"
    assert (path / "init/cgroup.procs").read_text().split() == [str(box.state()["pid"])]
    assert box.delete("--force").returncode == 0
    assert not path.exists()


@pytest.mark.root
def test_root_gives_the_cgroup_to_the_root_of_a_user_namespace(boxed):
    if os.geteuid():
        pytest.skip("only root maps ids of its choice")
    kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup", "user"]
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    box, path = boxed("rw", f"{NESTED} && {READY}", namespaces=[{"type": kind} for kind in kinds],
                      uidMappings=ids, gidMappings=ids)  # fmt: skip
    assert path.stat().st_uid == (path / "child").stat().st_uid == (path / "cgroup.procs").stat().st_uid == 100000
    assert (path / "cgroup.max.depth").stat().st_uid == 0
    assert box.delete("--force").returncode == 0


def test_a_read_only_cgroup_stays_the_callers(boxed):
    box, path = boxed("ro", f"mkdir /sys/fs/cgroup/x 2>/dev/null || {READY}", 1000)
    assert path.stat().st_uid == os.geteuid()
    assert not (path / "x").exists()
    assert box.delete("--force").returncode == 0


def test_a_container_cannot_lift_its_own_limits_or_its_user_is_warned(boxed):
    """With nsdelegate (cgroups(7)) the namespace is a border.

    Without it the owner of a writable cgroup can lift its limits, so `create` warns.
    """
    lift = "echo 9 >/sys/fs/cgroup/cgroup.max.depth"
    limit = {"unified": {"cgroup.max.depth": "5"}}
    box, path = boxed("rw", f"({lift}) 2>/dev/null; {READY}", resources=limit)
    assert (path / "cgroup.max.depth").read_text() == ("5\n" if view.nsdelegate() else "9\n")
    assert ("the container can lift its own limits" in box.said) is not view.nsdelegate()


@pytest.mark.parametrize("form", ["relative", "absolute"])
def test_cgroups_path(boxed, rootless, form):
    """An absolute cgroupsPath counts from the mount, and the runtime chooses where a relative one lies
    (config-linux.md#cgroups-path).
    """
    _, first = boxed("ro", READY)
    if first.suffix == ".scope":
        pytest.skip("a scope's place is systemd's to choose")
    name = f"deep-{os.getpid()}/box"
    mount = view.read().mount
    wanted = name if form == "relative" else f"{str(first.parent).removeprefix(mount)}/{name}"
    box, path = boxed("ro", READY, cgroupsPath=wanted)
    assert path == first.parent / name
    assert box.delete("--force").returncode == 0
    assert not path.parent.exists()


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_container_that_shuts_its_cgroup_is_seen_killed_and_deleted_all_the_same(boxed, uid):
    """The attack: the cgroup belongs to one of the user's ids, and the container takes all permissions from its
    directory.
    """
    box, path = boxed("rw", f"{NESTED} && chmod 0 child/deep child cgroup.* . 2>/dev/null; {READY}", uid)
    assert path.stat().st_mode & 0o777 == 0
    assert box.status() == "running"
    assert box.delete("--force").returncode == 0
    assert not path.exists()


def test_resources_are_in_the_containers_cgroup(boxed):
    """The test looks at a file that every cgroup has, because limits need controllers (tests/vm/test_limits.py)."""
    _, path = boxed("ro", READY, resources={"unified": {"cgroup.max.descendants": "7"}})
    assert (path / "cgroup.max.descendants").read_text() == "7\n"


def test_resources_that_ask_for_nothing_need_no_controller(container):
    nothing = {"memory": {}, "cpu": {"shares": 0}, "blockIO": {"weight": 0}}
    result = container({"linux": {"resources": nothing}}).run("echo", "ran")
    assert (result.returncode, result.stdout, result.stderr) == (0, "ran\n", "")


def test_two_state_roots_with_one_id_do_not_share_a_cgroup(container, rootless, tmp_path) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    if not c.state() or not json.loads((rootless.state / c.id / "state.json").read_text())["cgroup"]["path"]:
        pytest.skip("this user may make no cgroup here")
    other = Rootless(tmp_path / "other")
    quiet = {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        assert other("create", "-b", c.bundle.path, c.id, **quiet).returncode == 0
        first, second = (
            json.loads((root / c.id / "state.json").read_text())["cgroup"]["path"]
            for root in (rootless.state, other.state)
        )
        stem, dot, scope = first.partition(".scope")
        assert second == f"{stem}-2{dot}{scope}" and c.state()["pid"]
    finally:
        assert other("delete", "--force", c.id).returncode == 0
    assert c.status() == "created" and os.path.isdir(first) and not os.path.exists(second)
