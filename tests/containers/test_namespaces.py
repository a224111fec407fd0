"""Namespaces, id maps and the pivot: the container sees itself and nothing of the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

KINDS = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup", "user": "user"}


def test_every_namespace_differs_from_the_hosts(container):
    listing = container().sh("for n in /proc/self/ns/*; do echo ${n##*/} $(readlink $n); done")
    inside = dict(line.split() for line in listing.splitlines())
    expected = set(KINDS.values()) - (set() if os.geteuid() else {"user"})
    differing = {name for name in inside if inside[name] != os.readlink(f"/proc/self/ns/{name}")}
    assert {n for n in differing if not n.endswith("_for_children")} == expected


def test_a_namespace_that_is_not_listed_is_the_hosts(container):
    c = container()
    kept = [n for n in c.bundle.config["linux"]["namespaces"] if n["type"] not in ("ipc", "network")]
    mounts = [m for m in c.bundle.config["mounts"] if m["type"] != "mqueue"]  # it needs an ipc namespace
    c.bundle.patch({"linux": {"namespaces": kept}, "mounts": mounts})
    out = c.sh("readlink /proc/self/ns/ipc; readlink /proc/self/ns/net").split()
    assert out == [os.readlink("/proc/self/ns/ipc"), os.readlink("/proc/self/ns/net")]


def test_without_a_pid_namespace_proc_is_the_callers(container):
    """The kernel gives no new procfs to a user namespace without a pid namespace, so the caller's is bound."""
    c = container()
    kept = [n for n in c.bundle.config["linux"]["namespaces"] if n["type"] != "pid"]
    c.bundle.patch({"linux": {"namespaces": kept}})
    shown = "awk '$5==\"/proc\" {print $6}' /proc/self/mountinfo"
    inside, pid, options = c.sh(f"readlink /proc/self/ns/pid; cut -d' ' -f1 /proc/self/stat; {shown}").split()
    assert inside == os.readlink("/proc/self/ns/pid") and int(pid) > 2 and "rw" in options.split(",")


def test_proc_options_need_a_procfs_of_ones_own(container, rootless):
    if not os.geteuid():
        pytest.skip("root gets one")
    c = container()
    kept = [n for n in c.bundle.config["linux"]["namespaces"] if n["type"] != "pid"]
    mounts = [{**m, "options": ["hidepid=2"]} if m["type"] == "proc" else m for m in c.bundle.config["mounts"]]
    c.bundle.patch({"linux": {"namespaces": kept}, "mounts": mounts})
    result = c.create()
    assert result.returncode == 1 and "/mounts/0: /proc: EPERM" in result.stderr and rootless.ids() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root's default config has no user namespace")
def test_uid_map_is_the_users_own_id(container):
    maps = container().sh("cat /proc/self/uid_map /proc/self/gid_map; cat /proc/self/setgroups").split()
    assert maps == ["0", str(os.geteuid()), "1", "0", str(os.getegid()), "1", "deny"]


def test_program_is_pid_1_and_alone(container):
    out = container().sh("echo $$; ls -d /proc/[0-9]*").split()
    assert out[0] == "1"
    assert len(out) <= 3


def test_hostname_is_the_containers_and_the_host_keeps_its_own(container):
    before = os.uname().nodename
    c = container({"hostname": "inside", "domainname": "example.org"})
    assert c.sh("hostname; cat /proc/sys/kernel/domainname").split() == ["inside", "example.org"]
    assert os.uname().nodename == before


def test_loopback_is_up(container):
    out = container().sh("ip addr show lo")
    assert ",UP" in out and "127.0.0.1/8" in out


def test_old_root_is_not_reachable(container, tmp_path):
    (tmp_path / "secret").write_text("of the host")
    script = f"ls {tmp_path} / /proc/1/root /proc/1/root/.. /proc/1/cwd/../../.. 2>&1; cat {tmp_path}/secret 2>&1"
    result = container().run("sh", "-c", script)
    assert "of the host" not in result.stdout
    assert "No such file" in result.stdout


def test_mountinfo_holds_nothing_of_the_host(container, tmp_path):
    host = {line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    lines = container().sh("cat /proc/self/mountinfo").splitlines()
    points = [line.split(" ")[4] for line in lines]
    assert points[0] == "/"
    assert points.count("/") == 1
    allowed = ("/", "/proc", "/dev", "/sys")
    assert all(p in allowed or p.startswith(("/proc/", "/dev/", "/sys/")) for p in points)
    assert not {p for p in points if p in host} - {"/", "/proc", "/dev", "/sys", "/dev/pts", "/dev/shm",
                                                    "/dev/mqueue", "/sys/fs/cgroup"}  # fmt: skip


def test_root_cannot_be_left_by_chroot_tricks(container):
    out = container().sh("cd /; ls -id / /.. /../../.. | awk '{print $1}' | sort -u | wc -l")
    assert out.strip() == "1"


def test_no_pivot_starts_too(container):
    assert container().output("echo", "moved", flags=("--no-pivot",)) == "moved\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no user namespace")
def test_user_without_a_user_namespace_in_the_config_gets_the_default_map(container):
    c = container()
    kept = [n for n in c.bundle.config["linux"]["namespaces"] if n["type"] != "user"]
    c.bundle.patch({"linux": {"namespaces": kept, "uidMappings": None, "gidMappings": None}})
    assert c.sh("cat /proc/self/uid_map").split()[:3] == ["0", str(os.geteuid()), "1"]


@pytest.mark.parametrize("propagation", ["private", "rprivate", "slave", "rslave", "unbindable", "runbindable"])
def test_rootfs_propagation(container, propagation):
    root = container({"linux": {"rootfsPropagation": propagation}}).sh("awk '$5==\"/\"' /proc/self/mountinfo")
    fields = root.split(" - ")[0]
    assert "shared:" not in fields
    assert ("unbindable" in fields) == propagation.endswith("unbindable")
