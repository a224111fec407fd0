"""Fixtures for the tests that run in the guest (tests/vm/run): who runs them, and containers with limits."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

WHO = os.environ.get("ROOTLESS_VM", "")  # root, delegated or login


@pytest.fixture(scope="session")
def who() -> str:
    """Who runs this: root, delegated (a user in a delegated cgroup) or login (a user as a login leaves one)."""
    if not WHO:
        pytest.skip("this machine is not the guest: make test-vm")
    return WHO


@pytest.fixture(params=["cgroupfs", "systemd"])
def manager(request: pytest.FixtureRequest, who: str) -> str:
    """Both cgroup managers; a login has no cgroup of its own to write, so systemd's alone."""
    if who == "login" and request.param == "cgroupfs":
        pytest.skip("a plain login has no cgroup that it may write")
    return str(request.param)


class Limited:
    """A running container with limits and its cgroup."""

    def __init__(self, container: Any, state: Path) -> None:
        self.container = container
        self.out = container.bundle.path / "out"  # what it prints
        self.record: dict[str, Any] = json.loads((state / container.id / "state.json").read_text())["cgroup"]
        self.path = Path(self.record["path"])

    def read(self, file: str) -> str:
        """A file of the cgroup, as the host sees it."""
        return (self.path / file).read_text().strip()


@pytest.fixture
def limited(container: Callable[..., Any], manager: str, rootless: Any) -> Iterator[Callable[..., Limited]]:
    """`limited(resources, program...)`: a running container under the manager in turn."""

    def make(resources: dict[str, Any], *args: str, linux: dict[str, Any] | None = None, **patch: Any) -> Limited:
        linux = {"resources": resources, **(linux or {})}
        new = container({"process": {"args": list(args or ("sleep", "1000"))}, "linux": linux, **patch})
        out = (new.bundle.path / "out").open("w")
        result = rootless("--cgroup-manager", manager, "run", "--detach", "-b", new.bundle.path, new.id,
                          capture_output=False, stdout=out, stderr=out)  # fmt: skip
        assert result.returncode == 0, (new.bundle.path / "out").read_text()
        return Limited(new, rootless.state)

    yield make


def run(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A program's output as text."""
    return subprocess.run(args, capture_output=True, text=True, check=False, timeout=300, **options)
