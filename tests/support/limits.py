"""Run a container with limits, for the tests in the guest (tests/vm)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.containers import Container


class Limited:
    """Hold a running container with limits, its cgroup, and the pipe that it prints into."""

    def __init__(self, container: Container, state: Path, out: int) -> None:
        self.container = container
        self.out = open(out, encoding="utf-8", buffering=1)  # closed by the fixture
        self.record: dict[str, Any] = json.loads((state / container.id / "state.json").read_text())["cgroup"]
        self.path = Path(self.record["path"])

    def read(self, file: str) -> str:
        """Return a file of the cgroup, as the host sees it."""
        return (self.path / file).read_text().strip()

    def line(self) -> str:
        """Wait for the next line that the container prints and return it; "" when all its processes are gone."""
        return self.out.readline().rstrip("\n")


def run(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program; return its output as text."""
    return subprocess.run(args, text=True, check=False, timeout=300, **{"capture_output": True, **options})
