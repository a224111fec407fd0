"""tests/clients/view reports as a failure what a client's script leaves running, unless it is about to end."""

from __future__ import annotations

import os
import select
import subprocess

import pytest

from tests.clients.test_checks import VIEW

pytestmark = [
    pytest.mark.client,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes the view"),
]


def view(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in the view, as root."""
    command = [str(VIEW), "root", "sh", "-c", script]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=100)


def test_what_ends_a_moment_later_is_not_left() -> None:
    assert (view("sleep 1 >/dev/null 2>&1 &").returncode, view("exit 3").returncode) == (0, 3)


def test_what_runs_on_is_named_and_killed() -> None:
    done = view("sleep 1234 >/dev/null 2>&1 & echo $!")
    assert done.returncode == 1
    assert "left running: sleep 1234" in done.stderr
    try:
        process = os.pidfd_open(int(done.stdout))
    except ProcessLookupError:
        return
    ended, _, _ = select.select([process], [], [], 20)  # the kernel kills it a moment later
    os.close(process)
    assert ended
