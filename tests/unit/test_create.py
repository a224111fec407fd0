"""Test what `create` says of a failure."""

from types import SimpleNamespace

import pytest

from rootless.config_node import Node
from rootless.errors import RootlessError
from rootless.runtime import create
from tests.support.full_config import FULL, compiled


def test_kills_are_counted_in_the_cgroup_that_the_driver_has_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan does not know that cgroup: it has no path where systemd decides on it, and never an inode number."""
    creation = create.Creation.__new__(create.Creation)
    creation.plan = compiled(Node(FULL))
    creation.undo_stack = []
    made = {**creation.plan.cgroup.record, "path": "/made", "inode": 7}
    creation.container = SimpleNamespace(state={"cgroup": made}, directory=None)
    counted = []

    def opened(record: dict[str, object]) -> SimpleNamespace:
        counted.append((record["path"], record.get("inode")))
        return SimpleNamespace(oom_kills=lambda: 1)

    monkeypatch.setattr(create.cgroup, "open", opened)
    error = RootlessError("init ended")
    creation.undo(error)
    assert counted == [("/made", 7)] and "memory" in error.hint
