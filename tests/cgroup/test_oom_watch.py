"""OOM kills are counted while the program runs, because systemd may remove the count with the cgroup."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from rootless.cgroup import oom

Write = Callable[[int, int], None]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[tuple[oom.Watch, Write]]:
    """Return a watch of a made-up cgroup, and what writes its (times at the limit, kills)."""
    file = tmp_path / "memory.events"

    def write(hits: int, kills: int) -> None:
        file.write_text(f"low 0\nhigh 0\nmax {hits}\noom {kills}\noom_kill {kills}\n")

    write(3, 1)
    fd = os.open(tmp_path, os.O_PATH)
    made = oom.Watch(SimpleNamespace(path=str(tmp_path), fd=fd))  # type: ignore[arg-type]
    yield made, write
    made.close()
    os.close(fd)


def remove(monkeypatch: pytest.MonkeyPatch) -> None:
    def pread(*_: int) -> bytes:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(oom.os, "pread", pread)


def test_new_kills_are_counted_and_stay_when_the_cgroup_is_gone(
    watch: tuple[oom.Watch, Write], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, write = watch
    assert (seen.look(), seen.kills) == (0, 0)
    write(5, 3)
    assert (seen.look(), seen.kills) == (2, 2)
    remove(monkeypatch)
    assert (seen.look(), seen.kills, seen.is_probable(137)) == (0, 2, False)


@pytest.mark.parametrize(
    ("hits", "gone", "code", "later", "probable"),
    [
        (9, True, 137, 0.0, True),
        (9, False, 137, 0.0, False),  # then the count is right: somebody else has killed it
        (9, True, 143, 0.0, False),
        (9, True, 137, 60.0, False),
    ],
)
def test_a_kill_that_could_not_be_counted_is_probable(
    hits: int, gone: bool, code: int, later: float, probable: bool, watch: tuple[oom.Watch, Write],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen, write = watch
    write(hits, 1)
    seen.look()
    if gone:
        remove(monkeypatch)
    seen.look()
    now = oom.time.monotonic()
    monkeypatch.setattr(oom.time, "monotonic", lambda: now + later)
    assert seen.is_probable(code) is probable
