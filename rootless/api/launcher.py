"""Run the launcher: one small process for each Python process, which clones its containers and reports their ends.

It is executed afresh, so it has one thread and a small heap whatever the Python process has. It keeps compiled plans
(api/plans.py) and, of a container that runs, its pidfd and the socket that waits for its end; of one that has ended,
nothing. It ends with the Python process, whose pidfd it polls, and every container without a name ends with it.
"""

from __future__ import annotations

import gc
import select
from _signal import SIG_IGN, SIG_SETMASK, pthread_sigmask, signal  # type: ignore[import-not-found]
from _socket import AF_UNIX, SOCK_SEQPACKET, socket

from rootless.api import wire
from rootless.api.running import Own, Running
from rootless.errors import RootlessError
from rootless.startup import codecache
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.api.first_container import FirstContainer
    from rootless.api.plans import Compiled, Plans
    from rootless.api.spares import Spares
    from rootless.api.workers import Request, Workers
    from rootless.cgroup.driver import Cgroup

_IGNORED = (1, 2, 3, 13, 15, 25)  # by the launcher; SIGPIPE and SIGXFSZ are those that CPython ignores


class Launcher:
    """Wait for requests, for the ends of containers, and for the end of the Python process.

    executes_memory: whether this host is known to execute files in memory, as the small init of the first container is.
    """

    def __init__(self, requests: socket, parent: int, plans: Plans, *, executes_memory: bool) -> None:
        self.requests = requests
        self.parent = parent
        self.plans = plans
        self.executes_memory = executes_memory
        self.running: dict[int, Running] = {}  # by pidfd
        self.numbers: dict[int, Running] = {}
        self.poller = select.epoll()
        self.reserved: list[int] = []
        self._reserve()
        self.own = Own(os.pidfd_open(os.getpid()), requests, self.poller)
        self.spares: Spares
        self.workers: Workers
        self.is_loaded = False  # whether there are these two
        self.first: FirstContainer | None = None
        self.is_reading = True
        self.closed = False
        # By the first word of a request. A function gets what follows, and the fds: the end's socket, the verdict's,
        # 0, 1, 2, then those of pass_fds.
        self.operations: dict[str, Callable[..., None]] = {
            "run": self._run, "ping": self._ping, "kill": self._kill, "control": self._control,
        }  # fmt: skip
        for fd in (requests.fileno(), parent):
            self.poller.register(fd, select.EPOLLIN)

    def serve(self) -> None:
        """Serve requests until the Python process has ended, or has closed its socket and no container is left."""
        self._serve_announced()
        self._load()
        while not (self.closed and self._is_idle()):
            ready = self.poller.poll(0)
            if not ready:
                if self.workers.working() < 0 and (spare := self.spares.refill()):
                    self._watch(spare)
                    continue
                self.workers.prepare()
                ready = self.poller.poll(self._seconds_left())
                self.spares.end_old()
                self.workers.end_idle()
            for fd, _ in ready:
                if fd == self.parent:
                    self.end_all()
                    return
                if fd == self.requests.fileno():
                    self._take_request()
                elif fd in self.running:
                    self._tell_end(self.running[fd])
                elif self.workers.has_answered(fd) and not self._finish(fd):
                    self._end_unknown()
            for request in self.workers.take_back():
                self._serve(request.fds, self._run_here, request)
            self._read(not self.workers.are_full)
        self.end_all()

    def _serve_announced(self) -> None:
        """Serve the first call if it was announced (api/first.py), before the code that only others need is loaded."""
        if self._is_asked(0):
            self._take_request()
        if self.first and self._is_asked(None):
            self._take_request()

    def _is_asked(self, timeout: float | None) -> bool:
        """Wait for an event; return whether there is a request."""
        return any(fd == self.requests.fileno() for fd, _ in self.poller.poll(timeout))

    def _load(self) -> None:
        """Make what serves calls that were not announced."""
        if self.is_loaded:
            return
        from rootless.api.spares import Spares, may_wait
        from rootless.api.workers import Workers

        self.spares = Spares(self.own)
        self.workers = Workers(self.own, self.plans)
        self.is_loaded = True
        for running in self.running.values():
            if running.compiled and may_wait(running.compiled):
                self.spares.count(running.compiled)
                self.workers.note_missed()

    def _is_idle(self) -> bool:
        """Return whether nothing runs that ends with this process."""
        is_making = self.workers.waiting or self.workers.working() >= 0
        return not is_making and all(each.named for each in self.running.values())

    def _seconds_left(self) -> float | None:
        times = [each for each in (self.spares.seconds_left(), self.workers.seconds_left()) if each is not None]
        return min(times, default=None)

    def _read(self, reads: bool) -> None:
        """Read further requests or leave them in the socket, where their callers wait."""
        if reads != self.is_reading:
            self.is_reading = reads
            if not self.closed:
                self.poller.modify(self.requests.fileno(), select.EPOLLIN if reads else 0)

    def _take_request(self) -> None:
        from rootless.api import clones

        for fd in self.reserved:
            os.close(fd)
        try:
            (operation, number, *arguments), fds = wire.receive(self.requests)
        except EOFError:  # the Python process has closed it, or executed another program
            self.poller.unregister(self.requests.fileno())
            self.closed = True
            return
        except wire.TooFewFiles as error:
            clones.refuse(error, error.fds)
            return
        finally:
            self._reserve()
        if operation == "expect":
            self._expect(*arguments)
            return
        self._serve(fds, self.operations[operation], number, *arguments)

    @staticmethod
    def _serve(fds: list[int], operation: Callable[..., None], first: Any, *arguments: Any) -> None:
        """Serve one request, tell its caller what fails, and close its fds that the operation has not kept."""
        from rootless.kernel import channel

        verdict = socket(fileno=fds[1])
        try:
            operation(first, verdict, fds, *arguments)
        except BaseException as error:
            channel.send_failure(verdict, error, operation.__name__.strip("_"), "")
        finally:
            verdict.close()
            for fd in fds[:1] + fds[2:]:
                os.close(fd)

    def _reserve(self) -> None:
        """Keep two descriptors for those of the next request that take its answer, as far as there are any.

        Otherwise there may be none left for the pidfd of a container that a worker has made.
        """
        self.reserved = []
        try:
            for _ in range(2):
                self.reserved.append(os.dup(self.parent))
        except OSError:
            pass

    # --- the operations

    def _expect(self, settings: bytes) -> None:
        """Prepare for the first call, which has been announced. The call itself tells what fails here."""
        from rootless.api import first_container

        try:
            compiled = self.plans.find(settings)
            if self.executes_memory and not self.numbers:
                self.first = first_container.prepare(compiled)
        except Exception:
            pass

    def _run(self, number: int, verdict: socket, fds: list[int], settings: bytes, words: Any) -> None:
        """Clone a container; its call is there already, or comes later (a warm one: words is None)."""
        from rootless.api import clones

        compiled = self.plans.find(settings)
        if running := self._run_first(compiled, number, verdict, fds, words):
            running.compiled = compiled
            self._watch(running)
            return
        self._load()
        if compiled.needs_runtime:
            running = clones.clone_runtime(compiled, number, verdict, fds, words, self.own)
        elif words is not None and (spare := self.spares.take(compiled, number, fds, words)):
            self.numbers[number] = spare
            return
        elif words is not None and self.workers.take(compiled, number, settings, words, fds):
            verdict.detach()
            return
        else:
            running = clones.clone_container(compiled, number, verdict, fds, words, self.own)
        running.compiled = compiled
        self._watch(running)

    def _run_first(
        self, compiled: Compiled, number: int, verdict: socket, fds: list[int], words: Any
    ) -> Running | None:
        """Make the container of the announced call; return None for another call, or if it takes a copy."""
        from rootless.api import clones

        first, self.first = self.first, None
        if not first:
            return None
        try:
            is_own = first.compiled is compiled and words is not None and not self.numbers
            if is_own and clones.restores_signals(words) and not clones.is_pid1(words):
                compiled.used = True
                return first.clone(number, verdict, fds, words, self.own, _IGNORED)
            return None
        finally:
            first.close()

    def _run_here(self, request: Request, verdict: socket, fds: list[int]) -> None:
        """Clone the container of a request that the workers have given back.

        Its plan may be out of use by now, because config.json has changed.
        """
        if request.killed:
            return
        from rootless.api import clones

        compiled = self.plans.find(request.settings)
        clone = clones.clone_runtime if compiled.needs_runtime else clones.clone_container
        running = clone(compiled, request.number, verdict, fds, request.words, self.own)
        running.compiled = compiled
        self._watch(running)

    def _ping(self, number: int, verdict: socket, fds: list[int]) -> None:
        """Answer that this is the launcher. The kernel adds its pid to the message (unix(7), SCM_CREDENTIALS)."""
        from rootless.kernel import channel

        channel.send(verdict, channel.EXECUTING)

    def _kill(self, number: int, verdict: socket, fds: list[int], target: int) -> None:
        """Kill a container whose caller does not wait for it any more."""
        running = self.numbers.get(target)
        if running:
            running.kill()
        else:
            self._load()
            self.workers.kill(target)

    def _control(self, number: int, verdict: socket, fds: list[int], target: int, action: str, words: Any) -> None:
        """Clone a copy of this process that does something to a container that runs, because that may take long."""
        from rootless.api import controls

        self._load()
        # Its program may run, as its caller knows from itself, before the worker has said so.
        if (fd := self.workers.setting_up(target)) >= 0 and not self._finish(fd):
            self._end_unknown()
        container = self.numbers.get(target)
        if not container:
            raise RootlessError("the container has ended: container not running")
        self._watch(controls.clone_control(container, number, verdict, fds, action, words, self.own))

    # --- ends

    def _finish(self, fd: int) -> bool:
        """Watch the container that a worker has made. Return False if the worker was killed while it made one."""
        for reserved in self.reserved:
            os.close(reserved)
        try:
            if running := self.workers.finish(fd):
                self._watch(running)
            return True
        except EOFError:
            return False
        finally:
            self._reserve()

    def _end_unknown(self) -> None:
        """End the container that a killed worker has begun, if it has: a child of this process that nobody knows."""
        self.workers.gives = False
        while (busy := self.workers.working()) >= 0:
            self._finish(busy)  # so that what the other workers have begun is known
        known = {each.pid for each in self.running.values()} | {each.pid for each in self.workers.all.values()}
        pid = os.getpid()
        for reserved in self.reserved:
            os.close(reserved)
        try:
            with open(f"/proc/{pid}/task/{pid}/children") as file:
                children = [int(word) for word in file.read().split()]
        except OSError:  # a kernel without CONFIG_PROC_CHILDREN: what is unknown ends with this process
            self.requests.close()  # first, so that a caller who learns of the end asks another launcher
            os._exit(1)
        finally:
            self._reserve()
        for child in children:
            if child not in known:
                os.kill(child, 9)
                os.waitpid(child, 0)
        self.workers.go_on()

    def _watch(self, running: Running) -> None:
        self.running[running.pidfd] = running
        if running.number > 0:
            self.numbers[running.number] = running
        self.poller.register(running.pidfd, select.EPOLLIN)

    def _tell_end(self, running: Running) -> None:
        """Reap a container that has ended, remove its cgroup, and send the caller its wait status and OOM kills."""
        _, status = os.waitpid(running.pid, 0)
        self._forget(running)
        kills = 0
        if running.group:
            kills = self._remove_cgroup(running.group)
        try:
            socket(fileno=running.end).send(wire.pack_end(status, kills))
        except OSError:
            pass  # nobody waits for it any more
        if running.asked >= 0:  # if the spare has ended before the program began, its caller still waits there
            os.close(running.asked)

    def _forget(self, running: Running) -> None:
        self.poller.unregister(running.pidfd)
        os.close(running.pidfd)
        del self.running[running.pidfd]
        self.numbers.pop(running.number, None)
        if running.number < 0:
            self.spares.forget(running)

    def _remove_cgroup(self, group: Cgroup) -> int:
        from rootless import log

        try:
            kills = group.oom_kills()
            group.remove()
            return kills
        except (OSError, RootlessError) as error:
            log.debug(f"cgroup: {error}")
            return 0

    def end_all(self) -> None:
        """Kill every container without a name, and wait until nothing of them is left."""
        self.workers.end_all()
        for running in list(self.running.values()):
            if not running.named:
                running.kill()
        for running in list(self.running.values()):
            if not running.named:
                self._tell_end(running)


def main(requests_fd: str, parent_fd: str, relation: str) -> None:
    """Run the launcher until the Python process has ended.

    requests_fd: the socket of the Python process; parent_fd: its pidfd; relation: "child" if this process is its child,
    else "adopted" (api/spawn.py).
    """
    requests, parent = int(requests_fd), int(parent_fd)
    os.umask(os.umask(0o077) & 0o077)  # one that takes permissions from the owner would close state directories to us
    from rootless.kernel.host import Host
    from rootless.process.program import close_all_but, restore_handlers
    from rootless.runtime.interpreter import protect
    from rootless.userns.idmap import default_maps

    try:
        protect(*default_maps(Host()))  # from here on the interpreter's file is safe from the containers
    except RootlessError as error:
        _refuse(socket(AF_UNIX, SOCK_SEQPACKET, 0, requests), error)
        os._exit(1)
    close_all_but([requests, parent])  # what the caller has made inheritable
    for fd in (requests, parent):
        os.set_inheritable(fd, False)
    from oci import config
    from rootless.api import clones, first_container
    from rootless.api.plans import Plans
    from rootless.kernel import cgroup_view
    from rootless.plan import network
    from rootless.steps import network as network_steps

    # What a clone needs is loaded: after its root has changed nothing may be imported any more. And what most plans
    # need is in the stored code with it.
    assert clones and first_container and config and cgroup_view and network and network_steps
    # wait(2) of the user's program must not return the launcher, so init adopts it.
    if relation == "child" and os.fork():
        os._exit(0)
    if codecache.is_missing() and os.fork():
        _store_code()
        os._exit(0)
    os.setsid()
    os.chdir("/")
    # Both come from the caller by execve(2). With SIGCHLD ignored the kernel would reap the containers itself.
    restore_handlers()
    for signum in _IGNORED:
        signal(signum, SIG_IGN)
    pthread_sigmask(SIG_SETMASK, [])
    sock = socket(AF_UNIX, SOCK_SEQPACKET, 0, requests)
    gc.freeze()
    launcher = Launcher(sock, parent, Plans(Host()), executes_memory=relation == "adopted")  # by a starter in memory
    launcher.serve()
    os._exit(0)


def _refuse(requests: socket, error: RootlessError) -> None:
    """Answer the first request with the error that keeps this launcher from serving. The next one gets a launcher."""
    from rootless.api import clones

    while True:
        try:
            _, fds = wire.receive(requests)
        except wire.TooFewFiles as too_few:
            fds = too_few.fds
        except EOFError:
            return
        if fds:  # an announcement has none
            clones.refuse(error, fds)
            return


def _store_code() -> None:
    """Write the cache of the launcher's byte code if it was missing or out of date."""
    try:
        os.nice(10)  # the caller's container is being set up meanwhile
        codecache.note()
        if noted := codecache.noted():
            from rootless.startup.making import save

            save(*noted)
    except Exception:  # only the next launcher would need it
        pass
