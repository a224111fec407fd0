"""Replay docs/guide/run.md, coming-from.md and clusters.md: every block, and the right column of the table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.echo import ENGINES, free_port, missing
from tests.support.pages import console_steps, matches

CHECKOUT = Path(__file__).resolve().parents[2]
Shell = Callable[[str], tuple[int, str]]


@pytest.fixture
def make_shell(tmp_path: Path, busybox: Path) -> Callable[[str], Shell]:
    """Return `make_shell(name)(command)`, which returns the exit code and what a shell prints.

    The shell runs in a new directory with busybox.tar.
    """
    return lambda name: _shell(tmp_path / name, busybox)


def _shell(tmp_path: Path, busybox: Path) -> Shell:
    work = tmp_path / "work"
    work.mkdir(parents=True)
    tmp_path.parent.chmod(0o755)
    tmp_path.chmod(0o755)
    program = [sys.executable, str(CHECKOUT / "scripts/legacy_archive.py"), str(busybox), str(work / "busybox.tar")]
    subprocess.run(program, check=True)
    path = f"{CHECKOUT / 'bin'}:{os.environ['PATH']}"
    cache, state = str(tmp_path / "cache"), str(tmp_path / "state")
    environment = {**os.environ, "PATH": path, "ROOTLESS_ROOT": state, "XDG_CACHE_HOME": cache, "LC_ALL": "C"}
    environment["HOME"] = str(work)

    def run(command: str) -> tuple[int, str]:
        with open(tmp_path / "out", "w+") as out:  # no pipe: a container in the background would hold it
            done = subprocess.run(
                ["/bin/sh", "-c", command], cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, check=False, timeout=300,
            )  # fmt: skip
            out.seek(0)
            lines = [line for line in out if not line.startswith("rootless: warning: ")]
        return done.returncode, "".join(lines)

    return run


def text_of(page: str) -> str:
    """Return a page with a free port in place of 8080, because two of these tests may run at the same time."""
    return (CHECKOUT / page).read_text().replace("8080", str(free_port()))


def is_possible(command: str) -> bool:
    """Return whether a command needs no network engine, or there is one that works. If there is, every block runs."""
    engines = ("--network auto", " -p ", " web", "wget", "/tcp")
    return not all(map(missing, ENGINES)) or not any(word in command for word in engines)


def test_the_pages(make_shell: Callable[[str], Shell]) -> None:
    """The pages run one after the other, because their containers, and with them their cgroups, have the same names."""
    replay_blocks("docs/guide/run.md", make_shell("run"))
    replay_table("docs/guide/coming-from.md", make_shell("table"))


def test_the_page_about_clusters(make_shell: Callable[[str], Shell]) -> None:
    """Only the blocks that a user can type on one machine run here; contrib/*/check runs the others."""
    replay_blocks("docs/guide/clusters.md", make_shell("clusters"), least=4)


def test_the_page_about_exit_codes(make_shell: Callable[[str], Shell], tmp_path: Path) -> None:
    """The page's bundle, in /tmp there, has no root file system."""
    shell = make_shell("exit-codes")
    assert shell("rootless spec -b empty 2>&1 || mkdir empty && rootless spec -b empty")[0] == 0
    ((command, expected),) = console_steps(text_of("docs/reference/exit-codes.md"))
    code, output = shell(command)
    assert (code, output) == (1, expected.replace("/tmp/empty", f"{tmp_path}/exit-codes/work/empty"))


def replay_blocks(page: str, shell: Shell, least: int = 26) -> None:
    found = console_steps(text_of(page))
    assert len(found) >= least
    for command, expected in found:
        if not is_possible(command):
            continue
        _, output = shell(command)
        assert matches(expected, output), f"$ {command}\n{output}\nexpected:\n{expected}"


def replay_table(page: str, shell: Shell) -> None:
    rows = re.findall(r"^\| .*? \| `(.*)` \|$", text_of(page), re.MULTILINE)
    assert len(rows) > 20
    for command in rows:
        if ("--network auto" in command or " -p " in command) and not is_possible(command):
            continue
        code, output = shell(command)
        assert code == 0, f"$ {command}\n{output}"
