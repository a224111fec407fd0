"""async_run and async_popen, interrupted at any moment: no caller waits for ever, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

import rootless

PIPE = subprocess.PIPE


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("signal_it", ["kill", "terminate"])
def test_a_program_that_has_just_ended_may_get_a_signal(signal_it: str) -> None:
    """The signal's own look at the container sees the end before the event loop does."""

    async def main() -> int:
        process = await rootless.async_popen("true", stdout=PIPE)
        assert process._popen._answers
        process._popen._answers.wait(20)  # without a turn of the event loop
        getattr(process, signal_it)()
        return await asyncio.wait_for(process.wait(), 20)

    assert asyncio.run(main()) == 0


def test_a_timeout_that_comes_as_the_program_ends_is_no_hang(busybox_root: Path) -> None:
    async def main() -> None:
        for turn in range(40):
            call = rootless.async_run(["true"], rootfs=busybox_root, stdout=PIPE, timeout=turn / 20_000)
            try:
                await asyncio.wait_for(call, 20)
            except subprocess.TimeoutExpired:
                pass

    asyncio.run(main())


@pytest.mark.parametrize("pipes", [{}, {"stdout": PIPE}, {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}])
def test_a_start_that_is_cancelled_at_any_turn_leaves_nothing_open(busybox_root: Path, pipes: dict[str, int]) -> None:
    """After each turn of the event loop once: also between the program's start and the connection of its pipes."""

    async def start() -> None:
        process = await rootless.async_popen("sleep", "1000", rootfs=busybox_root, **pipes)
        process.kill()
        await process.wait()

    async def cancel_at(turn: int) -> bool:
        task = asyncio.create_task(start())
        for _ in range(turn):
            await asyncio.sleep(0.001)
            if task.done():
                break
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return True
        return False

    async def main() -> None:
        turn = 0
        while await cancel_at(turn):
            turn += 1

    rootless.run(["true"], rootfs=busybox_root)
    before = descriptors()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            asyncio.run(main())
        gc.collect()
    assert [str(each.message) for each in caught if each.category is ResourceWarning] == []
    assert descriptors() == before


def test_a_task_that_was_cancelled_has_left_its_rootfs(busybox_root: Path, tmp_path: Path) -> None:
    """The caller may remove it at once. A set-up that goes on would make mount points in it again."""

    async def cancel(root: Path, seconds: float) -> None:
        task: Any = asyncio.create_task(rootless.async_run(["sleep", "1000"], rootfs=root, tmpfs=["/made/below"]))
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for turn in range(40):
        root = tmp_path / str(turn)
        (root / "bin").mkdir(parents=True)
        os.link(busybox_root / "bin/busybox", root / "bin/sleep")
        asyncio.run(cancel(root, turn % 10 / 1000))
        shutil.rmtree(root)
        time.sleep(0.01)
        assert not root.exists()
