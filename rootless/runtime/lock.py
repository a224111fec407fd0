"""A container's lock, and who holds it: flock(2) on its state directory.

Each command notes its pid and start time in the directory before it asks for the lock (a symbolic link to nowhere, one
system call), so that `delete --force` can end a command that hangs with it. The kernel releases the lock only when
every copy of the descriptor is closed, or by LOCK_UN.
"""

from __future__ import annotations

import errno
from _signal import (  # type: ignore[import-not-found]
    ITIMER_REAL,
    SIG_UNBLOCK,
    pidfd_send_signal,
    pthread_sigmask,
    setitimer,
    signal,
)
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock

from rootless import log
from rootless.errors import NoSuchContainer, RootlessError, printable
from rootless.kernel import proc
from rootless.startup import lean_os as os

_NOTE = ".lock."  # and the pid: "PID START_TIME" is where the link leads
_PATIENCE = 2  # seconds for a command that works, before `delete --force` ends it
_LIMIT = 10  # seconds until `delete --force` names a holder that it may not end
_ALRM, _KILL = 14, 9


class Lock:
    """The lock of one open state directory, taken or not."""

    def __init__(self, fd: int, path: str, container_id: str) -> None:
        self.fd = fd
        self.path = path
        self.container_id = container_id
        self.note = ""

    def take(self, holder: tuple[int, int] | None = None) -> None:
        """Wait for the lock, after noting the holder's (pid, start time), as proc.own_identity gives it.

        Raises NoSuchContainer where the directory was deleted meanwhile, RootlessError.
        """
        try:
            if holder:
                self._write_note(holder)
            flock(self.fd, LOCK_EX)
            deleted = os.fstat(self.fd).st_nlink == 0
        except OSError as error:
            raise RootlessError.from_os(error, "cannot lock the state directory", self.path) from None
        if deleted:
            raise NoSuchContainer(self.container_id)

    def is_held_by_another(self) -> bool:
        """Return whether another command has it. Raises OSError."""
        if self.note:
            return False
        try:
            flock(self.fd, LOCK_SH | LOCK_NB)
            flock(self.fd, LOCK_UN)
        except BlockingIOError:
            return True
        return False

    def give_up(self) -> None:
        """Release it. The note goes last: without it nobody could end a command that stops in between."""
        flock(self.fd, LOCK_UN)
        if self.note:
            try:
                os.unlink(self.note, dir_fd=self.fd)
            except OSError as error:  # with its directory; else it stays until `delete`, and names a process that ended
                log.debug(f"lock: {self.note}: {error.strerror}")
            self.note = ""

    def take_by_force(self, init: tuple[int, int]) -> None:
        """Take the lock from a command that does not give it up: that one is killed.

        Only what has noted itself is ended, by its pid and start time, and the container's init, which has the lock
        for its first moments: (pid, start time), (0, 0) for none. Raises RootlessError, which names the holder,
        where the lock is not to be had; NoSuchContainer where the directory is gone by then.
        """
        try:
            self._write_note(proc.own_identity())
        except OSError as error:  # a full disk must not keep what fills it
            log.debug(f"lock: {error}")
        try:
            if not _wait(self.fd, _PATIENCE):
                self._end_holders(init)
                if not self._is_emptied() and not _wait(self.fd, _LIMIT - _PATIENCE):
                    raise self._held()
            deleted = os.fstat(self.fd).st_nlink == 0
        except OSError as error:
            raise RootlessError.from_os(error, "cannot lock the state directory", self.path) from None
        if deleted:
            raise NoSuchContainer(self.container_id)

    def _write_note(self, holder: tuple[int, int]) -> None:
        pid, start_time = holder
        note = f"{_NOTE}{pid}"
        try:
            try:
                os.symlink(f"{pid} {start_time}", note, dir_fd=self.fd)
            except FileExistsError:  # of a process that was killed and had the same pid
                os.unlink(note, dir_fd=self.fd)
                os.symlink(f"{pid} {start_time}", note, dir_fd=self.fd)
        except FileNotFoundError:
            raise NoSuchContainer(self.container_id) from None  # the directory is removed, and we still have it open
        self.note = note

    def _noted(self) -> list[tuple[int, int]]:
        """(pid, start time) of every command that has noted itself, but this one."""
        noted = []
        for name in os.listdir(self.fd):
            if not name.startswith(_NOTE) or name == self.note:
                continue
            try:
                pid, start_time = os.readlink(name, dir_fd=self.fd).split()
                noted.append((int(pid), int(start_time)))
            except (FileNotFoundError, ValueError):
                continue
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: it is not a link, so not a note
                    raise
        return noted

    def _is_emptied(self) -> bool:
        """Whether the directory holds nothing but notes of commands that have ended.

        Then whoever has the lock is a `delete` that has taken its own note away and stopped before rmdir(2).
        """
        if not all(name.startswith(_NOTE) for name in os.listdir(self.fd)):
            return False
        return not any(proc.alive(pid, start_time) for pid, start_time in self._noted())

    def _end_holders(self, init: tuple[int, int]) -> None:
        """Kill those that hold the lock; of several that are noted, the one that the kernel names (proc(5), locks)."""
        noted = self._noted()
        holding = set(_holders(self.fd))
        for pid, start_time in [*([each for each in noted if each[0] in holding] or noted), init]:
            if not pid:
                continue
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                if proc.alive(pid, start_time):
                    log.debug(f"lock: ending process {pid}, which holds it")
                    pidfd_send_signal(pidfd, _KILL)
            except ProcessLookupError:
                pass
            except PermissionError as error:
                log.debug(f"lock: process {pid}: {error}")  # another user's: it is named in the end
            finally:
                os.close(pidfd)

    def _held(self) -> RootlessError:
        pids = _holders(self.fd) or [pid for pid, start_time in self._noted() if proc.alive(pid, start_time)]
        who = ", ".join(f"{pid} ({_command(pid)})" for pid in pids) or "that cannot be seen from here"
        return RootlessError(
            f"cannot delete the container: it is locked by process {who}",
            self.path,
            hint="end that process, then delete it again",
        )


class _Rings(Exception):
    """The time is over."""


def _ring(_signum: int, _frame: object) -> None:
    raise _Rings


def _wait(fd: int, seconds: float) -> bool:
    """Take the lock; False where the time is over first. The alarm is repeated, because one that comes between the last
    line of Python and the system call would interrupt nothing."""
    try:
        flock(fd, LOCK_EX | LOCK_NB)
        return True
    except BlockingIOError:
        pass
    before = signal(_ALRM, _ring)
    pthread_sigmask(SIG_UNBLOCK, (_ALRM,))
    try:
        setitimer(ITIMER_REAL, seconds, 0.1)
        flock(fd, LOCK_EX)
        return True
    except _Rings:
        return False
    finally:
        _silence(before)


def _silence(before: object) -> None:
    """Stop the alarm; one that rings in here has nothing to say any more."""
    while True:
        try:
            setitimer(ITIMER_REAL, 0)
            signal(_ALRM, before)
            return
        except _Rings:
            continue


def _holders(fd: int) -> list[int]:
    """The pids that the kernel says have this lock: proc(5), /proc/locks. [] where it does not tell."""
    found = os.fstat(fd)
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    pids = []
    with open("/proc/locks", "rb", buffering=0) as file:
        for line in file.readall().decode().splitlines():
            fields = line.split()  # "1: FLOCK ADVISORY WRITE 1234 00:1a:5678 0 EOF"; "1: -> ..." waits for it
            if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == place and int(fields[4]) > 0:
                pids.append(int(fields[4]))
    return pids


def _command(pid: int) -> str:
    """The command line of a process, as far as it may be read; else its name."""
    for name in ("cmdline", "comm"):
        try:
            with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
                text = (file.read(300) or b"").replace(b"\0", b" ").strip()
        except OSError as error:
            return f"its command cannot be read: {error.strerror}"
        if text:
            return printable(text)
    return "a process without a name"
