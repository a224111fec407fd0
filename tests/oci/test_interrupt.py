"""A conversion that a signal ends, sent to it or to its child: nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import archives as a
from tests.support.checkout import LAUNCHER


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("whole_group", [True, False])
def test_interrupt_leaves_nothing(tmp_path: Path, signum: signal.Signals, whole_group: bool) -> None:
    """The archive comes through a pipe that stalls in the middle of a layer, when the signal is sent."""
    data = a.file("f", bytes(1 << 20)) + a.file("g", bytes(8 << 20)) + a.END
    command = [LAUNCHER, "import", "-", "-o", "b"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=-1, stdout=-1, stderr=-1, start_new_session=True) as process:
        assert process.stdin is not None
        process.stdin.write(data[: 5 << 20])
        process.stdin.flush()  # it was taken from the pipe: all but the last 64 kB went to the layer's reader
        partial = [name for name in os.listdir(tmp_path) if name.startswith(".b.")]
        (os.killpg if whole_group else os.kill)(process.pid, signum)
        process.wait()  # with its input still open: the end of it would be another reason to stop
        _, errors = process.communicate()
    assert partial, "it was not under way yet"
    assert process.returncode == 128 + signum
    assert b"interrupted" in errors and errors.count(b"\n") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_while_the_archive_comes_in(tmp_path: Path, signum: signal.Signals) -> None:
    """An image archive on standard input is copied first: its index comes behind its layers."""
    command = [LAUNCHER, "convert", "-", "-o", "b"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        process.stdin.write(a.file("layer.tar", bytes(4 << 20))[: 3 << 20])
        process.stdin.flush()
        process.send_signal(signum)
        process.wait()
        _, errors = process.communicate()
    assert process.returncode == 128 + signum
    assert errors == b"rootless: interrupted: nothing is left behind\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_killed_job_is_taken_back_by_its_parent(tmp_path: Path, signum: signal.Signals) -> None:
    """The child of whatever cause it dies, too little memory say: its parent cleans up."""
    command = [LAUNCHER, "import", "-", "-o", "b"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        process.stdin.write(a.file("f", bytes(1 << 20)) + a.file("g", bytes(4 << 20)))
        process.stdin.flush()
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signum)
        process.wait()
        _, errors = process.communicate()
    assert process.returncode == 128 + signum
    assert errors.endswith(b": nothing is left behind\n") and errors.count(b"\n") == 1
    assert os.listdir(tmp_path) == []
