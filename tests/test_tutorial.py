"""docs/guide/tutorial.md, replayed: its console blocks in order, in one directory, the output compared."""

import os
import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


def commands() -> list[tuple[str, str]]:
    """(command, expected output) of every console block."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", (CHECKOUT / "docs/guide/tutorial.md").read_text(), re.DOTALL):
        for line in block.splitlines(keepends=True):
            if line.startswith("$ "):
                found.append((line[2:].strip(), ""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def matches(expected: str, output: str) -> bool:
    pattern = "".join(".*" if part == "..." else re.escape(part) for part in re.split(r"(\.\.\.)", expected))
    return re.fullmatch(pattern, output, re.DOTALL) is not None


def test_tutorial(tmp_path: Path) -> None:
    if not any(os.access(f"{d}/busybox", os.X_OK) for d in os.environ["PATH"].split(":")):
        pytest.skip("this machine lacks busybox (Debian: busybox-static)")
    path = f"{CHECKOUT / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "ROOTLESS_ROOT": str(tmp_path / "state"), "LC_ALL": "C"}
    work = tmp_path / "work"
    work.mkdir()
    steps = commands()
    assert len(steps) > 30
    for command, expected in steps:
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        lines = [line for line in done.stdout.splitlines(keepends=True) if not line.startswith("rootless: warning: ")]
        assert matches(expected, "".join(lines)), f"$ {command}\n{done.stdout}"
