"""Lock a container, and find out who holds the lock: flock(2) on its state directory.

Before a command asks for the lock, it notes its pid and start time in the directory, as the target text of a dangling
symbolic link, which takes one system call. So `delete --force` can kill a command that hangs while it holds the lock.
The kernel releases the lock only after LOCK_UN, or when all copies of the descriptor are closed.
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
from rootless.errors import NoSuchContainer, RootlessError, advice, printable
from rootless.kernel import proc
from rootless.startup import lean_os as os

_NOTE = ".lock."  # followed by the pid; the target text of the link is "PID START_TIME"
_PATIENCE = 2  # seconds that `delete --force` waits before it kills the holder
_LIMIT = 10  # seconds until `delete --force` gives up and names the holder
_ALRM, _KILL = 14, 9


class Lock:
    """Hold the lock of an open state directory, taken or not."""

    def __init__(self, fd: int, path: str, container_id: str) -> None:
        self.fd = fd
        self.path = path
        self.container_id = container_id
        self.note = ""

    def take(self, holder: tuple[int, int] | None = None) -> None:
        """Note the holder's (pid, start time), as proc.own_identity returns it, then wait for the lock.

        Raises NoSuchContainer if the directory was deleted meanwhile, and RootlessError.
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
        """Release the lock, then remove the note, so that a command that hangs in between can still be killed."""
        flock(self.fd, LOCK_UN)
        if self.note:
            try:
                os.unlink(self.note, dir_fd=self.fd)
            except OSError as error:  # a note that stays is harmless, because it names a process that has ended
                log.debug(f"lock: {self.note}: {error.strerror}")
            self.note = ""

    def take_by_force(self, init: tuple[int, int]) -> None:
        """Take the lock; kill the command that holds it if it does not release the lock in time.

        Only processes with a note are killed, by pid and start time, and the container's init, which holds the lock for
        a moment after the clone. init: its (pid, start time), (0, 0) for none. Raises RootlessError, which names the
        holder, if the lock cannot be had, and NoSuchContainer if the directory is gone by then.
        """
        try:
            self._write_note(proc.own_identity())
        except OSError as error:  # on a full disk the container must still be deletable
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
            except FileExistsError:  # left by a process that was killed and had the same pid
                os.unlink(note, dir_fd=self.fd)
                os.symlink(f"{pid} {start_time}", note, dir_fd=self.fd)
        except FileNotFoundError:
            raise NoSuchContainer(
                self.container_id
            ) from None  # the directory was removed while this process has it open
        self.note = note

    def _noted(self) -> list[tuple[int, int]]:
        """Return the (pid, start time) of every note but this command's own."""
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
                if error.errno != errno.EINVAL:  # EINVAL: not a symbolic link, so not a note
                    raise
        return noted

    def _is_emptied(self) -> bool:
        """Return whether the directory holds only notes of commands that have ended.

        Then the holder of the lock is a `delete` that has removed its own note and hangs before rmdir(2).
        """
        if not all(name.startswith(_NOTE) for name in os.listdir(self.fd)):
            return False
        return not any(proc.alive(pid, start_time) for pid, start_time in self._noted())

    def _end_holders(self, init: tuple[int, int]) -> None:
        """Kill the holder: of the noted processes the one that the kernel names (proc(5), locks), else all of them."""
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
                log.debug(f"lock: process {pid}: {error}")  # another user's process; the error names it in the end
            finally:
                os.close(pidfd)

    def _held(self) -> RootlessError:
        pids = _holders(self.fd) or [pid for pid, start_time in self._noted() if proc.alive(pid, start_time)]
        who = ", ".join(f"{pid} ({_command(pid)})" for pid in pids) or "that cannot be seen from here"
        return RootlessError(
            f"cannot delete the container: it is locked by process {who}",
            self.path,
            hint=advice("stuck-command"),
        )


class _Alarm(Exception):
    """Interrupt flock(2) when the time is over."""


def _raise_alarm(_signum: int, _frame: object) -> None:
    raise _Alarm


def _wait(fd: int, seconds: float) -> bool:
    """Take the lock; return False if the time is over first.

    The alarm is repeated, because one that comes right before the system call would not interrupt it.
    """
    try:
        flock(fd, LOCK_EX | LOCK_NB)
        return True
    except BlockingIOError:
        pass
    before = signal(_ALRM, _raise_alarm)
    pthread_sigmask(SIG_UNBLOCK, (_ALRM,))
    try:
        setitimer(ITIMER_REAL, seconds, 0.1)
        flock(fd, LOCK_EX)
        return True
    except _Alarm:
        return False
    finally:
        _silence(before)


def _silence(before: object) -> None:
    """Stop the timer, and ignore an alarm that comes meanwhile. before: the signal's handler to restore."""
    while True:
        try:
            setitimer(ITIMER_REAL, 0)
            signal(_ALRM, before)
            return
        except _Alarm:
            continue


def _holders(fd: int) -> list[int]:
    """Return the pids that hold this lock, [] if the kernel does not tell (/proc/locks, proc(5))."""
    status = os.fstat(fd)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    pids = []
    with open("/proc/locks", "rb", buffering=0) as file:
        for line in file.readall().decode().splitlines():
            # "1: FLOCK ADVISORY WRITE 1234 00:1a:5678 0 EOF"; a line "1: -> ..." is of a process that waits.
            fields = line.split()
            if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == place and int(fields[4]) > 0:
                pids.append(int(fields[4]))
    return pids


def _command(pid: int) -> str:
    """Return the command line of a process, its name if it has none, or why it cannot be read."""
    for name in ("cmdline", "comm"):
        try:
            with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
                text = (file.read(300) or b"").replace(b"\0", b" ").strip()
        except OSError as error:
            return f"its command cannot be read: {error.strerror}"
        if text:
            return printable(text)
    return "a process without a name"
