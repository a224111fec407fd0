"""Reach the processes that the supervisor serves: their paths, their memory, and their identities.

The supervisor is in the container's user namespace and has no directory of the host open but a /proc that is attached
nowhere (load.py). Its root is the root of the process that it serves, and its working directory is /proc/PID of that
process, so a path that a program passed means to the supervisor what it means to the program, and cannot lead out of
the container.
"""

from __future__ import annotations

import os
import struct
from errno import EFAULT, EPERM
from fcntl import ioctl
from resource import prlimit
from typing import TYPE_CHECKING

from rootless.emulation.filter import RLIMIT_LOCKS
from rootless.emulation.identity import Identity, Refused
from rootless.emulation.records import Records
from rootless.emulation.results import Results
from rootless.kernel import syscalls as sc
from rootless.kernel.process_memory import Reader

if TYPE_CHECKING:
    from typing import Any

_ID_VALID = 0x40082102  # linux/seccomp.h: SECCOMP_IOCTL_NOTIF_ID_VALID
_INFINITE = 2**64 - 1
_MARK = 0x524F4F54 << 24  # a soft limit from here on is the number of an identity
_MOST_IDENTITIES = 1 << 20
_MOST_OPEN = 64


class Gone(Exception):
    """The process of a notification has ended."""


class Notification:
    """One system call that waits for its answer. name: as in numbers.py; args: six numbers of 64 bits.

    The supervisor uses one object for all, because a new one for each call costs a tenth of its time.
    """

    __slots__ = ("arch", "args", "name", "number", "tid")

    def __init__(self) -> None:
        self.number = self.tid = self.arch = 0
        self.name = ""
        self.args: tuple[int, ...] = ()


class Processes:
    """The processes of a container, as the supervisor reaches them.

    identities: those that processes have, the first one of them the kernel's own; a process's number is in its limit of
    locks (RLIMIT_LOCKS), which nothing uses since Linux 2.4.25. The kernel passes it on in fork(2) and execve(2), so no
    process can be missed. owner: whom the kernel shows as the owner of a file that root makes. here: the process whose
    /proc/PID is the working directory and whose root is the root; 0 if `enter` has to look.
    """

    __slots__ = (
        "_changes_roots",
        "_id",
        "_listener",
        "_numbers",
        "_open",
        "_proc_fd",
        "_raised",
        "_reader",
        "all_are_root",
        "here",
        "identities",
        "owner",
        "read_path",
        "records",
        "results",
        "shown",
    )  # fmt: skip

    def __init__(self, listener: int, proc_fd: int, native: Identity) -> None:
        self.records = Records()
        self.shown = self.records.shown
        self.results = Results()
        self.identities = [native]
        self.owner = native.uids[0], native.gids[0]
        self.all_are_root = native.is_root
        self.here = 0
        self._changes_roots = False
        self._id = bytearray(8)
        self._listener = listener
        self._proc_fd = proc_fd
        self._numbers = {native.key(): 0}
        self._raised: dict[int, tuple[bytes, int]] = {}
        self._reader = Reader()
        self.read_path = self._reader.read_string
        self._open: dict[int, int] = {}  # /proc/PID of processes that were served before

    # --- the process that is served

    def enter(self, call: Notification) -> None:
        """Make /proc/PID of the process the working directory, and its root the root. Raises Gone.

        It is not needed if the process is `here`.
        """
        for _ in range(2):
            fd = self._open.get(call.tid, -1)
            try:
                if fd < 0:
                    fd = self._open_process(call)
                os.fchdir(fd)
                os.chroot("root")
                self.here = 0 if self._changes_roots else call.tid
                return
            except (FileNotFoundError, ProcessLookupError):  # a process of that number has ended: proc(5)
                self.here = 0
                old = self._open.pop(call.tid, -1)
                if old < 0:
                    raise Gone from None
                os.close(old)
        raise Gone

    def lost(self, call: Notification) -> bool:
        """Return whether `here` was another process, whose number the caller has now; enter the caller then.

        Raises Gone. It is asked after ESRCH, which is what the kernel says below the directory of a dead process
        (linux/fs/proc/base.c, proc_pid_permission). So a call that succeeds costs nothing.
        """
        if self.here != call.tid or os.access(b"fd", os.F_OK):
            return False
        self.enter(call)
        return True

    def _open_process(self, call: Notification) -> int:
        if len(self._open) >= _MOST_OPEN:
            for fd in self._open.values():
                os.close(fd)
            self._open.clear()
        fd = os.open(str(call.tid), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._proc_fd)
        try:
            self.check(call)  # from now on the directory is this process's, also if its number is used again
        except Gone:
            os.close(fd)
            raise
        self._open[call.tid] = fd
        return fd

    def check(self, call: Notification) -> None:
        """Raise Gone if the process has ended since: then another one may have its number."""
        try:
            struct.pack_into("Q", self._id, 0, call.number)
            ioctl(self._listener, _ID_VALID, self._id)
        except OSError:
            raise Gone from None

    def read(self, call: Notification, address: int, size: int) -> bytes:
        """Return memory of the process, at most a page."""
        data = self._reader.read(call.tid, address, size)
        self.check(call)
        return data

    def write(self, call: Notification, address: int, data: Any) -> None:
        """Write into the process's memory. Its file is opened through /proc/PID, which can only be this process's.

        data: bytes, or a buffer.
        """
        if self.here != call.tid:
            self.enter(call)
        try:
            fd = os.open("mem", os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            self.enter(call)  # `here` was another process with this number; raises Gone if this one has ended, too
            fd = os.open("mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            self.check(call)
            os.pwrite(fd, data, address)
        except (OSError, OverflowError):  # proc_pid_mem(5): EIO for an address that is not mapped
            raise Refused(EFAULT) from None
        finally:
            os.close(fd)

    def roots_change(self) -> None:
        """Look up the root of a process for each call from now on."""
        self._changes_roots = True
        self.here = 0

    # --- identities

    def identity(self, call: Notification) -> Identity:
        """Return the identity of the process that calls."""
        if len(self.identities) == 1:
            return self.identities[0]
        number = prlimit(call.tid, RLIMIT_LOCKS)[0] - _MARK
        return self.identities[number if 0 < number < len(self.identities) else 0]

    def note_change(self, call: Notification) -> None:
        """Remember that root becomes another user in this program, which may have kept its capabilities."""
        if len(self._raised) >= _MOST_OPEN:
            self._raised.clear()
        self._raised[call.tid] = self._program(call), 0

    def note_raised(self, call: Notification, capabilities: int) -> None:
        """Remember the capabilities that a program raises again after that, until it calls execve(2)."""
        program, _ = self._raised.get(call.tid, (b"", 0))
        if program and program == self._program(call):
            self._raised[call.tid] = program, capabilities

    def may(self, call: Notification, identity: Identity, capability: int) -> bool:
        """Return whether a process is root, or has kept and raised a capability (PR_SET_KEEPCAPS), as setpriv(1)."""
        if identity.is_root or call.tid not in self._raised:
            return identity.is_root
        program, capabilities = self._raised[call.tid]
        return bool(capabilities >> capability & 1) and program == self._program(call)

    def _program(self, call: Notification) -> bytes:
        """Return what execve(2) changes: where the stack begins, which is random (proc_pid_stat(5), startstack)."""
        self.enter(call)
        with open("stat", "rb", buffering=0) as file:
            return file.read().rpartition(b") ")[2].split(b" ")[25]

    def become(self, call: Notification, identity: Identity) -> None:
        """Give the process another identity."""
        number = self._numbers.get(identity.key(), -1)
        if number < 0:
            if len(self.identities) >= _MOST_IDENTITIES:
                raise Refused(EPERM)
            number = self._numbers[identity.key()] = len(self.identities)
            self.identities.append(identity)
            self.all_are_root = False  # perhaps
        elif number == 0 and len(self.identities) == 1:
            return
        sc.prlimit(RLIMIT_LOCKS, (_MARK + number, _INFINITE), pid=call.tid)
