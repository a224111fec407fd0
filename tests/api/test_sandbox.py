"""`Sandbox`: verdicts, throw-away roots, warm containers, order."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

import rootless
from tests.support.processes import LONGER_AND_LONGER, ends, long_sleep, running, until


@pytest.fixture(params=[0, 2], ids=["cold", "warm"])
def warm(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_a_call_returns_output_and_status(busybox_root: Path, warm: int) -> None:
    with rootless.Sandbox(rootfs=busybox_root, warm=warm) as box:
        result = box.run(["sh", "-c", "cat; echo err >&2; exit 3"], input="in")
        assert (result.returncode, result.stdout, result.stderr, result.stopped_by) == (3, b"in", b"err\n", None)
        assert 0 < result.seconds < 60
        assert box.run("echo $A; pwd", shell=True, env={"A": "1", "PATH": "/bin"}, cwd="/tmp").stdout == b"1\n/tmp\n"
        with pytest.raises(FileNotFoundError):
            box.run(["nosuch"])


@pytest.mark.parametrize("name", ["nosuch", "capture_output", "sandbox"])
@pytest.mark.parametrize("way", ["run", "map", "async_run"])
def test_a_keyword_that_a_call_lacks_is_named(name: str, way: str) -> None:
    unknown: dict[str, Any] = {name: 1}
    with (
        rootless.Sandbox() as box,
        pytest.raises(TypeError, match=rf"^run\(\) got an unexpected keyword argument '{name}'$"),
    ):
        if way == "async_run":
            asyncio.run(box.async_run(["true"], **unknown))
        elif way == "run":
            box.run(["true"], **unknown)
        else:
            list(box.map([["true"]], **unknown))


def test_each_call_has_a_root_of_its_own(busybox_root: Path, warm: int) -> None:
    with rootless.Sandbox(rootfs=busybox_root, warm=warm, text=True) as box:
        for _ in range(4):
            result = box.run("ls /etc; echo x >/etc/new; rm /etc/passwd; ls /etc", shell=True)
            assert (result.stdout, result.stderr) == ("passwd\nnew\n", "")
    assert os.listdir(busybox_root / "etc") == ["passwd"]


def test_a_limit_is_a_verdict_and_no_exception(warm: int) -> None:
    sleep = long_sleep()
    with rootless.Sandbox(warm=warm, output_limit=1000) as box:
        for seconds in LONGER_AND_LONGER:
            slow = box.run(f"echo begun; sleep {sleep}", shell=True, timeout=seconds)
            if slow.stdout:
                break
        assert (slow.stopped_by, slow.stdout, slow.returncode) == ("timeout", b"begun\n", -9)
        loud = box.run(["yes"])
        assert (loud.stopped_by, len(loud.stdout)) == ("output", 1000)
        ended = box.run("kill -SEGV $$", shell=True)
        assert (ended.stopped_by, ended.returncode) == ("signal", -11)
        assert box.run(["true"]).stopped_by is None
    assert ends(f"sleep\0{sleep}")


def test_the_time_is_over_for_a_program_that_has_closed_its_streams(warm: int, tmp_path: Path) -> None:
    sleep = long_sleep()
    with rootless.Sandbox(warm=warm, workspace=tmp_path) as box:
        for data in (b"", b"x" * 3_000_000):
            slow = box.run(f"exec >&- 2>&-; exec sleep {sleep}", shell=True, input=data, timeout=0.5)
            assert (slow.stopped_by, slow.returncode) == ("timeout", -9)
        script = "exec >&- 2>&-; cat >/workspace/read; exit 3"
        done = box.run(script, shell=True, input=data, timeout=60)
        assert (done.stopped_by, done.returncode) == (None, 3)
    assert (tmp_path / "read").read_bytes() == data
    assert ends(f"sleep\0{sleep}")


def test_input_is_text_or_bytes() -> None:
    with rootless.Sandbox() as box:
        for data in ("ab", b"ab", bytearray(b"ab"), memoryview(b"ab")):
            assert box.run(["cat"], input=data).stdout == b"ab"
        with pytest.raises(TypeError):
            box.run(["cat"], input=5)  # type: ignore[call-overload]


def test_a_call_after_a_killed_launcher_is_a_call_as_any_other() -> None:
    from rootless.api.client import launcher_pid

    with rootless.Sandbox(warm=3) as box:
        for _ in range(3):
            pidfd = os.pidfd_open(launcher_pid())
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], 60)  # otherwise a warm container could still take the call
            os.close(pidfd)
            assert box.run(["echo", "here"]).stdout == b"here\n"


def test_it_gives_no_rights_and_no_network(busybox_root: Path) -> None:
    with rootless.Sandbox(rootfs=busybox_root, text=True) as box:
        status = dict(line.split(":\t", 1) for line in box.run(["cat", "/proc/self/status"]).stdout.splitlines())
        assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert box.run("ls /sys/class/net", shell=True).stdout == "lo\n"
        assert box.run(["unshare", "-r", "true"]).returncode != 0


def test_a_workspace_is_shared(tmp_path: Path) -> None:
    with rootless.Sandbox(workspace=tmp_path, text=True) as box:
        assert box.run("echo made >/workspace/file", shell=True).returncode == 0
        assert box.run(["cat", "file"], cwd="/workspace").stdout == "made\n"
    assert (tmp_path / "file").read_text() == "made\n"


def test_map_yields_in_order_and_async_twins_too(busybox_root: Path, warm: int) -> None:
    with rootless.Sandbox(rootfs=busybox_root, warm=warm, text=True) as box:
        programs = [["sh", "-c", f"sleep 0.{4 - n % 4}; echo {n}"] for n in range(6)]
        assert [r.stdout for r in box.map(programs, parallel=3)] == [f"{n}\n" for n in range(6)]

        async def main() -> list[str]:
            assert (await box.async_run(["echo", "one"])).stdout == "one\n"
            return [r.stdout async for r in box.async_map(programs, parallel=3)]

        assert asyncio.run(main()) == [f"{n}\n" for n in range(6)]


def test_async_with_ends_the_warm_containers(busybox_root: Path) -> None:
    async def main() -> rootless.Sandbox[bytes]:
        async with rootless.Sandbox(rootfs=busybox_root, warm=1) as box:
            assert (await box.async_run(["sh", "-c", "exit 3"])).returncode == 3
        return box

    box = asyncio.run(main())
    assert box._closed and not box._pool


def test_a_long_call_does_not_keep_the_next_ones_from_their_place(tmp_path: Path) -> None:
    wait = "while [ ! -e /workspace/done ]; do sleep 0.01; done"
    calls = [["sh", "-c", words] for words in (wait, "true", "true", ">/workspace/done")]
    with rootless.Sandbox(workspace=tmp_path, timeout=30) as box:

        async def main() -> list[str | None]:
            return [result.stopped_by async for result in box.async_map(calls, parallel=2)]

        assert [result.stopped_by for result in box.map(calls, parallel=2)] == [None] * 4
        (tmp_path / "done").unlink()
        assert asyncio.run(main()) == [None] * 4


def test_as_many_tasks_run_at_once_as_are_asked_for(tmp_path: Path) -> None:
    """Each program waits for all the others, so that fewer at once would never end."""
    count = 12
    script = f"mkdir /workspace/$0; while [ $(ls /workspace | wc -l) -lt {count} ]; do sleep 0.05; done"

    async def main() -> int:
        with rootless.Sandbox(workspace=tmp_path, timeout=120) as box:
            calls = (["sh", "-c", script, str(number)] for number in range(count))
            return sum([result.returncode == 0 async for result in box.async_map(calls, parallel=count)])

    assert asyncio.run(main()) == count


def test_a_cancelled_call_ends() -> None:
    sleep = long_sleep()

    async def main() -> None:
        with rootless.Sandbox() as box:
            task = asyncio.create_task(box.async_run(["sleep", sleep]))
            while not running(f"sleep\0{sleep}"):
                await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert ends(f"sleep\0{sleep}")


def test_calls_that_are_cancelled_at_any_moment_end_in_silence(warm: int) -> None:
    logged: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        with rootless.Sandbox(warm=warm) as box:
            for wait in range(40):
                task = asyncio.create_task(box.async_run(["true"]))
                await asyncio.sleep(wait / 4000)
                task.cancel()
                await asyncio.wait([task])
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert logged == []


def test_a_child_that_was_forked_while_a_thread_used_the_pool_can_use_it() -> None:
    with rootless.Sandbox(warm=1) as box:
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with box._lock:
                held.set()
                done.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        child = os.fork()
        if child == 0:
            code = 9
            try:
                signal.alarm(20)
                code = box.run(["sh", "-c", "exit 3"]).returncode
            finally:
                os._exit(code)
        done.set()
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert box.run(["true"]).returncode == 0


def test_closing_ends_what_waits() -> None:
    from rootless.api.client import launcher_pid

    box = rootless.Sandbox(warm=3)
    box.run(["true"])
    children = Path(f"/proc/{launcher_pid()}/task/{launcher_pid()}/children")
    assert until(lambda: len(children.read_text().split()) >= 3)
    box.close()
    assert until(lambda: not children.read_text().split())
    with pytest.raises(rootless.RootlessError, match="closed"):
        box.run(["true"])


def test_a_workspace_with_a_colon_is_refused(tmp_path: Path) -> None:
    """A part of its path would otherwise be mounted, at a place that the rest names."""
    with pytest.raises(ValueError, match="colon"):
        rootless.Sandbox(workspace=tmp_path / "a:b")


@pytest.mark.filterwarnings("error")
def test_a_call_that_raises_keeps_nothing_open() -> None:
    import gc

    with rootless.Sandbox() as box:
        for keywords, error in (({"timeout": "1"}, TypeError), ({"cwd": "/nosuch"}, FileNotFoundError)):
            gc.collect()
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(error):
                box.run(["sleep", "1000"], **keywords)  # type: ignore[call-overload]
            gc.collect()
            assert len(os.listdir("/proc/self/fd")) == before
