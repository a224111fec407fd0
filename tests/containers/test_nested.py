"""Root of an existing user namespace (podman unshare, buildah unshare, rootlesskit) gets no second one."""

import os
import shlex
import subprocess

import pytest

from rootless import cgroup
from rootless.config_node import Node
from rootless.kernel.host import Host
from tests.support.checkout import TIMEOUT
from tests.support.containers import RANGE, has_range

USER = os.geteuid() != 0
KINDS = ("mount", "pid", "ipc", "uts", "network", "cgroup")


@pytest.fixture
def nested(container):
    """Return `nested(patch, *command, flags=())`, which calls `run` in a user namespace made by unshare(1)."""

    def run(patch, *command, flags=(), mapping=("--map-root-user",), more=("--mount",)):
        linux = {"namespaces": [{"type": t} for t in KINDS], "uidMappings": None, "gidMappings": None}
        c = container({"linux": {**linux, **patch.pop("linux", {})}, **patch})
        argv = c.rootless.command("run", *flags, "-b", c.bundle.path, c.id, "--", *command)
        argv = ["unshare", "--user", *mapping, *more, *argv]
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )

    return run


def test_no_second_user_namespace(nested) -> None:
    """The container has the map that unshare(1) wrote, and its root is that namespace's root."""
    result = nested({}, "sh", "-c", "cat /proc/self/uid_map; id -u; grep -c . /proc/self/mountinfo >/dev/null")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["0", str(os.geteuid()), "1", "0"] and result.stderr == ""


def test_its_ids_are_the_containers(nested) -> None:
    """The error names an id that this namespace lacks, as it does for a map of the container's own."""
    result = nested({"process": {"user": {"uid": 5, "gid": 0}}}, "true")
    assert result.returncode == 1 and "/process/user/uid" in result.stderr and "not mapped" in result.stderr


def test_a_whole_range_serves_too(nested) -> None:
    if not USER or not has_range():
        pytest.skip(RANGE)
    patch = {"process": {"user": {"uid": 5, "gid": 6, "additionalGids": [7]}}}
    result = nested(patch, "id", mapping=("--map-root-user", "--map-auto"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[:2] == ["uid=5", "gid=6"] and "7" in result.stdout.split("groups=")[1]


def test_a_writable_cgroup_belongs_to_its_user(nested) -> None:
    """buildah 1.39 writes such a config: it has no user namespace of its own, and a user who is not root."""
    if not USER or not has_range():
        pytest.skip(RANGE)
    place = cgroup.compile(Node({}, "/linux"), container_id="x", manager="", host=Host())
    if not place["path"] or place["manager"] == "systemd" or not os.access(os.path.dirname(place["path"]), os.W_OK):
        pytest.skip("this machine lacks a cgroup v2 that this user may write")
    kinds = {"/proc": "proc", "/sys/fs/cgroup": "cgroup"}
    mounts = [{"destination": path, "type": kind, "source": kind} for path, kind in kinds.items()]
    patch = {"process": {"user": {"uid": 5, "gid": 5}}, "mounts": mounts}
    script = "stat -c %u /sys/fs/cgroup && mkdir /sys/fs/cgroup/child"
    result = nested(patch, "sh", "-c", script, mapping=("--map-root-user", "--map-auto"))
    assert (result.returncode, result.stdout) == (0, "5\n"), result.stderr


def test_a_network_program_reads_the_namespaces_of_a_users_created_container(container) -> None:
    """pasta of 2025 lists /proc/PID/ns with CAP_SYS_PTRACE, but without a capability to read files of others."""
    if not USER or not has_range():
        pytest.skip(RANGE)
    linux = {"namespaces": [{"type": t} for t in KINDS], "uidMappings": None, "gidMappings": None}
    c = container({"linux": linux, "process": {"user": {"uid": 5, "gid": 5}, "args": ["true"]}})
    rootless = shlex.join(map(str, c.rootless.command()))
    script = f"""
        {rootless} create -b {c.bundle.path} --pid-file {c.bundle.path}/pid {c.id} && pid=$(cat {c.bundle.path}/pid)
        setpriv --bounding-set=-dac_override,-dac_read_search stat -Lc %i /proc/$pid/ns/ /proc/$pid/ns/net
        setpriv --bounding-set=-dac_override,-dac_read_search ls /proc/$pid/ns
        {rootless} delete --force {c.id}"""
    result = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "sh", "-c", script],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert "net" in result.stdout.split()


def test_one_that_config_lists_is_made(nested) -> None:
    ids = [{"containerID": 7, "hostID": 0, "size": 1}]
    linux = {"namespaces": [{"type": t} for t in (*KINDS, "user")], "uidMappings": ids, "gidMappings": ids}
    patch = {"linux": linux, "process": {"user": {"uid": 7, "gid": 7}}}
    result = nested(patch, "cat", "/proc/self/uid_map")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["7", "0", "1"]


@pytest.mark.parametrize("more", [("--mount",), ()])
def test_one_with_a_bind_mount(nested, tmp_path, more) -> None:
    """If the caller's mount namespace belongs to another user namespace than its own, only the container may clone a
    mount.
    """
    (tmp_path / "file").write_text("content\n")
    ids = [{"containerID": 0, "hostID": 0, "size": 1}]
    linux = {"namespaces": [{"type": t} for t in (*KINDS, "user")], "uidMappings": ids, "gidMappings": ids}
    mounts = [{"destination": "/etc/passwd", "type": "bind", "source": str(tmp_path / "file"), "options": ["bind"]}]
    result = nested({"linux": linux, "mounts": mounts}, "cat", "/etc/passwd", more=more)
    assert result.returncode == 0 and result.stdout == "content\n", result.stderr


def test_without_a_pivot(nested) -> None:
    """The old root, over which the new one was moved, cannot be reached."""
    result = nested({}, "sh", "-c", "ls -d /bin/busybox; ls /../..", flags=("--no-pivot",))
    assert result.returncode == 0, result.stderr
    assert "busybox" in result.stdout and "work" not in result.stdout.split()


def test_devices_are_bound_there(nested) -> None:
    result = nested({}, "sh", "-c", "echo x > /dev/null && head -c 2 /dev/zero | wc -c")
    assert result.returncode == 0 and result.stdout == "2\n", result.stderr


def test_ids_that_do_not_exist_here_are_named(nested) -> None:
    """A bundle was converted outside: the kernel says EPERM, and the hint does not name AppArmor."""
    ids = [{"containerID": 0, "hostID": 0, "size": 1}, {"containerID": 1, "hostID": 231072, "size": 65536}]
    linux = {"namespaces": [{"type": t} for t in (*KINDS, "user")], "uidMappings": ids, "gidMappings": ids}
    result = nested({"linux": linux}, "true")
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    assert "EPERM" in result.stderr and "gids 231072-296607 do not exist in this user namespace" in result.stderr
    assert "AppArmor" not in result.stderr and "apparmor" not in result.stderr
