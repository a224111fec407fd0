"""From Python, on a kernel with all controllers, each limit has its value and takes effect, and the result says what
ended a call.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rootless

pytestmark = pytest.mark.vm

PIPE = subprocess.PIPE
MIB = 2**20
EATER = ["tail", "/dev/zero"]  # keeps its last line, which does not end
LIMITS: dict[str, Any] = {"memory": "32m"}


@pytest.fixture(autouse=True)
def in_the_guest(who: str) -> None:
    """Skip where there is no guest."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a root file system with busybox."""
    place = tmp_path_factory.mktemp("root")
    place.chmod(0o755)
    for name in ("bin", "dev", "proc", "sys", "tmp"):
        (place / name).mkdir()
    shutil.copy("/bin/busybox", place / "bin" / "busybox")
    for name in ("cat", "echo", "sh", "sleep", "tail", "true"):
        os.symlink("busybox", place / "bin" / name)
    yield place


@pytest.fixture(params=["unnamed", "named"])
def about(request: pytest.FixtureRequest, root: Path) -> dict[str, Any]:
    """Return which container to make: with a state directory, or without."""
    name = f"vm-{secrets.token_hex(4)}" if request.param == "named" else ""
    return {"rootfs": root, "name": name}


def test_a_memory_limit_kills_and_oom_killed_says_so(about: dict[str, Any]) -> None:
    with rootless.Popen(EATER, **LIMITS, **about) as box:
        assert box.wait(300) == -9
        assert box.oom_killed
    killed = rootless.run(["sh", "-c", "tail /dev/zero; echo on"], stdout=PIPE, **LIMITS, **about)
    assert (killed.returncode, killed.stdout, killed.oom_killed) == (0, b"on\n", True)  # a child, not the program
    done = rootless.run(["true"], **LIMITS, **about)
    assert (done.returncode, done.oom_killed) == (0, False)
    done = rootless.run(["sh", "-c", "kill -9 $$"], **LIMITS, **about)
    assert (done.returncode, done.oom_killed) == (-9, False)


def test_the_asyncio_twin_knows_it_too(root: Path) -> None:
    async def main() -> None:
        process = await rootless.async_popen(*EATER, rootfs=root, **LIMITS)
        assert (await process.wait(), process.oom_killed) == (-9, True)

    asyncio.run(main())


@pytest.mark.parametrize("warm", [0, 1], ids=["cold", "warm"])
def test_a_sandbox_says_who_ended_a_call(root: Path, warm: int) -> None:
    # Before Linux 6.6 an ordinary user's throw-away root could not lie on a tmpfs.
    with rootless.Sandbox(rootfs=root, ephemeral=os.getuid() == 0, warm=warm, **LIMITS) as sandbox:
        for _ in range(1 + warm):
            result = sandbox.run(EATER)
            assert (result.stopped_by, result.returncode) == ("memory", -9)
            assert sandbox.run(["echo", "on"]).stdout == b"on\n"
        assert sandbox.run(["sh", "-c", "kill -9 $$"]).stopped_by == "signal"
        assert sandbox.run(["sleep", "1000"], timeout=5).stopped_by == "timeout"


def test_each_limit_has_its_value_and_can_be_changed(about: dict[str, Any]) -> None:
    script = "cd /sys/fs/cgroup; while read line; do cat memory.max pids.max cpu.max; done"
    limits: dict[str, Any] = {"memory": "64m", "pids": 42, "cpus": 0.5}
    with rootless.Popen(["sh", "-c", script], stdin=PIPE, stdout=PIPE, text=True, **limits, **about) as box:
        assert box.stdin and box.stdout

        def values() -> list[str]:
            box.stdin.write("\n")  # type: ignore[union-attr]
            box.stdin.flush()  # type: ignore[union-attr]
            return [box.stdout.readline().rstrip() for _ in range(3)]  # type: ignore[union-attr]

        assert values() == [str(64 * MIB), "42", "50000 100000"]
        box.update(memory="48m", pids=20, cpus=0.25)
        assert values() == [str(48 * MIB), "20", "25000 100000"]
        with pytest.raises(rootless.RootlessError):
            box.update(memory="no size")
        stats = box.stats()
        assert stats["memory"]["usage"]["limit"] == 48 * MIB
        assert stats["pids"]["limit"] == 20
        box.pause()
        assert box.poll() is None
        box.resume()
        assert values() == [str(48 * MIB), "20", "25000 100000"]
        assert box.exec(["cat", "/sys/fs/cgroup/pids.max"], stdout=PIPE, text=True).stdout == "20\n"


def test_a_pids_limit_refuses_forks(about: dict[str, Any]) -> None:
    script = "sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 & wait"
    done = rootless.run(["sh", "-c", script], pids=4, stderr=PIPE, text=True, timeout=300, **about)
    assert "an't fork" in done.stderr


def test_best_effort_is_silent_where_limits_can_be_set(about: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rootless.run(["true"], limits="best-effort", **LIMITS, **about).returncode == 0


def test_nothing_is_left_of_a_container_s_cgroup(about: dict[str, Any]) -> None:
    with rootless.Popen(["sleep", "1000"], memory="64m", **about) as box:
        line = Path(f"/proc/{box.pid}/cgroup").read_text().strip()
        box.kill()
    path = Path("/sys/fs/cgroup") / line.partition("::/")[2]
    assert (about["name"] or "rootless") in path.name
    assert not path.exists()
