"""Workers repeat the recorded set-up of a plan, and notice what has changed since (api/worker.py)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import rootless
from rootless.errors import RootlessError
from tests.api.test_workers import at_once, launcher, needs_workers
from tests.support.processes import until

CHECKOUT = Path(__file__).resolve().parents[2]
STATUS = "grep -E '^(Cap|NoNew|Seccomp|Uid|Groups|Umask)' /proc/self/status"
LOOK = f"cat /proc/mounts; ls -lan /dev; ls /; {STATUS}; env; ulimit -a"


@pytest.fixture
def root(busybox_root: Path, tmp_path: Path) -> Path:
    """Return a rootfs that a test may change."""
    return Path(shutil.copytree(busybox_root, tmp_path / "rootfs", symlinks=True))


def seen(root: Path, script: str = LOOK, **keywords: Any) -> list[str]:
    """Return what the programs of many containers at once have printed, or the lines of their errors."""

    def call(_: int) -> Any:
        return rootless.run(
            ["sh", "-c", script], rootfs=root, capture_output=True, text=True, check=True, env={"PATH": "/bin"},
            **keywords,
        )  # fmt: skip

    answers = at_once(call)
    return [answer.stdout if hasattr(answer, "stdout") else str(answer) for answer in answers]


def alike(text: str) -> str:
    """Return the text without the times of files and the descriptors that an overlay's options name."""
    return re.sub(r"\w{3} +\d+ +(\d\d:\d\d|\d{4})|(lower|upper|work)dir=[^, ]*", "", text)


@needs_workers
@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"read_only": True, "tmpfs": ["/scratch"], "hostname": "box"},
        {"volumes": ["/usr/share:/mnt/share:ro", "/etc/hostname:/etc/name"]},
        {"network": "host"},
        {"ephemeral": True},
        {"cap_add": ["CAP_NET_RAW"], "ulimits": {"nofile": 64}},
    ],
    ids=["default", "read_only", "volumes", "network", "ephemeral", "process"],
)
def test_all_containers_of_a_plan_are_alike(root: Path, keywords: dict[str, Any]) -> None:
    rootless.run(["true"], rootfs=root, **keywords)  # it makes the mount points that are missing
    found = Counter(alike(text) for text in seen(root, **keywords))
    assert len(found) == 1, list(found)
    assert "/proc proc" in next(iter(found))


@needs_workers
def test_the_host_s_own_system_is_alike_in_all(tmp_path: Path) -> None:
    script = f"cat /proc/mounts; ls -l /dev; ls /; id; {STATUS}"

    def look(_: int) -> Any:
        return rootless.run(["sh", "-c", script], capture_output=True, text=True, check=True)

    assert len({alike(done.stdout) for done in at_once(look)}) == 1


@needs_workers
def test_a_home_that_changed_is_noticed(root: Path) -> None:
    passwd = root / "etc/passwd"
    passwd.parent.mkdir(exist_ok=True)
    for home in ("/one", "/two", "/three", "/four", "/five"):
        passwd.write_text(f"root:x:0:0:root:{home}:/bin/sh\n")
        assert seen_home(root) == {f"{home}\n"}
    passwd.unlink()
    assert seen_home(root) == {"/\n"}


def seen_home(root: Path) -> set[str]:
    done = at_once(lambda _: rootless.run(["sh", "-c", "echo $HOME"], rootfs=root, capture_output=True, text=True))
    return {each.stdout for each in done}


@needs_workers
def test_a_mount_point_that_became_a_link_is_refused_and_leaves_no_zombie(root: Path) -> None:
    assert set(seen(root, "echo fine")) == {"fine\n"}
    proc = root / "proc"
    proc.rmdir()
    proc.symlink_to("tmp")
    (refusal,) = set(seen(root, "echo fine"))
    assert "must be mounted on ordinary directory" in refusal
    proc.unlink()
    assert set(seen(root, "echo fine")) == {"fine\n"}, "and a missing one is made"
    assert until(lambda: not zombies())


@needs_workers
def test_a_mount_point_that_is_removed_each_time_is_made_again(root: Path) -> None:
    for _ in range(6):
        shutil.rmtree(root / "sys", ignore_errors=True)
        assert set(seen(root, "ls -d /sys/class")) == {"/sys/class\n"}
    assert until(lambda: not zombies())


def zombies() -> list[int]:
    pid = launcher()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in children if "State:\tZ" in status(each)]


def status(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


@needs_workers
def test_a_program_that_is_missing_is_named(busybox_root: Path) -> None:
    def call(_: int) -> Any:
        return rootless.run(["nothing-of-this-name"], rootfs=busybox_root)

    for error in at_once(call):
        assert isinstance(error, FileNotFoundError) and isinstance(error, RootlessError)


@needs_workers
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize("kind", ["rootfs", "ephemeral", "host"])
def test_the_repeated_calls_are_those_that_python_makes(busybox_root: Path, tmp_path: Path, kind: str) -> None:
    keywords = f"rootfs={str(busybox_root)!r}" if kind != "host" else ""
    keywords += ", ephemeral=True" if kind == "ephemeral" else ""
    program = f"""
import os, signal, sys, time
sys.path.insert(0, {str(CHECKOUT)!r})
import rootless
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(20) as pool:
    for done in pool.map(lambda _: rootless.run(["true"], {keywords}), range(60)):
        done.check_returncode()
"""
    traces = tmp_path / "traces"
    traces.mkdir()
    strace = ["strace", "-ff", "-qq", "-s", "300", "-o", str(traces / "of")]
    subprocess.run([*strace, sys.executable, "-c", program], check=True, timeout=200, stderr=subprocess.PIPE)
    # A worker's containers are those that execute the small init by its descriptor.
    containers = [trace for trace in traces.iterdir() if "\nexecveat(" in trace.read_text(errors="replace")]
    assert len(containers) > 20
    different = {calls_of(trace) for trace in containers}
    assert len(different) == 1, [set(one) ^ set(other) for one in different for other in different if one != other]


def calls_of(trace: Path) -> tuple[str, ...]:
    """Return the system calls of a process before its small init, and whether they worked, without numbers.

    How many gaps there are to close between descriptors depends on their numbers.
    """
    calls = []
    for line in trace.read_text(errors="replace").partition("\nexecveat(")[0].splitlines():
        found = re.match(r"(\w+)\((.*)\) += (-1 E\w+)?", line)
        if not found or found[1] in ("mmap", "munmap", "brk", "mremap", "futex", "close_range"):
            continue
        name, arguments, failure = found.groups()
        if name == "newfstatat" and arguments.endswith("AT_EMPTY_PATH"):
            name = "fstat"
        if name == "readlink":
            name, arguments = "readlinkat", f"AT_FDCWD, {arguments}"
        if name in ("fstat", "read", "fcntl", "rt_sigprocmask"):
            arguments = ""
        arguments = re.sub(r"\{st_mode.*?\}|\{f_type.*?\}\}?", "", arguments)
        calls.append(f"{name} {re.sub(r'0x[0-9a-f]+|[0-9]+', '', arguments)} {failure}")
    return tuple(calls)
