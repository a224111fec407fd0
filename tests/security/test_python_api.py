"""Containers of the Python API look up no path with a directory of the host open, and their small init is closed to
their programs.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

import rootless
from rootless.errors import RootlessError
from tests.support.commands import launch

HOST = "said by the host's file"


@pytest.fixture
def rootfs(container) -> Path:
    return Path(container().bundle.rootfs)


def run(rootfs: Path, *command: str) -> str:
    done = rootless.run(
        [*command], rootfs=rootfs, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return str(done.stdout)


@pytest.mark.parametrize("number", range(3, 16))
def test_no_program_is_found_through_a_descriptor(rootfs: Path, tmp_path: Path, number: int) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/busybox sh\necho {HOST}\n")
    tool.chmod(0o755)
    script = rootfs / "script"
    script.write_text(f"#!/proc/self/fd/{number}/..{tool}\n")
    script.chmod(0o755)
    (rootfs / "link").symlink_to(f"/proc/self/fd/{number}/..{tool}")
    for path in (f"/proc/self/fd/{number}/..{tool}", "/link", "/script"):
        with pytest.raises((OSError, RootlessError)):
            run(rootfs, path)


def test_pid_1_is_closed(rootfs: Path) -> None:
    script = """
[ $$ != 1 ] && echo not pid 1
(echo x >/proc/1/mem) 2>/dev/null && echo written
head -c 1 /proc/1/environ 2>/dev/null && echo read
for fd in /proc/1/fd/*; do readlink $fd && echo open; done
"""
    assert run(rootfs, "sh", "-c", script) == "not pid 1\n"


@pytest.mark.parametrize("keywords", [{}, {"cap_add": ["ALL"]}, {"name": "arguments"}, {"user": "0"}], ids=str)
def test_the_small_init_shows_no_path_of_the_host(rootfs: Path, keywords: dict[str, Any]) -> None:
    """Every program may read /proc/1/cmdline, and the launcher's arguments name the directory of the package."""
    done = rootless.run(["cat", "/proc/1/cmdline"], rootfs=rootfs, stdout=subprocess.PIPE, text=True, **keywords)
    assert done.stdout.strip("\0") == "rootless:init"


def test_the_small_init_of_the_command_shows_none_either() -> None:
    done = launch("run", "--init", "--host", "--", "cat", "/proc/1/cmdline")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip("\0") == "rootless:init"
