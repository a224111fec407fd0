"""Only a procfs may be mounted onto /proc, because a fake would get the masks and leave the real one open."""

import os
from pathlib import Path
from typing import Any

import pytest

PROC = {"destination": "/proc", "type": "proc", "source": "proc"}


@pytest.fixture
def with_proc(container):
    """Return `with_proc(mount, ...)`, which makes a container with these mounts onto /proc."""

    def make(*mounts: dict[str, Any], **patch: Any):
        c = container(patch)
        others = [m for m in c.bundle.config["mounts"] if m["destination"] != "/proc"]
        c.bundle.patch({"mounts": [*mounts, *others]})
        return c

    return make


def bind(source: str, destination: str = "/proc", **more: Any) -> dict[str, Any]:
    return {"destination": destination, "type": "bind", "source": source, "options": ["rbind"], **more}


FAKES = [
    ("a directory", bind("fake"), "/mounts/0/source"),
    ("type none", bind("fake", type="none"), "/mounts/0/source"),
    ("no type", {k: v for k, v in bind("fake").items() if k != "type"}, "/mounts/0/source"),
    ("the type proc, but a bind", bind("fake", type="proc"), "/mounts/0/source"),
    ("a tmpfs", {"destination": "/proc", "type": "tmpfs", "source": "tmpfs"}, "/mounts/0/destination"),
    ("the text of a procfs", bind("/proc/../tmp"), "/mounts/0/source"),
    ("through a link of procfs", bind("/proc/self/cwd"), "/mounts/0/source"),
    ("a piece of procfs", bind("/proc/sys"), "/mounts/0/source"),
    ("a process of procfs", bind("/proc/self"), "/mounts/0/source"),
    ("another spelling", bind("fake", "/x/..//proc/."), "/mounts/0/source"),
    ("a link as itself", bind("/proc/self", options=["bind", "copy-symlink"]), "/mounts/0/source"),
    ("a cgroup", {"destination": "/proc", "type": "cgroup"}, "/mounts/0/destination"),
    ("a sysfs", {"destination": "/proc", "type": "sysfs"}, "/mounts/0/destination"),
    ("an overlay", {"destination": "/proc/", "type": "overlay", "options": ["lowerdir=/"]}, "/mounts/0/destination"),
]  # fmt: skip


@pytest.mark.parametrize("place", ["alone", "on top"])
@pytest.mark.parametrize(("mount", "pointer"), [f[1:] for f in FAKES], ids=[f[0] for f in FAKES])
def test_a_fake_proc_is_refused(with_proc, rootless, mount, pointer, place) -> None:
    c = with_proc(*([mount] if place == "alone" else [PROC, mount]))
    (c.bundle.path / "fake").mkdir()
    result = c.create()
    pointer = pointer if place == "alone" else pointer.replace("/0/", "/1/")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert pointer in result.stderr and "cannot be mounted because" in result.stderr, result.stderr
    assert rootless.ids() == []


BELOW = [
    bind("/proc/../tmp/x", "/proc/sys"), bind("/proc/self/cwd", "/proc/kcore"), bind("/tmp", "/proc/sysrq-trigger"),
    {"destination": "/proc/sys", "type": "proc"}, {"destination": "/proc/self/x", "type": "tmpfs"},
]  # fmt: skip


@pytest.mark.parametrize("mount", BELOW)
def test_below_proc_goes_no_fake_either(with_proc, rootless, mount) -> None:
    result = with_proc(PROC, mount).create()
    assert result.returncode == 1 and "/mounts/1/" in result.stderr and result.stderr.count("\n") == 1
    assert rootless.ids() == []


def test_the_pieces_that_lxcfs_brings_are_taken(with_proc) -> None:
    c = with_proc(PROC, bind("uptime", "/proc/uptime"))
    (c.bundle.path / "uptime").write_text("12.00 34.00\n")
    assert c.output("cat", "/proc/uptime") == "12.00 34.00\n"


def test_the_root_of_a_procfs_may_be_bound(with_proc) -> None:
    """podman does so inside a container; the masks and read-only paths lie on top of it."""
    c = with_proc(bind("/proc"), linux={"maskedPaths": ["/proc/cmdline"], "readonlyPaths": ["/proc/sys"]})
    c.bundle.patch({"linux": {"namespaces": [n for n in c.bundle.config["linux"]["namespaces"] if n["type"] != "pid"]}})
    script = "stat -f -c %T /proc; stat -c %F /proc/cmdline; grep ' /proc/sys ' /proc/self/mountinfo | cut -d' ' -f6"
    out = c.sh(script)
    kind, masked, flags = out.splitlines()
    assert kind == "proc" and masked == "character special file" and flags.startswith("ro")


def test_a_link_at_proc_takes_no_bind(with_proc, rootless) -> None:
    """If the image makes /proc a link (like CVE-2019-19921), a bind mount of a procfs is refused, because masks would
    miss it.
    """
    c = with_proc(bind("/proc"))
    (c.bundle.rootfs / "proc").rmdir()
    (c.bundle.rootfs / "elsewhere").mkdir()
    (c.bundle.rootfs / "proc").symlink_to("elsewhere")
    result = c.create()
    assert result.returncode == 1 and "must be mounted on ordinary directory" in result.stderr
    assert rootless.ids() == []


def with_sys(container: Any, *mounts: dict[str, Any], **linux: Any) -> Any:
    c = container({"linux": linux})
    others = [m for m in c.bundle.config["mounts"] if not m["destination"].startswith("/sys")]
    c.bundle.patch({"mounts": [*others, *mounts]})
    return c


def test_onto_sys_goes_a_fake_but_nothing_below_it_counts(container) -> None:
    c = with_sys(container, {"destination": "/sys", "type": "tmpfs"}, bind("fake", "/sys/firmware"),
                 maskedPaths=["/sys/firmware", "/proc/kcore"], readonlyPaths=["/sys/power"])  # fmt: skip
    (c.bundle.path / "fake").mkdir()
    (c.bundle.path / "fake/secret").touch()
    result = c.rootless("--debug", "run", "-b", c.bundle.path, c.id, "ls", "/sys/firmware")
    assert result.returncode == 0 and result.stdout == "", "what is there is hidden all the same"
    said = [line for line in result.stderr.splitlines() if "path not applied" in line]
    assert len(said) == 2, result.stderr
    assert "read-only path not applied: /sys/power" in said[0] and "masked path not applied: /sys/firmware" in said[1]


def test_of_a_real_sys_nothing_is_said(container) -> None:
    c = container({"linux": {"maskedPaths": ["/sys/firmware", "/proc/kcore"], "readonlyPaths": ["/sys/fs/cgroup"]}})
    result = c.rootless("--debug", "run", "-b", c.bundle.path, c.id, "true")
    assert result.returncode == 0 and "not applied" not in result.stderr


def test_mounts_below_sys_stay_allowed(container) -> None:
    sysfs = {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}
    c = with_sys(
        container, sysfs, bind("cpu", "/sys/devices/system/cpu"), {"destination": "/sys/fs/cgroup", "type": "tmpfs"}
    )
    (c.bundle.path / "cpu").mkdir()
    (c.bundle.path / "cpu/online").write_text("0-1\n")
    assert c.output("cat", "/sys/devices/system/cpu/online") == "0-1\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="root of a user namespace of its own opens the sources outside of it")
def test_of_what_the_runtime_opens_the_file_system_counts_too(with_proc, rootless) -> None:
    c = with_proc(bind("fake"))
    (c.bundle.path / "fake").mkdir()
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    namespaces = [*c.bundle.config["linux"]["namespaces"], {"type": "user"}]
    c.bundle.patch({"linux": {"namespaces": namespaces, "uidMappings": ids, "gidMappings": ids}})
    result = c.create()
    assert result.returncode == 1 and "/mounts/0/source" in result.stderr
    assert rootless.ids() == [] and Path("/proc/self/mountinfo").read_text().count(str(c.bundle.path)) == 0
