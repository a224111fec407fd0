"""Freeze and thaw a cgroup, and wait for its cgroup.events (admin-guide/cgroup-v2.rst, cgroup.freeze)."""

from __future__ import annotations

import errno
import time

from rootless.cgroup.tree import retry_as_range_root
from rootless.errors import RootlessError, advice
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Cgroup(Protocol):
        """The part of a cgroup's driver that the freezer needs (cgroup/driver.py)."""

        @property
        def path(self) -> str: ...
        def directory_fd(self) -> int: ...
        def read(self, file: str) -> str: ...
        def write(self, file: str, value: str) -> None: ...


PATIENCE = 10  # seconds for the kernel to freeze, thaw or end processes; after that, one hangs in the kernel


def freeze(group: Cgroup) -> None:
    """Stop all processes, and return when all have stopped. Raises RootlessError, after letting all continue."""
    _switch(group, "1")


def thaw(group: Cgroup) -> None:
    """Let the processes continue. Raises RootlessError."""
    _switch(group, "0")


def is_frozen(group: Cgroup) -> bool:
    """Return whether the container is paused."""
    return bool(group.path) and group.read("cgroup.freeze") == "1"


def wait_until_empty(group: Cgroup, seconds: float = PATIENCE) -> bool:
    """Wait until no process is left; zombies do not count. Return False when the time is over."""
    return not group.path or wait_for_event(group, "populated", 0, seconds)


def _switch(group: Cgroup, value: str) -> None:
    verb = "pause" if value == "1" else "resume"
    if not group.path:
        raise RootlessError(f"{verb}: the container has no cgroup", hint=advice("made-without-cgroup"))
    try:
        group.write("cgroup.freeze", value)
        if wait_for_event(group, "frozen", int(value), PATIENCE):
            return
        if value == "1":
            group.write("cgroup.freeze", "0")
    except BaseException as error:
        if value == "1":
            _undo(group)
        if not isinstance(error, OSError):
            raise
        raise RootlessError.from_os(error, f"cannot {verb} the container", f"{group.path}/cgroup.freeze") from None
    raise RootlessError(f"{verb}: a process did not follow within {PATIENCE} seconds", group.path)


def _undo(group: Cgroup) -> None:
    """Let the processes continue after a failure, which is the error to report if this fails as well."""
    try:
        group.write("cgroup.freeze", "0")
    except OSError:
        return


def wait_for_event(group: Cgroup, key: str, value: int, seconds: float) -> bool:
    """Wait until a key of cgroup.events has a value; the kernel signals changes by POLLPRI.

    Return False when `seconds` are over. A cgroup that is gone counts as having the value. Raises OSError.
    """
    import select

    end = time.monotonic() + seconds
    try:
        events = _open_events(group.directory_fd())
    except FileNotFoundError:
        return True
    try:
        poller = select.poll()
        poller.register(events, select.POLLPRI)
        while True:
            text = os.pread(events, 4096, 0).decode()
            if f"{key} {value}" in text.splitlines():
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            poller.poll(left * 1000)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return True
        raise
    finally:
        os.close(events)


def _open_events(directory: int) -> int:
    try:
        return os.open("cgroup.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except PermissionError:
        retry_as_range_root(lambda: _make_readable(directory, "cgroup.events"))
        return os.open("cgroup.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)


def _make_readable(directory: int, file: str) -> str:
    os.chmod(f"/proc/self/fd/{directory}", 0o755)
    os.chmod(file, 0o444, dir_fd=directory)
    return ""
