"""Set up the first container of a launcher in the launcher's own memory, as a worker does (worker.py).

The first caller waits for the launcher's start, too. A copy of the launcher would take two milliseconds more, because
the kernel copies its page tables, and then each page that one of the two writes to.

The launcher can do nothing else meanwhile: not even take descriptors of other requests from its socket, of which a user
may have only so many on the way (unix(7), ETOOMANYREFS). So this is for a container that a process with one thread has
announced, and only if its files are on file systems that need no other process and no network, because those may hang.
Nobody could interrupt the call then, and the next one would wait, too.
"""

from __future__ import annotations

import sys
from _signal import SIG_DFL, SIG_IGN, SIG_SETMASK, SIGKILL, pthread_sigmask, signal  # type: ignore[import-not-found]

from rootless.api import clones, wire
from rootless.api.running import Running
from rootless.init import launched, reaper, small_init
from rootless.init.launched import Life
from rootless.kernel import mountinfo, vfork
from rootless.kernel import syscalls as sc
from rootless.startup import lean_os as os
from rootless.steps.binds import BindMount
from rootless.steps.root import AttachRootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from rootless.api.plans import Compiled
    from rootless.api.running import Own

NAME = b"rootless:launcher"
# File systems of this machine's disks and memory, and the kernel's own.
_LOCAL = frozenset((
    b"ext2", b"ext3", b"ext4", b"xfs", b"btrfs", b"tmpfs", b"overlay", b"squashfs", b"erofs", b"f2fs", b"zfs",
    b"bcachefs", b"rootfs", b"ramfs", b"vfat", b"iso9660", b"proc", b"sysfs", b"devtmpfs", b"devpts", b"cgroup",
    b"cgroup2", b"mqueue", b"hugetlbfs", b"securityfs", b"debugfs", b"tracefs", b"bpf", b"pstore", b"configfs",
    b"efivarfs", b"binfmt_misc", b"fusectl", b"nsfs", b"selinuxfs", b"rpc_pipefs",
))  # fmt: skip


class FirstContainer:
    """Hold what is prepared for an announced container: its plan, and what clones its process."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        program_fd = small_init.open_program()
        before = reaper.block_all()  # the container's process begins with this mask
        try:
            self._cloner = vfork.Vfork(program_fd, small_init.NAME)
        finally:
            pthread_sigmask(SIG_SETMASK, before)

    def clone(
        self, number: int, verdict: socket, fds: list[int], words: Any, own: Own, ignored: tuple[int, ...]
    ) -> Running | None:
        """Clone the container; return None if the kernel does not let its process share memory.

        fds, words: as clones.clone_container takes them; ignored: the signals that this process ignores, and the
        container's must not.
        """
        compiled, call = self.compiled, clones.read_call(words, fds[2:])
        life = Life(
            compiled.plan, compiled.prepared, verdict, fds[0], own.pidfd, call, None,
            keeps_ids=True, spawns=True, small_init=self._cloner.program,
        )  # fmt: skip
        end = os.dup(fds[0])
        try:
            pid, pidfd = self._clone(life, own, end, ignored)
        except OSError:
            os.close(end)
            return None
        return Running(number, pid, pidfd, end)

    def _clone(self, life: Life, own: Own, end: int, ignored: tuple[int, ...]) -> tuple[int, int]:
        """Clone the process, and restore what it changes in the memory of this one.

        If it is killed, this process ends at once, because Python's records are as they were then: a function that has
        to be loaded (startup/codecache.py) would take the globals of another one. The caller asks another launcher,
        but if the program may have begun, `end` tells of its end, because it must not run twice.
        """
        call, finders = life.call, sys.meta_path[:]
        assert call
        flags = life.plan.namespaces.new & ~(sc.CLONE_NEWCGROUP | sc.CLONE_NEWTIME)
        killed = wire.pack_end(SIGKILL, 0)
        before = reaper.block_all()
        try:
            for signum in ignored:
                signal(signum, SIG_DFL)
            reaper.hide_arguments(life.prepared.arguments)  # what pid 1 has until it executes the small init
            return self._cloner.clone(flags, lambda: launched.start_program(life, call))
        finally:
            if not self._cloner.returned:
                try:
                    if life.begun:
                        os.write(end, killed)
                    own.requests.close()  # first, so that a caller who learns of the end asks another launcher
                finally:
                    os._exit(1)
            reaper.hide_arguments(life.prepared.arguments, NAME)
            sys.meta_path[:] = finders
            sc.prctl(sc.PR_SET_DUMPABLE, 1)
            for signum in ignored:
                signal(signum, SIG_IGN)  # one that has come meanwhile is discarded
            pthread_sigmask(SIG_SETMASK, before)

    def close(self) -> None:
        """Close what was opened."""
        os.close(self._cloner.program)


def prepare(compiled: Compiled) -> FirstContainer | None:
    """Prepare what clones a container of this plan; return None if it cannot share memory. Raises OSError."""
    if compiled.shares and small_init.is_known() and vfork.is_possible() and _is_local(compiled):
        return FirstContainer(compiled)
    return None


def _is_local(compiled: Compiled) -> bool:
    """Return whether all that the plan takes from the host is on local file systems, also what is mounted below it.

    Raises OSError.
    """
    mounts = mountinfo.read(compiled.prepared.proc_fd)
    others = [mount for mount in mounts if mount.fstype not in _LOCAL]
    if not others:
        return True
    for step in compiled.plan.prepare:
        path = step.path if isinstance(step, AttachRootfs) else step.source if isinstance(step, BindMount) else ""
        if path:
            place = _slashed(os.fsencode(os.path.realpath(path)))
            # Of several mounts at one place the last one covers the others.
            under = [mount for mount in mounts if place.startswith(_slashed(mount.path))]
            longest = max(len(mount.path) for mount in under)
            below = [mount for mount in others if _slashed(mount.path).startswith(place)]
            if below or [mount for mount in under if len(mount.path) == longest][-1] in others:
                return False
    return True


def _slashed(path: bytes) -> bytes:
    return path.rstrip(b"/") + b"/"
