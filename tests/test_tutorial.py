"""Replay the tutorial and the README's session: run their commands in one directory, and compare the output."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.pages import console_steps, matches

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str], str]:
    """Return `shell(command)`, which returns what a shell prints on both streams, without warnings.

    All commands of a test run in one directory.
    """
    if not any(os.access(f"{d}/busybox", os.X_OK) for d in os.environ["PATH"].split(":")):
        pytest.skip("this machine lacks busybox (Debian: busybox-static)")
    path = f"{CHECKOUT / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "ROOTLESS_ROOT": str(tmp_path / "state"), "LC_ALL": "C"}
    work = tmp_path / "work"
    work.mkdir()

    def run(command: str) -> str:
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        lines = [line for line in done.stdout.splitlines(keepends=True) if not line.startswith("rootless: warning: ")]
        return "".join(lines)

    return run


def test_tutorial(shell: Callable[[str], str]) -> None:
    steps = console_steps((CHECKOUT / "docs/guide/tutorial.md").read_text())
    assert len(steps) > 30
    for command, expected in steps:
        output = shell(command)
        assert matches(expected, output), f"$ {command}\n{output}"


def test_readme(shell: Callable[[str], str]) -> None:
    """The README's session prints what the README shows, except for what differs between users and machines (ids, the
    cgroup).
    """
    archive = f"{sys.executable} {CHECKOUT}/scripts/legacy_archive.py $(command -v busybox) busybox.tar"
    assert shell(archive) == ""
    steps = console_steps((CHECKOUT / "README.md").read_text())
    assert len(steps) == 5
    for command, expected in steps:
        command, cut, _ = command.partition(" | head")
        output = shell(command)
        if cut:
            lines = [re.sub(r"\d+", "N", line).strip() for line in output.splitlines()]
            shown = [re.sub(r"\d+", "N", line).strip() for line in expected.splitlines()]
            fixed = [line for line in shown if not re.match(r"N (cgroup|uid_map N N|gid_map N N) ", line)]
            if os.geteuid() == 0:  # root's container has no user namespace
                fixed = [line.replace(" user ipc ", " ipc ") for line in fixed]
            assert fixed and not [line for line in fixed if line not in lines], output
        else:
            assert output == expected, f"$ {command}"
    assert shell("rootless remove busybox") == ""


def test_the_page_about_exit_codes_shows_real_errors(shell: Callable[[str], str]) -> None:
    assert shell("mkdir empty && rootless spec --bundle empty") == ""
    (step,) = console_steps((CHECKOUT / "docs/reference/exit-codes.md").read_text())
    assert shell(step[0]) == step[1].replace("/tmp", shell("pwd").strip())
