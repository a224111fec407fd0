"""Run a worker: a copy of the launcher that sets containers up in its own memory (workers.py starts it).

It clones a container's process so that both share their memory until the process executes the small init
(kernel/vfork.py), and waits meanwhile. This takes half of the processor time of a fork. What sets the containers of one
plan up is recorded and repeated (kernel/recording.py). A container is the launcher's child (CLONE_PARENT), so the
launcher sees its end, and the container ends with the launcher.
"""

from __future__ import annotations

import sys
from _socket import socket

from rootless.api import clones, wire
from rootless.init import launched, reaper
from rootless.init.launched import Life
from rootless.kernel import channel, child, proc
from rootless.kernel import syscalls as sc
from rootless.process import program
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.api.plans import Compiled, Plans
    from rootless.kernel.recording import Recording
    from rootless.kernel.vfork import Vfork

GIVEN_BACK = -1  # in place of a container's process


def main(sock: socket, launcher: int, plans: Plans, program_fd: int) -> None:
    """Set containers up, one after the other, until the launcher closes the socket.

    launcher: a pidfd of it; program_fd: the small init. An answer to the launcher is (the container's process, 0 for
    none; whether this worker goes on; processes that have ended and made no container), with a pidfd of the first, or
    with all descriptors of a request that this worker gives back.
    """
    from rootless.init import small_init
    from rootless.kernel import vfork

    sc.name_process(b"rootless:worker")
    sc.prctl(sc.PR_SET_PDEATHSIG, 9)
    reaper.block_all()
    program.restore_handlers()  # the launcher ignores some signals, and execve(2) would pass that on
    reaper.hide_arguments(proc.own_arguments())  # what pid 1 has until it executes the small init
    work = _Work(plans, launcher, vfork.Vfork(program_fd, small_init.NAME))
    finders = sys.meta_path[:]
    pid, sent = 0, list[int]()
    while True:
        wire.send(sock, (pid, work.cloner.returned, work.ended), sent)
        work.ended.clear()
        for fd in sent:
            os.close(fd)
        pid, sent = 0, []
        if not work.cloner.returned:
            return
        try:
            (settings, words, signature), fds = wire.receive(sock)
        except EOFError:
            return
        except wire.TooFewFiles as error:
            clones.refuse(error, error.fds)
            continue
        pid, sent = work.serve(settings, signature, words, fds)
        sys.meta_path[:] = finders
        sc.prctl(sc.PR_SET_DUMPABLE, 1)


class _Work:
    """Hold what a worker keeps from one container to the next.

    cloner: clones the containers' processes; ended: those that the launcher has to wait for, because they are its
    children, although no container has come of them.
    """

    def __init__(self, plans: Plans, launcher: int, cloner: Vfork) -> None:
        self.cloner = cloner
        self.ended: list[int] = []
        self._plans = plans
        self._launcher = launcher
        self._code = _load_code()

    def serve(self, settings: bytes, signature: Any, words: Any, fds: list[int]) -> tuple[int, list[int]]:
        """Make the container of a request. Return (its pid, [its pidfd]), or (0, []) for none. Closes the fds.

        Return (GIVEN_BACK, fds) if config.json has changed since the launcher looked at it, because the container may
        need what is not done here, such as a filter.
        """
        verdict = socket(fileno=fds[1])
        try:
            compiled = self._plans.find(settings)
            if not compiled.shares or compiled.signature != signature:
                verdict.detach()
                return GIVEN_BACK, fds[:]
            call, recordings = clones.read_call(words, fds[2:]), self._recordings(compiled)
            life = Life(
                compiled.plan, compiled.prepared, verdict, fds[0], self._launcher, call, None,
                keeps_ids=True, spawns=True, small_init=self.cloner.program, recordings=recordings,
            )  # fmt: skip
            pid, pidfd = self._clone(life)
        except BaseException as error:
            channel.send_failure(verdict, error, "run", "")
            pid, pidfd = 0, -1
        verdict.close()
        for fd in [fds[0], *fds[2:]]:
            os.close(fd)
        return pid, [pidfd] if pid else []

    def _recordings(self, compiled: Compiled) -> tuple[Recording, Recording] | None:
        """Return the recordings of a plan, new ones for its first container; None on a host that cannot repeat any."""
        if self._code and not compiled.recordings:
            from rootless.kernel.recording import Recording

            # Neither holds the container's own streams, but a limit of open files is tried on descriptor 2.
            compiled.recordings = Recording(self._code, [compiled.prepared.proc_fd]), Recording(self._code, [2])
        return compiled.recordings

    def _clone(self, life: Life) -> tuple[int, int]:
        """Clone the container's process, as a copy of this one where the kernel does not let them share memory."""
        call = life.call
        assert call
        flags = life.plan.namespaces.new & ~(sc.CLONE_NEWCGROUP | sc.CLONE_NEWTIME) | sc.CLONE_PARENT
        while True:
            try:
                pid, pidfd = self.cloner.clone(flags, lambda: launched.start_program(life, call))
            except OSError:
                break
            if not life.differs:
                return pid, pidfd
            self.ended.append(pid)
            os.close(pidfd)
            life.differs = False
        life.small_init = -1
        life.recordings = None
        try:
            return child.clone(flags, lambda: launched.main(life))
        except OSError as error:
            from rootless.userns.hints import clone_error

            raise clone_error(error) from None


def _load_code() -> int:
    """Return the address of what repeats a recording, 0 if this host does not execute it."""
    from rootless.kernel import recording

    try:
        return recording.load_code()
    except OSError:
        return 0
