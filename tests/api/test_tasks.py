"""What a task runs in a container comes back (rootless.api.tasks), and a lost task leaves nothing."""

from __future__ import annotations

import concurrent.futures
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless import RootlessError, TaskDied, contained
from rootless.api import tasks
from tests.support.checkout import CHECKOUT
from tests.support.processes import LONGER_AND_LONGER

pytest.importorskip("cloudpickle")
SYSTEM = Path("/usr/bin/python3")  # an interpreter that every user and every container may read


@pytest.fixture
def archive(busybox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an image of busybox, and use a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "busybox.tar"
    subprocess.run([sys.executable, CHECKOUT / "scripts/legacy_archive.py", busybox, path], check=True)
    return path


def same_python() -> str:
    """Return the system's interpreter if it is of this one's version: its packages are not needed."""
    words = [SYSTEM, "-c", "import sys; print(sys.version_info[:2])"]
    if not SYSTEM.exists() or subprocess.check_output(words, text=True).strip() != str(sys.version_info[:2]):
        pytest.skip(f"{SYSTEM} is missing, or of another version")
    return str(SYSTEM)


class Point:
    """A class that only the caller has."""

    def __init__(self, x: int) -> None:
        self.x = x


class Two(Exception):
    """An exception that cannot be unpickled, because its arguments are not those of the constructor."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def call(function: Callable[..., object], *args: object, **settings: object) -> object:
    """Call a function in a container; it is sent by value, because the container has none of the tests' modules."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        return tasks.call_function(function, args, python=same_python(), **settings)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_a_function_gets_its_arguments_and_its_result_comes_back() -> None:
    def move(point: Point, by: int) -> tuple[Point, int]:
        return Point(point.x + by), os.getpid()

    point, pid = call(move, Point(2), 3)  # type: ignore[misc]
    assert isinstance(point, Point)
    assert (point.x, pid < 10) == (5, True)  # in a pid namespace of its own


@pytest.mark.parametrize(
    ("kind", "text"), [(KeyError, "'name'"), (RuntimeError, "Two: 1 and 2"), (ModuleNotFoundError, "nowhere")]
)
def test_an_exception_comes_back_and_says_where_it_was_raised(kind: type[Exception], text: str) -> None:
    def fail(name: str) -> None:
        if name == "KeyError":
            raise KeyError("name")
        if name == "RuntimeError":
            raise Two(1, 2)
        __import__("nowhere")

    with pytest.raises(kind, match=text) as raised:
        call(fail, kind.__name__)
    assert "in the container:\nTraceback" in raised.value.__notes__[0]


def test_what_cannot_be_sent_is_an_error_of_the_caller() -> None:
    with pytest.raises((TypeError, pickle.PicklingError)):
        call(sys._getframe)


def test_a_function_that_does_not_return_is_told_from_one_that_does() -> None:
    with pytest.raises(TaskDied, match="exit code 3") as raised:
        call(lambda: sys.exit(3))
    assert raised.value.returncode == 3
    with pytest.raises(TaskDied, match="signal 9") as raised:
        call(lambda: os.kill(os.getpid(), signal.SIGKILL))
    copy = pickle.loads(pickle.dumps(raised.value))  # as it travels from a worker
    assert (copy.returncode, copy.oom_killed, str(copy)) == (-9, False, str(raised.value))


def test_another_version_of_python_is_refused_before_it_reads_byte_code(monkeypatch: pytest.MonkeyPatch) -> None:
    python = same_python()
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    with pytest.raises(RuntimeError, match=r"the caller's Python is 3\.9, the container's is 3\.[1-9]"):
        tasks.call_function(len, ("abc",), python=python)


def test_a_missing_cloudpickle_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(RootlessError, match=r"cloudpickle is missing.*pip install 'rootless\[tasks\]'"):
        tasks.call_function(len, ("abc",))


def test_the_decorator_is_the_function_with_its_name_and_can_be_pickled() -> None:
    @contained(python=same_python())
    def double(x: int) -> int:
        """Doc."""
        return 2 * x

    import cloudpickle

    assert (double.__name__, double.__doc__, double(x=4)) == ("double", "Doc.", 8)
    assert pickle.loads(cloudpickle.dumps(double))(5) == 10


def test_an_image_is_unpacked_once_and_never_changed(archive: Path) -> None:
    for _ in range(2):
        done = tasks.run_task(["sh", "-c", "ls /; >/new; ls /new"], image=archive, capture_output=True, text=True)
        assert (done.returncode, done.stderr, done.stdout.count("new")) == (0, "", 1)
    assert tasks.unpack(archive) == tasks.unpack(str(archive))
    assert Path(tasks.unpack(archive)).parent == Path(os.environ["XDG_CACHE_HOME"], "rootless/images")
    with pytest.raises(RootlessError, match="cannot open the archive") as caught:
        tasks.unpack(archive.with_name("none.tar"))
    assert str(caught.value).count("none.tar") == 1
    with pytest.raises(ValueError, match="image="):
        tasks.run_task(["true"], image=archive, rootfs="/")


@pytest.mark.parametrize("settings", [{}, {"ephemeral": False}], ids=["an old kernel", "asked for"])
def test_an_image_without_a_throw_away_root_is_read_only(
    archive: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """All tasks of a machine share the image in the cache. Before Linux 6.6 a user has no throw-away root in memory."""
    if not settings:
        monkeypatch.setattr(tasks, "_has_memory_root", lambda: False)
    script = "(>/new) 2>/dev/null || echo read-only; >/tmp/new; ls /tmp"
    done = tasks.run_task(["sh", "-c", script], image=archive, capture_output=True, text=True, **settings)
    assert (done.stdout, done.stderr) == ("read-only\nnew\n", "")
    rootfs = Path(tasks.unpack(archive), "rootfs")
    assert not (rootfs / "new").exists() and os.listdir(rootfs / "tmp") == [], "only places of mounts are made in it"
    with pytest.raises(ValueError, match="the image is shared"):
        tasks.run_task(["true"], image=archive, ephemeral=False, read_only=False)


def test_a_function_runs_in_an_image(archive: Path) -> None:
    def where() -> list[str]:
        return os.listdir("/")

    same_python()
    mounts = [f"{path}:{path}:ro" for path in ("/usr", "/lib", "/lib64") if os.path.exists(path)]
    assert set(os.listdir("/")) != set(call(where, image=archive, volumes=mounts))  # type: ignore[call-overload]


def test_a_cancelled_task_is_killed() -> None:
    answers = iter([False, True])
    with pytest.raises(concurrent.futures.CancelledError):
        tasks.run_task(["sleep", "1000"], cancelled=lambda: next(answers))
    for seconds in LONGER_AND_LONGER:
        with pytest.raises(subprocess.TimeoutExpired, match=f"after {seconds} seconds") as raised:
            tasks.run_task("echo begun; sleep 1000", shell=True, cancelled=bool, timeout=seconds, stdout=-1)
        if raised.value.output:
            break
    assert raised.value.output == b"begun\n"
    done = tasks.run_task(["cat"], cancelled=bool, input=b"x" * 300_000, stdout=-1)
    assert done.stdout == b"x" * 300_000


@pytest.mark.parametrize(
    ("job", "limits"),
    [
        ({}, {}),
        ({"SLURM_MEM_PER_NODE": "500"}, {}),  # left by `salloc` of another shell: no job
        ({"SLURM_JOB_ID": "1"}, {}),
        ({"SLURM_JOB_ID": "1", "SLURM_MEM_PER_NODE": "0"}, {}),
        (
            {"SLURM_JOB_ID": "1", "SLURM_MEM_PER_NODE": "500", "SLURM_CPUS_PER_TASK": "2"},
            {"memory": "500m", "cpus": 2, "limits": "best-effort"},
        ),
        (
            {"SLURM_JOB_ID": "1", "SLURM_MEM_PER_CPU": "100", "SLURM_CPUS_ON_NODE": "4"},
            {"memory": "400m", "limits": "best-effort"},
        ),
    ],
)
def test_limits_are_taken_from_the_job(job: dict[str, str], limits: dict[str, object]) -> None:
    assert tasks.job_limits(job) == limits


def test_limits_of_the_call_count_more_than_those_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "500")
    seen = []
    monkeypatch.setattr(tasks, "run_with", lambda _start, *_args, **keywords: seen.append(keywords))
    tasks.run_task(["true"])
    tasks.run_task(["true"], cpus=1)
    assert seen == [{"memory": "500m", "limits": "best-effort"}, {"cpus": 1}]
