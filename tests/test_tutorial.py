"""Replay the tutorial and the README's session: run their commands in one directory, and compare the output."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


def commands(page: str) -> list[tuple[str, str]]:
    """(command, expected output) of every console block of a page."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", (CHECKOUT / page).read_text(), re.DOTALL):
        for line in block.splitlines(keepends=True):
            if line.startswith("$ "):
                found.append((line[2:].strip(), ""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def matches(expected: str, output: str) -> bool:
    pattern = "".join(".*" if part == "..." else re.escape(part) for part in re.split(r"(\.\.\.)", expected))
    return re.fullmatch(pattern, output, re.DOTALL) is not None


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
    steps = commands("docs/guide/tutorial.md")
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
    steps = commands("README.md")
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
    (step,) = commands("docs/reference/exit-codes.md")
    assert shell(step[0]) == step[1].replace("/tmp", shell("pwd").strip())
