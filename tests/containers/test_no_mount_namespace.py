"""Only root can run a container without a mount namespace. Its mounts lie below its rootfs and are removed with it."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.checkout import TIMEOUT, driver

pytestmark = pytest.mark.root
USER = os.geteuid() != 0
KINDS = ("pid", "ipc", "uts", "network")


def namespaces(*kinds: str):
    return {"linux": {"namespaces": [{"type": t} for t in kinds]}}


def mounts(own: Path) -> list[str]:
    """Mount points below /sys and a test's directory, with what they propagate to and from."""
    fields = (line.split(" - ")[0].split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return sorted(" ".join([f[4], *f[6:]]) for f in fields if f[4].startswith(("/sys", f"{own}/")))


@pytest.fixture(autouse=True)
def needs_root() -> None:
    if USER:
        pytest.skip("real root alone")


@pytest.mark.parametrize("kinds", [KINDS, (), ("cgroup",)])
def test_it_runs_in_the_callers_and_leaves_nothing(container, tmp_path, kinds) -> None:
    before = mounts(tmp_path)
    c = container(namespaces(*kinds))
    c.bundle.patch({"hostname": None if "uts" not in kinds else "x"})
    out = c.sh(
        "readlink /proc/self/ns/mnt; ls -d /bin/busybox; touch /new 2>/dev/null || echo ro; cat /proc/kcore | wc -c"
    )
    assert out.split() == [os.readlink("/proc/self/ns/mnt"), "/bin/busybox", "ro", "0"]
    assert mounts(tmp_path) == before


def test_exec_and_delete(container, tmp_path) -> None:
    before = mounts(tmp_path)
    c = container({**namespaces(*KINDS), "process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    assert len(mounts(tmp_path)) > len(before)
    result = c.rootless("exec", c.id, "sh", "-c", "pwd; ls -d /bin/busybox /rootfs")
    assert result.stdout.split() == ["/", "/bin/busybox"]
    assert c.delete("--force").returncode == 0
    assert mounts(tmp_path) == before


KILLED = """
import os, time
from rootless import __main__
from rootless.runtime import container
rootfs = sys.argv.pop(1)
real = container.Container.save
def save(self):
    if not self.pid:
        return real(self)
    while f" {rootfs} " not in open("/proc/self/mountinfo").read():
        time.sleep(0.01)
    os.kill(os.getpid(), 9)
container.Container.save = save
__main__.launcher()
"""


def test_a_killed_create_leaves_mounts_that_delete_force_takes_away(container, rootless, tmp_path) -> None:
    before = mounts(tmp_path)
    c = container(namespaces(*KINDS))
    command = driver(KILLED, c.bundle.rootfs, "--root", rootless.state, "create", "-b", c.bundle.path, c.id)
    done = subprocess.run(command, stdin=-3, stdout=-3, stderr=-3, timeout=TIMEOUT, check=False)
    assert done.returncode == -9
    assert len(mounts(tmp_path)) > len(before)
    assert c.delete("--force").returncode == 0
    assert mounts(tmp_path) == before and rootless.ids() == []


@pytest.mark.parametrize("damaged", [False, True])
def test_doctor_clean_takes_them_away(container, rootless, tmp_path, damaged) -> None:
    before = mounts(tmp_path)
    c = container(namespaces(*KINDS))
    command = driver(KILLED, c.bundle.rootfs, "--root", rootless.state, "create", "-b", c.bundle.path, c.id)
    assert subprocess.run(command, stdin=-3, stdout=-3, stderr=-3, timeout=TIMEOUT, check=False).returncode == -9
    if damaged:
        (rootless.state / c.id / "state.json").write_text("{")
    while (pid := noted_pid(rootless.state / c.id)) and Path(f"/proc/{pid}/exe").exists():  # init ends without runtime
        time.sleep(0.01)
    lines = rootless("doctor", "--clean", env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}).stdout
    assert lines.splitlines()[:2] == [f"mount      {c.bundle.rootfs}", f"container  {c.id}"]
    assert mounts(tmp_path) == before and rootless.ids() == []


def noted_pid(state: Path) -> str:
    return os.readlink(state / "init").split()[0] if os.path.lexists(state / "init") else ""


def test_a_failure_leaves_nothing(container, rootless, tmp_path) -> None:
    before = mounts(tmp_path)
    for patch in (
        {"process": {"args": ["nosuch"]}},
        {"root": {"path": "nowhere"}},
        {"mounts": [{"destination": "/x"}]},
    ):
        assert container({**namespaces(*KINDS), **patch}).create().returncode == 1
    assert mounts(tmp_path) == before and rootless.ids() == []


def test_the_peers_of_a_mount_stay(container, tmp_path) -> None:
    """A shared tree is bound recursively, and unmounting the container's copy leaves the host's."""
    from rootless.kernel import syscalls as sc

    shared = tmp_path / "shared"
    (shared / "below").mkdir(parents=True)
    sc.mount("tmpfs", str(shared), "tmpfs", 0)
    try:
        sc.mount(None, str(shared), None, sc.MS_SHARED)
        (shared / "below").mkdir()
        sc.mount("tmpfs", str(shared / "below"), "tmpfs", 0)
        before = mounts(tmp_path)
        mount = {"destination": "/mnt", "type": "bind", "source": str(shared), "options": ["rbind"]}
        c = container(namespaces(*KINDS))
        c.bundle.patch({"mounts": [*c.bundle.config["mounts"], mount]})
        assert c.sh("grep -c ' /mnt/below ' /proc/self/mountinfo") == "1\n"
        assert mounts(tmp_path) == before
    finally:
        sc.umount2(str(shared), sc.MNT_DETACH)
