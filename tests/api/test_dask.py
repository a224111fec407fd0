"""contrib/dask on a cluster of two worker processes: results come back, lost tasks run again, cancelled ones are
killed.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.api.tasks import unpack
from rootless.errors import RootlessError
from tests.api.test_tasks import same_python
from tests.support.checkout import CHECKOUT, TIMEOUT

for missing in ("distributed", "cloudpickle"):
    if importlib.util.find_spec(missing) is None:
        pytest.skip(f"the package {missing} is missing", allow_module_level=True)
CONTRIB = CHECKOUT / "contrib/dask"
sys.path.insert(0, str(CONTRIB))
import distributed  # noqa: E402
import rootless_dask  # noqa: E402


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[distributed.Client]:
    """Return a client of two worker processes. A nanny starts another worker when one has died."""
    place = tmp_path_factory.mktemp("dask")
    environment = {"PYTHONPATH": f"{CHECKOUT}:{CONTRIB}", "XDG_CACHE_HOME": str(place)}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)  # workers inherit it
    try:
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None, worker_dashboard_address=None,
                local_directory=str(place), resources={"memory": 1e9, "cpus": 2}, silence_logs=50,
            ) as cluster,
            distributed.Client(cluster) as client,
        ):  # fmt: skip
            yield client
    finally:
        for name, value in before.items():
            os.environ.pop(name, "") if value is None else os.environ.update({name: value})


def gone(words: str) -> bool:
    """Wait until no process has these words; return whether that has come."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        if subprocess.run(["pgrep", "-f", words], capture_output=True, check=False).returncode == 1:
            return True
        time.sleep(0.05)
    return False


def submit(client: distributed.Client, *args: Any, **keywords: Any) -> distributed.Future:
    return client.submit(*args, **{"pure": False, **keywords})


def test_a_command_runs_in_a_container_of_the_worker(client: distributed.Client, busybox_root: Path) -> None:
    ask = {"rootfs": str(busybox_root), "capture_output": True, "text": True}
    done = submit(client, rootless_dask.run, ["sh", "-c", "echo $$; ls /home 2>&1; exit 3"], **ask).result()
    assert done.returncode == 3 and int(done.stdout.split()[0]) < 10


def test_the_two_workers_share_the_calls(client: distributed.Client, busybox_root: Path, tmp_path: Path) -> None:
    script = "echo >/tasks/$0; until [ -e /tasks/0 -a -e /tasks/1 ]; do usleep 10000; done"
    ask = {"rootfs": str(busybox_root), "volumes": [f"{tmp_path}:/tasks"], "check": True}
    each = [submit(client, rootless_dask.run, ["sh", "-c", script, str(i)], **ask) for i in range(2)]
    assert [done.returncode for done in client.gather(each)] == [0, 0]


def test_errors_come_back_as_they_were(client: distributed.Client, busybox_root: Path) -> None:
    ask = {"rootfs": str(busybox_root), "check": True, "retries": 0}
    with pytest.raises(subprocess.CalledProcessError) as failed:
        submit(client, rootless_dask.run, ["sh", "-c", "exit 5"], **ask).result()
    assert failed.value.returncode == 5
    with pytest.raises(FileNotFoundError, match="nowhere"):
        submit(client, rootless_dask.run, ["nowhere"], **ask).result()


def test_a_function_returns_and_raises(client: distributed.Client) -> None:
    @rootless_dask.contained(python=same_python())
    def divide(a: int, *, by: int) -> tuple[float, list[str]]:
        return a / by, os.listdir("/home")

    assert submit(client, divide, 6, by=4).result() == (1.5, [])
    with pytest.raises(ZeroDivisionError):
        submit(client, divide, 6, by=0).result()
    assert divide(6, by=3) == (2.0, [])  # outside of a task, too


def test_an_image_is_unpacked_once_on_the_node(client: distributed.Client, busybox: Path, tmp_path: Path) -> None:
    archive = tmp_path / "busybox.tar"
    subprocess.run([sys.executable, CHECKOUT / "scripts/legacy_archive.py", busybox, archive], check=True)
    ask = {"image": str(archive), "capture_output": True, "text": True, "check": True}
    each = [submit(client, rootless_dask.run, ["sh", "-c", "echo $0 | tee /made", i], **ask) for i in "abcd"]
    assert [done.stdout for done in client.gather(each)] == ["a\n", "b\n", "c\n", "d\n"]
    assert len(set(client.gather([submit(client, unpack, str(archive)) for _ in range(4)]))) == 1


def begun(client: distributed.Client, root: Path, place: Path, word: str) -> tuple[distributed.Future, int]:
    """Submit a task whose container runs until it is killed, the first time; return it and its worker's process id."""
    script = "[ -e /tasks/again ] && exec echo again; echo >/tasks/begun; sleep 1000; :"
    ask = {"rootfs": str(root), "volumes": [f"{place}:/tasks"], "capture_output": True, "text": True}
    future = submit(client, rootless_dask.run, ["sh", "-c", script, word], **ask)
    end = time.monotonic() + TIMEOUT
    while not (place / "begun").exists():
        assert time.monotonic() < end and future.status == "pending", future
        time.sleep(0.02)
    worker = next(name for name, keys in client.processing().items() if future.key in keys)
    return future, client.run(os.getpid, workers=[worker])[worker]


def test_a_killed_workers_task_runs_again(client: distributed.Client, busybox_root: Path, tmp_path: Path) -> None:
    """The other worker runs it, or the one that the nanny starts. The container has ended with its worker."""
    word = f"task-{uuid.uuid4()}"
    future, worker = begun(client, busybox_root, tmp_path, word)
    (tmp_path / "again").touch()
    os.kill(worker, signal.SIGKILL)
    assert future.result(timeout=TIMEOUT).stdout == "again\n"
    assert gone(word)
    client.wait_for_workers(2, timeout=TIMEOUT)


def test_a_cancelled_task_leaves_nothing(client: distributed.Client, busybox_root: Path, tmp_path: Path) -> None:
    word = f"task-{uuid.uuid4()}"
    future, worker = begun(client, busybox_root, tmp_path, word)
    future.cancel()
    assert gone(word)
    assert worker in client.run(os.getpid).values()  # it lives, and takes other tasks
    ask = {"rootfs": str(busybox_root), "capture_output": True, "text": True}
    each = [submit(client, rootless_dask.run, ["echo", str(i)], **ask) for i in range(4)]
    assert [done.stdout for done in client.gather(each)] == ["0\n", "1\n", "2\n", "3\n"]


def test_limits() -> None:
    """The task's own limits are kept or refused; the share of the worker's memory is kept
    as far as that is possible.
    """
    assert rootless_dask.limits({"memory": 5e8, "cpus": 2, "GPU": 1}, 8e9, 4) == {"memory": "500000000", "cpus": 2.0}
    assert rootless_dask.limits({"GPU": 1}, 8e9, 4) == {"memory": "2000000000", "limits": "best-effort"}
    assert rootless_dask.limits({}, 0, 4) == {}


def test_a_task_has_the_limits_that_it_was_submitted_with(client: distributed.Client, busybox_root: Path) -> None:
    """If they cannot be set, the task fails and says which."""
    ask = {"rootfs": str(busybox_root), "resources": {"memory": 5e8}, "capture_output": True, "text": True}
    future = submit(client, rootless_dask.run, ["cat", "/sys/fs/cgroup/memory.max"], **ask)
    try:
        assert int(future.result().stdout) in range(499_990_000, 500_010_000)
    except RootlessError as error:
        assert "memory" in str(error)


def test_the_blocks_of_the_page_work(tmp_path: Path) -> None:
    page = (CHECKOUT / "docs/guide/clusters.md").read_text()
    (section,) = re.findall(r"^## From Python with Dask\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert blocks
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}:{CONTRIB}"}
    program = [sys.executable, "-W", "ignore", "-c", "\n".join(blocks)]
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
