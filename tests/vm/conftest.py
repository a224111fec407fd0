"""Make fixtures for the tests in the guest (tests/vm/run): who runs them, and containers with limits."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.limits import Limited

WHO = os.environ.get("ROOTLESS_VM", "")  # root, delegated or login


@pytest.fixture(scope="session")
def who() -> str:
    """Return who runs this: root, delegated (a user in a delegated cgroup) or login (a user who has only logged in)."""
    if not WHO:
        pytest.skip("this machine is not the guest: make test-vm")
    return WHO


@pytest.fixture(params=["cgroupfs", "systemd"])
def manager(request: pytest.FixtureRequest, who: str) -> str:
    """Return each cgroup manager in turn. A login has no cgroup of its own to write, so it has systemd's alone."""
    if who == "login" and request.param == "cgroupfs":
        pytest.skip("a plain login has no cgroup that it may write")
    return str(request.param)


@pytest.fixture
def limited(container: Callable[..., Any], manager: str, rootless: Any) -> Iterator[Callable[..., Limited]]:
    """Return `limited(resources, program...)`, which makes a running container under the manager in turn."""
    boxes: list[Limited] = []

    def make(
        resources: dict[str, Any], *args: str, stdin: int = subprocess.DEVNULL, data: int = 0, **patch: Any
    ) -> Limited:
        """Make the container. stdin: what it reads; data: the size of a file /data; patch: more of config.json."""
        process = {"args": list(args or ("sleep", "1000"))}
        new = container({"process": process, "linux": {"resources": resources}, **patch})
        if data:
            (new.bundle.rootfs / "data").write_bytes(os.urandom(data))
            os.sync()
        out, into = os.pipe()
        result = rootless("--cgroup-manager", manager, "run", "--detach", "-b", new.bundle.path, new.id,
                          capture_output=False, stdin=stdin, stdout=into, stderr=into)  # fmt: skip
        os.close(into)
        assert result.returncode == 0, os.read(out, 4096)
        boxes.append(Limited(new, rootless.state, out))
        return boxes[-1]

    yield make
    for box in boxes:
        box.out.close()
