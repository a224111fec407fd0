"""A copy of the runtime's process ends with its `life` function, and never runs its parent's code."""

from __future__ import annotations

import os
import signal

import pytest

from rootless.kernel import child
from rootless.kernel.signals import Interrupted, end_on_signals
from tests.support.children import succeeds


def test_what_is_raised_in_the_copy_stays_there() -> None:
    def fails() -> None:
        raise MemoryError

    unwound = False
    try:
        pid, pidfd = child.clone(0, fails)
    except MemoryError:
        unwound = True
        os._exit(0)
    os.close(pidfd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert not unwound


def test_a_life_that_comes_to_its_end() -> None:
    pid, pidfd = child.clone(0, lambda: None)
    os.close(pidfd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_a_failed_clone_is_the_callers() -> None:
    with pytest.raises(OSError):
        child.clone(0x10000, lambda: None)  # CLONE_THREAD without CLONE_VM: EINVAL


def test_a_signal_between_the_two_ends_the_child(monkeypatch) -> None:
    """The signal comes when the child exists and the caller does not know its pid yet."""

    def body() -> None:
        end_on_signals()
        real, pids = child.sc.clone3, []

        def clone3(*args, **kwargs):
            found = real(*args, **kwargs)
            if found[0]:
                pids.append(found[0])
                os.kill(os.getpid(), signal.SIGTERM)
            return found

        monkeypatch.setattr(child.sc, "clone3", clone3)
        with pytest.raises(Interrupted):
            child.clone(0, signal.pause)
        with pytest.raises(ChildProcessError):
            os.waitpid(pids[0], 0)

    succeeds(body)
