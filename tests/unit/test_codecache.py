"""The byte code cache of the hot commands: it changes nothing but the time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rootless.startup.leancode import compile_lean

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout that may be written."""
    for name in ("bin", "rootless", "oci"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def state(copy: Path, *flags: str) -> str:
    """What `state` says of a container that is not there."""
    launcher = os.path.relpath(copy / "bin/rootless")  # found by whatever path
    command = [sys.executable, "-IS", *flags, launcher, "--root", str(copy / "state"), "state", "nope"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr


def caches(copy: Path) -> list[Path]:
    return sorted((copy / "rootless/__pycache__").glob("state.*.code"))


def test_the_second_call_takes_what_the_first_left(copy) -> None:
    first = state(copy)
    (cache,) = caches(copy)
    kept = cache.stat()
    assert state(copy) == first and "does not exist" in first
    assert (cache.stat().st_ino, cache.stat().st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns)
    # With the cache no module of the package is looked for.
    imported = state(copy, "-X", "importtime").splitlines()
    names = [line.rpartition("|")[2].strip() for line in imported if line.startswith("import time:")]
    assert [name for name in names if name.startswith("rootless")] == []


def test_run_takes_what_comes_later_too(copy, bundle) -> None:
    """Loaded while the container is set up; where a source of it has changed, that one counts."""
    bundle.patch({"process": {"args": ["true"]}})
    command = [sys.executable, "-IS", "-X", "importtime", str(copy / "bin/rootless"), "--root", str(copy / "state")]
    command += ["run", "-b", str(bundle.path), f"later{os.getpid()}"]

    def imported() -> list[str]:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        names = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
        only_root = ("rootless.cgroup.devices", "rootless.cgroup.files", "rootless.cgroup.bpf")  # as a config asks for
        return [name for name in names if name.startswith("rootless") and not name.startswith(only_root)]

    assert "rootless.runtime.foreground" in imported()
    assert imported() == []
    for name in ("runtime.foreground", "steps.mounts"):
        (copy / f"rootless/{name.replace('.', '/')}.py").touch()
        assert f"rootless.{name}" in imported()
        assert imported() == []


def test_a_changed_source_counts_at_once(copy) -> None:
    state(copy)
    source = copy / "rootless/errors.py"
    source.write_text(source.read_text().replace("does not exist", "is nowhere"))
    assert "is nowhere" in state(copy)
    assert "is nowhere" in state(copy)


def test_a_copy_is_not_taken_for_the_original(copy, tmp_path_factory) -> None:
    """Made by a relative path, the cache holds no path of the place where it was made."""
    state(copy)
    moved = tmp_path_factory.mktemp("moved")
    for name in ("bin", "rootless", "oci"):
        shutil.copytree(copy / name, moved / name)  # times and caches too
    source = moved / "rootless/errors.py"
    source.write_text(source.read_text().replace("does not exist", "is nowhere"))
    assert "is nowhere" in state(moved)
    assert "does not exist" in state(copy)


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_cache_is_made_anew(copy, damage) -> None:
    first = state(copy)
    (cache,) = caches(copy)
    whole = cache.read_bytes()
    cache.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert state(copy) == first
    assert cache.read_bytes() == whole


def test_where_none_may_be_written_none_is(copy) -> None:
    first = state(copy, "-B")
    assert not caches(copy)
    assert state(copy) == first


SOURCE = b'''
from __future__ import annotations
"""A docstring."""
TYPE_CHECKING = False
if TYPE_CHECKING:
    import nothing
else:
    answer: int = 42
unset: int

class Thing:
    """One more."""
    size: int
    kind: str = "k"

    def method(self: Thing, *many: int, key: str = "x", **more: int) -> str:
        """And one."""
        inner: int = len(many)
        return f"{key}{inner}{sorted(more)}"
'''


def test_lean_code_does_the_same() -> None:
    found: dict[str, Any] = {}
    exec(compile_lean(SOURCE, "source.py"), found)
    thing = found["Thing"]()
    assert (found["answer"], thing.kind, thing.method(1, 2, key="y", z=3)) == (42, "k", "y2['z']")
    assert "unset" not in found and found["Thing"].__doc__ is None
    assert not found["Thing"].method.__annotations__ and not found["Thing"].method.__code__.co_linetable
