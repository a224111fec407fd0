"""The copy of the interpreter from which a command runs gets its seals although its pages are in use for a moment."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator

import pytest

from rootless.kernel import files

SEALED = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@pytest.fixture
def memfd() -> Iterator[int]:
    fd = os.memfd_create("copy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, b"interpreter")
    yield fd
    os.close(fd)


def test_a_copy_that_is_busy_at_first_is_sealed(memfd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writable mapping keeps the kernel from sealing, as pages do that it still holds; it ends at the first EBUSY."""
    memory = mmap.mmap(memfd, 11)
    answers = []

    def sleep_in(_seconds: float) -> None:
        answers.append(fcntl.fcntl(memfd, fcntl.F_GET_SEALS))
        memory.close()

    monkeypatch.setattr("time.sleep", sleep_in)
    files.seal(memfd)
    assert answers == [0]
    assert fcntl.fcntl(memfd, fcntl.F_GET_SEALS) == SEALED


def test_a_copy_that_stays_busy_is_an_error(memfd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_SEALING_MAX", 0.05)
    with mmap.mmap(memfd, 11), pytest.raises(OSError) as raised:
        files.seal(memfd)
    assert raised.value.errno == errno.EBUSY
    assert not fcntl.fcntl(memfd, fcntl.F_GET_SEALS)
