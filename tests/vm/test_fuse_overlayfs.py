"""An ordinary user mounts a root file system by fuse-overlayfs: through fusermount3, and in a user namespace."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from tests.support.limits import run

pytestmark = pytest.mark.vm

CHANGE = (
    "cat /below; echo new >/etc/new; rm /etc/group; stat -c %u:%g /etc/passwd /etc/new; "
    "grep ' / / ' /proc/self/mountinfo"
)


@pytest.fixture
def layered(container, who, tmp_path):
    """Return (a container on `merged`, the mount options of fuse-overlayfs). Its rootfs is the lower layer."""
    if who == "root":
        pytest.skip("root has overlayfs itself")
    box = container({"root": {"readonly": False, "path": str(tmp_path / "merged")}})
    (box.bundle.rootfs / "below").write_text("from below\n")
    for name in ("merged", "upper", "work"):
        (tmp_path / name).mkdir()
    return box, f"lowerdir={box.bundle.rootfs},upperdir={tmp_path}/upper,workdir={tmp_path}/work"


@pytest.fixture
def mounted(layered, tmp_path):
    """Yield the container; the user has made the mount outside of any user namespace."""
    box, options = layered
    server = subprocess.Popen(["fuse-overlayfs", "-f", "-o", options, str(tmp_path / "merged")])
    while server.poll() is None and not os.path.ismount(tmp_path / "merged"):
        time.sleep(0.05)
    yield box
    run("fusermount3", "-u", str(tmp_path / "merged"))
    assert server.wait(300) == 0


def check(upper, lower, owner):
    """Check that the upper directory has the new file and a whiteout, and that the lower one is unchanged."""
    assert (upper / "etc/new").read_text() == "new\n"
    assert (upper / "etc/group").is_char_device()
    assert (upper / "etc/new").stat().st_uid == owner
    assert (lower / "etc/group").exists() and not (lower / "etc/new").exists()


def test_a_mount_of_the_user(mounted, tmp_path):
    *lines, mount = mounted.sh(CHANGE).splitlines()
    assert lines == ["from below", "0:0", "0:0"] and "fuse.fuse-overlayfs" in mount
    check(tmp_path / "upper", mounted.bundle.rootfs, os.getuid())
    mounted.bundle.patch({"root": {"readonly": True}})
    result = mounted.run("sh", "-c", "cat /etc/new; echo x >/etc/new")
    assert (result.stdout, result.stderr) == ("new\n", "sh: can't create /etc/new: Read-only file system\n")
    ids = {"uidMappings": None, "gidMappings": None}  # all there are
    mounted.bundle.patch({"process": {"user": {"uid": 5, "gid": 5}}, "linux": ids})
    result = mounted.run("true")
    assert result.returncode == 1 and "EACCES" in result.stderr and "allow_other" in result.stderr


def test_a_mount_of_a_user_namespaces_root(layered, tmp_path, rootless):
    """podman mounts it like this. All ids exist, and FUSE allows each of them what the modes allow."""
    box, options = layered
    kinds = [n for n in box.bundle.config["linux"]["namespaces"] if n["type"] != "user"]
    sets = {name: ["CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"] for name in ("bounding", "effective", "permitted")}
    box.bundle.patch({"linux": {"namespaces": kinds, "uidMappings": None, "gidMappings": None},
                      "process": {"capabilities": sets}})  # fmt: skip
    script = ('fuse-overlayfs -f -o "$0" "$1" & until mountpoint -q "$1"; do kill -0 $! || exit; sleep 0.1; done; '
              'm=$1; shift; "$@"; s=$?; umount "$m"; wait; exit $s')  # fmt: skip
    inside = f"{CHANGE}; chown 5:6 /etc/new; su user -c 'cat /etc/new; id -u'"
    argv = [*rootless.command("unshare"), "unshare", "--mount", "sh", "-c", script, options, str(tmp_path / "merged")]
    result = run(*argv, *rootless.command("run", "-b", box.bundle.path, box.id, "--", "sh", "-c", inside))
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:3] == ["from below", "0:0", "0:0"] and "fuse.fuse-overlayfs" in lines[3]
    assert lines[4:] == ["new", "1000"]
    check(tmp_path / "upper", box.bundle.rootfs, 100004)
