"""The cgroupfs driver makes, enters, freezes, kills and removes a real cgroup. Core files are enough for this."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid

import pytest

from rootless import cgroup
from rootless.cgroup import driver, freezer, stats
from rootless.config_node import Node
from rootless.errors import RootlessError
from rootless.kernel import cgroup_view as view
from rootless.kernel.host import Host


@pytest.fixture
def record():
    made = cgroup.compile(Node({}, "/linux"), container_id=f"t-{uuid.uuid4().hex[:8]}", manager="cgroupfs", host=Host())
    cgroup.open(made)  # settles the place
    if not (made["path"] and os.access(os.path.dirname(made["path"]), os.W_OK)):
        pytest.skip("this machine lacks a cgroup v2 that this user may write")
    made["devices"] = []
    yield made
    if made["path"]:
        cgroup.open(made).remove()
        assert not os.path.exists(made["path"])


@pytest.fixture
def group(record):
    made = cgroup.open(record)
    made.create()
    return made


@pytest.fixture
def sleeper(group):
    process = subprocess.Popen(["sleep", "1000"])
    group.add(process.pid)
    yield process
    process.kill()
    process.wait()


def test_a_process_is_in_it_and_seen(group, sleeper):
    assert group.procs() == [sleeper.pid]
    assert group.path.endswith(view.own(sleeper.pid).rpartition("/")[2])


def test_a_clone_starts_in_it(group):
    from rootless.kernel import syscalls

    pid, pidfd = syscalls.clone3(0, cgroup_fd=group.fd)
    if not pid:
        signal.pause()
        os._exit(0)
    assert group.procs() == [pid]
    group.kill()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
    os.close(pidfd)


def test_frozen_and_thawed(group, sleeper):
    assert not freezer.is_frozen(group)
    freezer.freeze(group)
    assert freezer.is_frozen(group)
    assert "frozen 1" in group.read("cgroup.events")
    freezer.thaw(group)
    assert "frozen 0" in group.read("cgroup.events")


def test_kill_reaches_nested_cgroups_and_remove_takes_them_away(group):
    os.makedirs(f"{group.path}/a/b/c")
    process = subprocess.Popen(["sleep", "1000"])
    with open(f"{group.path}/a/b/c/cgroup.procs", "w") as file:
        file.write(str(process.pid))
    assert group.procs() == [process.pid]
    group.kill()
    assert process.wait() == -9
    assert freezer.wait_until_empty(group)
    group.remove()
    assert not os.path.exists(group.path)


def test_remove_of_a_deep_tree_needs_no_long_path(group):
    fd = os.open(group.path, os.O_RDONLY)
    for _ in range(30):  # beyond PATH_MAX in bytes
        os.mkdir("n" * 200, dir_fd=fd)
        below = os.open("n" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    group.remove()
    assert not os.path.exists(group.path)


def test_a_populated_cgroup_of_somebody_else_is_refused_and_left_alone(record, group, sleeper):
    second = cgroup.open(dict(record))
    with pytest.raises(RootlessError, match="is not empty: 1 process"):
        second.create()
    second.remove()
    assert sleeper.poll() is None
    assert group.procs() == [sleeper.pid]


def test_a_name_that_another_container_takes_meanwhile_is_given_up(record):
    """The other container has made its cgroup, which has no process yet, and the driver takes another name."""
    path = record["path"]
    mine, other = cgroup.open(record), cgroup.open(dict(record))
    mine.take_free_name(path)
    assert record["path"] == path
    other.create()
    with pytest.raises(RootlessError, match="has just made"):
        mine.create()
    assert mine.is_taken
    mine.remove()
    assert os.path.isdir(path)
    mine.take_free_name(path)
    mine.create()
    assert (record["path"], mine.is_taken) == (f"{path}-2", False)
    other.remove()
    mine.remove()


def test_a_limit_that_cannot_be_set_leaves_nothing_behind(record):
    record["files"] = [["nosuch.max", "1", "/linux/resources/unified/nosuch.max"]]
    path = record["path"]
    with pytest.raises(RootlessError) as refused:
        cgroup.open(record).create()
    assert refused.value.where == "/linux/resources/unified/nosuch.max"
    assert "controller `nosuch` is not available" in str(refused.value)
    assert not os.path.exists(path)


def test_an_update_that_fails_halfway_is_taken_back(group):
    entries = [["cgroup.max.depth", "7", "/a"], ["cgroup.max.descendants", "x", "/b"]]
    with pytest.raises(RootlessError) as refused:
        group.apply(entries)
    assert refused.value.where == "/b"
    assert group.read("cgroup.max.depth") == "max"
    group.apply(entries[:1])
    assert group.read("cgroup.max.depth") == "7"


def test_a_child_is_opened_inside_only(group):
    os.mkdir(f"{group.path}/child")
    os.close(group.child_fd("/child"))
    for path in ("..", "child/../..", "nosuch"):
        with pytest.raises(RootlessError):
            group.child_fd(path)


def test_statistics_have_every_section(group, sleeper):
    figures = stats.collect(group)
    assert set(figures) == {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"}
    assert figures["cpu"]["usage"]["total"] >= 0
    assert group.oom_kills() == 0


def test_without_a_cgroup_nothing_is_done_and_pause_says_why():
    none = cgroup.open({"manager": "disabled", "path": "", "files": []})
    none.create()
    none.add(os.getpid())
    none.kill()
    none.remove()
    assert (none.fd, none.procs(), freezer.is_frozen(none), none.read("memory.max")) == (-1, [], False, "")
    with pytest.raises(RootlessError, match="no cgroup"):
        freezer.freeze(none)


def test_a_limit_without_any_cgroup_is_refused_on_this_host():
    host = Host(uid=4711, cgroup_mount="", own_cgroup="", in_userns=False)
    linux = Node({"resources": {"pids": {"limit": 5}}}, "/linux")
    with pytest.raises(RootlessError) as refused:
        cgroup.open(cgroup.compile(linux, container_id="x", manager="", host=host))
    assert refused.value.where == "/linux/resources/pids/limit"
    assert refused.value.hint


def test_a_controller_that_the_cgroups_above_can_hand_on_is_not_refused(tmp_path):
    """systemd's slices lack hugetlb and rdma, and root enables them from the top of the tree."""
    (tmp_path / "slice").mkdir()
    (tmp_path / "cgroup.controllers").write_text("hugetlb memory\n")
    (tmp_path / "slice/cgroup.controllers").write_text("memory\n")
    limit = [("memory.max", "4096", "/memory"), ("hugetlb.2MB.max", "0", "/hugetlb")]
    with pytest.raises(RootlessError, match="controller `hugetlb` is not available"):
        driver.check_controllers(f"{tmp_path}/slice/box", limit)
    (tmp_path / "cgroup.subtree_control").touch()  # we may write it
    driver.check_controllers(f"{tmp_path}/slice/box", limit)
    with pytest.raises(RootlessError, match="controller `rdma` is not available"):
        driver.check_controllers(f"{tmp_path}/slice/box", [*limit, ("rdma.max", "x", "/rdma")])
