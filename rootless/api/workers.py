"""Set many containers up at once, each in a worker's own memory instead of in a copy of the launcher.

A worker (worker.py) does one container at a time. So there are as many workers as processors, and one more, because a
set-up waits for the kernel now and then. They exist only while calls come faster than the launcher can clone. One stays
for a while after calls that come one by one, because it is faster than a copy, too. This file is the launcher's side.
"""

from __future__ import annotations

import select
import time
from _socket import socket

from rootless.api import clones, wire
from rootless.api.running import Running
from rootless.api.worker import GIVEN_BACK
from rootless.api.worker import main as work
from rootless.kernel import channel, child
from rootless.kernel import syscalls as sc
from rootless.process import program
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.api.plans import Compiled, Plans
    from rootless.api.running import Own

_MOST = 5
_WAITING = 400  # descriptors of requests that the launcher holds for the next worker, unless it may open few
_NOFILE = 7  # RLIMIT_NOFILE (getrlimit(2))
_IDLE = 1.0  # seconds after which workers without work end, but for one
_STAYS = 10.0  # seconds after which that one ends
_CALLS = 2  # calls one by one after which there is one, if no more than _STAYS lies between them
_PAUSE = 10.0  # seconds until workers that could not be started are tried again
_PATIENCE = 0.5  # seconds after which a set-up counts as one that hangs, such as at a FUSE file system


class Request:
    """One call, until a worker has its container's process.

    fds: as clones.clone_container takes them, only the first one once a worker has its own of the others; killed:
    whether its caller waits for it no more.
    """

    __slots__ = ("compiled", "fds", "killed", "number", "settings", "words")

    def __init__(self, compiled: Compiled, number: int, settings: bytes, words: Any, fds: list[int]) -> None:
        self.compiled = compiled
        self.number = number
        self.settings = settings
        self.words = words
        self.fds = fds
        self.killed = False


class Worker:
    """A worker's process, the launcher's socket to it, the request that it works on, and since when (time.monotonic).

    request: None if it is free.
    """

    __slots__ = ("pid", "request", "since", "sock")

    def __init__(self, pid: int, sock: socket) -> None:
        self.pid = pid
        self.sock = sock
        self.request: Request | None = None
        self.since = 0.0


class Workers:
    """Give requests to workers, in the launcher."""

    def __init__(self, own: Own, plans: Plans) -> None:
        self.own = own
        self.plans = plans
        self.all: dict[int, Worker] = {}  # by the fd of its socket
        self.waiting: list[Request] = []
        self.given_back: list[Request] = []  # those that no worker takes
        self.gives = True  # not while the launcher finds out what a killed worker has left
        self.used = 0.0  # when the last one was started or became free, by time.monotonic
        self.missed: list[float] = []  # when the last _CALLS calls came for which there was no worker
        self.possible: bool | None = None  # whether this host lets workers be, None until that is known
        self.retry_at = 0.0  # none are started before, by time.monotonic, because the last ones could not be
        # A request that waits here is not on its way any more. As long as a socket is on its way, the kernel looks at
        # all of them whenever one is closed (net/unix/garbage.c).
        self._most = min(_MOST, len(os.sched_getaffinity(0)) + 1)  # one for each processor, and one
        self._most_waiting = min(_WAITING, sc.prlimit(_NOFILE)[0] // 8)

    def take(self, compiled: Compiled, number: int, settings: bytes, words: Any, fds: list[int]) -> bool:
        """Return whether a worker sets this call's container up. Then `fds` is empty, because the workers own them.

        Workers are started when another request waits already. A single one is used for plans that were used before,
        because it has to compile a new one again.
        """
        if not compiled.shares or clones.is_pid1(words) or not clones.restores_signals(words):
            return False
        if self.all and self._hang():
            return False
        is_known, compiled.used = compiled.used, True
        if len(self.all) < self._most and self._is_busy():
            self._start(self._most - len(self.all))
        if not self.all:
            self.note_missed()
        if not self.all or (len(self.all) == 1 and not is_known):
            return False
        request = Request(compiled, number, settings, words, fds[:])
        fds.clear()
        self.waiting.append(request)
        self._give()
        return True

    def note_missed(self) -> None:
        """Note a call for which there is no worker."""
        self.missed = [*self.missed, time.monotonic()][-_CALLS:]

    def prepare(self) -> None:
        """Start one worker, if calls come one by one. The launcher has nothing else to do."""
        expected = len(self.missed) == _CALLS and time.monotonic() - self.missed[0] < _STAYS * _CALLS
        if expected and not self.all and self.possible is not False and time.monotonic() >= self.retry_at:
            self.missed = []
            self._start(1)

    def _is_busy(self) -> bool:
        poller = select.poll()
        poller.register(self.own.requests, select.POLLIN)
        return self.possible is not False and time.monotonic() >= self.retry_at and bool(poller.poll(0))

    def _start(self, number: int) -> bool:
        """Start that many workers; return whether there are any."""
        from rootless.init import small_init
        from rootless.kernel import vfork

        if self.possible is None and not (small_init.is_known() and vfork.is_possible()):
            self.possible = False
            return False
        try:
            program_fd = small_init.open_program()
            try:
                # If a container's process could not execute it, its program would end without a word.
                if self.possible is None:
                    self.possible = small_init.is_executed(program_fd)
                if self.possible:
                    self._start_all(number, program_fd)
            finally:
                os.close(program_fd)
        except OSError:  # no memory, no process, or this host makes no memfds that are executed
            pass
        if not self.all:  # copies of the launcher will do
            self.retry_at = time.monotonic() + _PAUSE
        return bool(self.all)

    def _start_all(self, number: int, program_fd: int) -> None:
        """Start that many workers and greet them. Raises OSError; those that were started before it can work."""
        started: list[Worker] = []
        try:
            for _ in range(number):
                started.append(self._start_one(program_fd))
        finally:
            for worker in started:
                self._greet(worker)
            self.used = time.monotonic()

    def _start_one(self, program_fd: int) -> Worker:
        ours, theirs = channel.pair()

        def live() -> None:
            kept = [each.prepared.proc_fd for each in self.plans.kept.values() if not each.needs_runtime]
            program.close_all_but([theirs.fileno(), self.own.pidfd, program_fd, *kept])
            work(theirs, self.own.pidfd, self.plans, program_fd)

        try:
            pid, pidfd = child.clone(0, live)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        os.close(pidfd)
        started = self.all[ours.fileno()] = Worker(pid, ours)
        self.own.poller.register(ours.fileno(), select.EPOLLIN)
        return started

    def _greet(self, worker: Worker) -> None:
        """Wait until a worker can work. End it if it cannot, as where memory may not be executed."""
        try:
            wire.receive(worker.sock)
        except (EOFError, OSError):
            self._end(worker)

    def _give(self) -> None:
        """Give the waiting requests to the workers that are free."""
        for worker in list(self.all.values()):
            if not (self.waiting and self.gives):
                break
            if worker.request:
                continue
            request = self.waiting.pop(0)
            try:
                message = request.settings, request.words, request.compiled.signature
                wire.send(worker.sock, message, request.fds, patience=0)
            except OSError:  # it was killed; or ETOOMANYREFS, and only this process can receive what is too much
                self.given_back.append(request)
                continue
            worker.request = request
            worker.since = time.monotonic()
            for fd in request.fds[1:]:
                os.close(fd)
            del request.fds[1:]

    def _hang(self) -> bool:
        """Return whether every worker has been busy with one set-up for too long."""
        long_ago = time.monotonic() - _PATIENCE
        return all(worker.request and worker.since < long_ago for worker in self.all.values())

    def take_back(self) -> list[Request]:
        """Return the requests that no worker takes. The launcher has to make their containers itself."""
        if self.waiting and self._hang():
            self.given_back += self.waiting
            self.waiting = []
        taken, self.given_back = self.given_back, []
        return taken

    @property
    def are_full(self) -> bool:
        """Whether so much waits that the launcher should not read another request."""
        return sum(len(request.fds) for request in self.waiting) >= self._most_waiting

    def working(self) -> int:
        """Return the fd of a worker that sets a container up, -1 if none does."""
        return next((fd for fd, worker in self.all.items() if worker.request), -1)

    def go_on(self) -> None:
        """Give requests again."""
        self.gives = True
        self._give()

    def finish(self, fd: int) -> Running | None:
        """Take a worker's answer: return the container that it has made, None if there is none.

        Raises EOFError if the worker was killed, or has crashed, while it made one: its process may have begun.
        """
        worker = self.all[fd]
        try:
            (pid, goes_on, ended), pidfds = wire.receive(worker.sock)
        except wire.TooFewFiles as error:
            pid, goes_on, ended = error.message
            for each in error.fds:
                os.close(each)
            pidfds = self._open_pidfd(pid) if pid > 0 else []
        except (EOFError, OSError):
            self._end(worker)
            if not worker.request:
                return None
            os.close(worker.request.fds[0])  # the caller learns of it, and asks again if its program has not begun
            raise EOFError from None
        finally:
            self.used = time.monotonic()
        for each in ended:
            os.waitpid(each, 0)
        request, worker.request = worker.request, None
        assert request
        if not goes_on:
            self._end(worker)
        if self.waiting and not self.all:
            self._start(1)
        self._give()
        (end,) = request.fds
        if pid == GIVEN_BACK and pidfds:
            request.fds += pidfds[1:]
            os.close(pidfds[0])  # a second one of `end`
            self.given_back.append(request)
            return None
        if not pidfds:
            os.close(end)
            return None
        running = Running(request.number, pid, pidfds[0], end)
        running.compiled = request.compiled
        if request.killed:
            running.kill()
        return running

    def _open_pidfd(self, pid: int) -> list[int]:
        """Return [a pidfd] of a container, whose own could not be received; [] after ending it if there is none.

        The requests that wait hold descriptors, so they are refused one after the other.
        """
        while True:
            try:
                return [os.pidfd_open(pid)]
            except OSError:
                if not self.waiting:
                    break
                fds = self.waiting.pop().fds
                clones.refuse(wire.TooFewFiles(fds), fds)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        return []

    def setting_up(self, number: int) -> int:
        """Return the fd of the worker that sets a container up, -1 for none."""
        for fd, worker in self.all.items():
            if worker.request and worker.request.number == number:
                return fd
        return -1

    def has_answered(self, fd: int) -> bool:
        """Return whether `finish` need not wait. An event is stale if the answer was taken meanwhile."""
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return fd in self.all and bool(poller.poll(0))

    def kill(self, number: int) -> None:
        """End a call's container as soon as there is one."""
        for request in [*self.waiting, *(worker.request for worker in self.all.values())]:
            if request and request.number == number:
                request.killed = True

    def seconds_left(self) -> float | None:
        """Return the seconds until the workers have to be looked at, None for never."""
        if self.waiting:
            return _PATIENCE
        if not self.all or self.working() >= 0:
            return None
        return max(0.0, self.used + (_IDLE if len(self.all) > 1 else _STAYS) - time.monotonic())

    def end_idle(self) -> None:
        """End the workers if no call has come in time, the last one later."""
        if self.all and self.seconds_left() == 0.0:
            for worker in list(self.all.values())[1:] or list(self.all.values()):
                self._end(worker)

    def end_all(self) -> None:
        """End every worker, and wait until it is gone."""
        for worker in list(self.all.values()):
            self._end(worker)

    def _end(self, worker: Worker) -> None:
        del self.all[worker.sock.fileno()]
        self.own.poller.unregister(worker.sock.fileno())
        worker.sock.close()
        os.kill(worker.pid, 9)  # it may wait for a set-up that hangs; the container's process ends with the launcher
        os.waitpid(worker.pid, 0)
