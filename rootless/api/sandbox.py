"""`Sandbox`: one throw-away container for each call, some of them set up beforehand, and a verdict on each end.

A warm container is an ordinary one whose program's process waits for its call: what is left of a call is an execve.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
import time
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from rootless.api import arguments, client, settings
from rootless.api.program_errors import translate
from rootless.errors import LauncherError, RootlessError
from rootless.kernel.waiting import milliseconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from typing import Any, Generic, Literal, TypeVar, Unpack, overload

    from rootless.api.keywords import CallKeywords, Command, SandboxKeywords

    Output = TypeVar("Output", bytes, str, Any)
else:
    from rootless.api.generics import Generic, Output

_PIECE = 65536
_THREADS = 1000  # calls of async_run at once; more wait for each other
_LIMIT = 16 << 20  # bytes of output that one call may have, unless output_limit= says otherwise


class SandboxResult(Generic[Output]):
    """Hold the result of one call.

    stopped_by: who ended it: None for the program itself, else "timeout", "memory", "output" or "signal"; seconds: how
    long it took; stdout, stderr: bytes, str with text=True; what is beyond the limit of output is left out.
    """

    __slots__ = ("args", "returncode", "seconds", "stderr", "stdout", "stopped_by")

    def __init__(
        self, args: Any, returncode: int, stdout: Output, stderr: Output, stopped_by: str | None, seconds: float
    ) -> None:
        self.args = args
        self.returncode = returncode
        self.stdout: Output = stdout
        self.stderr: Output = stderr
        self.stopped_by = stopped_by
        self.seconds = seconds

    def __repr__(self) -> str:
        return (
            f"SandboxResult(args={self.args!r}, returncode={self.returncode}, stopped_by={self.stopped_by!r}, "
            f"seconds={self.seconds:.3f}, stdout={self.stdout!r}, stderr={self.stderr!r})"
        )


class Sandbox(Generic[Output]):
    """Containers for code that nobody trusts. Each call gets a fresh one, with a throw-away root.

    warm: how many are kept set up and waiting; timeout: seconds a call may take, None for any time; output_limit: bytes
    of both streams together; workspace: a directory of the host that all calls share at /workspace; text: whether
    output is str, which a call may decide for itself. The other arguments are those of `run`. By default there is no
    network, a seccomp profile like docker's, no new privileges and no capability.
    """

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: Sandbox[str], *, text: Literal[True], warm: int = ..., timeout: float | None = ...,
            output_limit: int = ..., workspace: str | os.PathLike[str] | None = ..., user: str | int | None = ...,
            group: str | int | None = ..., extra_groups: Iterable[str | int] | None = ...,
            **keywords: Unpack[SandboxKeywords],
        ) -> None: ...  # fmt: skip

        @overload
        def __init__(
            self: Sandbox[bytes], *, text: Literal[False] = ..., warm: int = ..., timeout: float | None = ...,
            output_limit: int = ..., workspace: str | os.PathLike[str] | None = ..., user: str | int | None = ...,
            group: str | int | None = ..., extra_groups: Iterable[str | int] | None = ...,
            **keywords: Unpack[SandboxKeywords],
        ) -> None: ...  # fmt: skip

        @overload
        def __init__(
            self: Sandbox[Any], *, text: bool, warm: int = ..., timeout: float | None = ...,
            output_limit: int = ..., workspace: str | os.PathLike[str] | None = ..., user: str | int | None = ...,
            group: str | int | None = ..., extra_groups: Iterable[str | int] | None = ...,
            **keywords: Unpack[SandboxKeywords],
        ) -> None: ...  # fmt: skip

    def __init__(
        self,
        *,
        warm: int = 0,
        timeout: float | None = None,
        output_limit: int = _LIMIT,
        workspace: str | os.PathLike[str] | None = None,
        text: bool = False,
        user: str | int | None = None,
        group: str | int | None = None,
        extra_groups: Iterable[str | int] | None = None,
        **keywords: Any,
    ) -> None:
        if warm < 0 or output_limit < 0:
            raise ValueError("warm and output_limit are not negative")
        if keywords.get("name") or keywords.get("init") is False:
            raise ValueError("a sandbox makes many containers: they have neither a name nor another init")
        if workspace is not None and ":" in os.path.abspath(os.fspath(workspace)):
            raise ValueError("the path of a workspace holds no colon, which divides the parts of a volume")
        self.timeout = timeout
        self.output_limit = output_limit
        self.text = text
        self._warm = warm
        self._workspace = "" if workspace is None else os.path.abspath(os.fspath(workspace))
        groups = None if extra_groups is None else list(extra_groups)
        arguments.check_ids(user, group, groups)
        self._settings = settings.Packed(self._defaults(keywords), user, group, groups)  # type: ignore[arg-type]
        self._pool: deque[client.Answers] = deque()
        self._lock = threading.RLock()  # as api/client.py
        self._closed = False
        self._threads: ThreadPoolExecutor | None = None  # of async_run
        _sandboxes.add(self)
        self._refill()

    def _defaults(self, keywords: dict[str, Any]) -> dict[str, Any]:
        rooted = keywords.get("rootfs") is not None or keywords.get("bundle") is not None
        full: dict[str, Any] = {"network": "none", "no_new_privileges": True, "seccomp": "default", **keywords}
        if rooted:
            full.setdefault("ephemeral", True)
            full["cap_drop"] = [*(full.get("cap_drop") or []), "ALL"]
        if self._workspace:
            full["volumes"] = [*(full.get("volumes") or []), f"{self._workspace}:/workspace"]
        return full

    # --- calls

    if TYPE_CHECKING:

        @overload
        def run(
            self, args: Command, *, text: Literal[True], **keywords: Unpack[CallKeywords]
        ) -> SandboxResult[str]: ...

        @overload
        def run(
            self, args: Command, *, text: Literal[False], **keywords: Unpack[CallKeywords]
        ) -> SandboxResult[bytes]: ...

        @overload
        def run(
            self, args: Command, *, text: None = ..., **keywords: Unpack[CallKeywords]
        ) -> SandboxResult[Output]: ...

    def run(self, args: Any, **keywords: Any) -> SandboxResult[Any]:
        """Run a program in a fresh container. A limit that ends it is said in `stopped_by`, and raises nothing.

        The keywords are `input`, `text`, `timeout`, `env`, `cwd`, `shell`, `executable` and `umask`, as in
        `rootless.run`; without them the sandbox's own hold. Raises the errors of a program that cannot be executed, and
        RootlessError.
        """
        run = _Run(self, args, **keywords)
        try:
            return run.finish()
        finally:
            self._refill()

    def map(
        self, iterable: Iterable[Command], *, parallel: int = 2, **keywords: Unpack[CallKeywords]
    ) -> Iterator[SandboxResult[Output]]:
        """Run each program of an iterable, `parallel` at once; yield the results in order.

        An element is a program with its arguments; keywords are those of `run`.
        """
        if parallel < 1:
            raise ValueError("parallel is at least 1")
        with ThreadPoolExecutor(parallel) as executor:
            waiting: deque[Any] = deque()
            try:
                for args in iterable:
                    waiting.append(executor.submit(_run_in, self, args, keywords))
                    if len(waiting) > 2 * parallel:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for each in waiting:
                    each.cancel()

    if TYPE_CHECKING:

        @overload
        async def async_run(
            self, args: Command, *, text: Literal[True], **keywords: Unpack[CallKeywords]
        ) -> SandboxResult[str]: ...

        @overload
        async def async_run(
            self, args: Command, *, text: Literal[False], **keywords: Unpack[CallKeywords]
        ) -> SandboxResult[bytes]: ...

        @overload
        async def async_run(
            self, args: Command, *, text: None = ..., **keywords: Unpack[CallKeywords]
        ) -> SandboxResult[Output]: ...

    async def async_run(self, args: Any, **keywords: Any) -> SandboxResult[Any]:
        """Run a program as `run` does, beside other tasks. A task that is cancelled kills its container."""
        run = _Run(self, args, **keywords)
        loop = asyncio.get_running_loop()
        if self._threads is None:  # the loop's own executor has few threads, and they are for others, too
            self._threads = ThreadPoolExecutor(_THREADS, "rootless-sandbox")
        work = loop.run_in_executor(self._threads, run.finish)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            run.stop()
            await asyncio.wait([work])
            work.exception()  # nobody else looks at it, and asyncio logs what nobody has looked at
            raise
        finally:
            self._refill()

    async def async_map(
        self, iterable: Iterable[Command], *, parallel: int = 2, **keywords: Unpack[CallKeywords]
    ) -> AsyncIterator[SandboxResult[Output]]:
        """Yield the results of `map` in order, beside other tasks."""
        if parallel < 1:
            raise ValueError("parallel is at least 1")
        waiting: deque[asyncio.Task[SandboxResult[Output]]] = deque()
        slots = asyncio.Semaphore(parallel)

        async def call(args: Command) -> SandboxResult[Output]:
            async with slots:
                return await self.async_run(args, **keywords)

        try:
            for args in iterable:
                waiting.append(asyncio.create_task(call(args)))
                if len(waiting) > 2 * parallel:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    # --- warm containers

    def _take(self) -> client.Answers | None:
        """Return a container that waits for its call, None if there is none."""
        with self._lock:
            if self._closed:
                raise RootlessError("the sandbox is closed")
            return self._pool.popleft() if self._pool else None

    def _send_request(self, words: Any = None, fds: tuple[int, ...] | list[int] = ()) -> client.Answers:
        """Ask for a container, for this call or for one that comes later (words: None)."""
        answers = client.Answers()
        try:
            client.request(("run", answers.number, self._settings.data, words), answers.request_fds([*fds]))
            answers.close_other_ends()
        except BaseException:
            answers.close()
            raise
        return answers

    def _refill(self) -> None:
        with self._lock:
            while not self._closed and len(self._pool) < self._warm:
                self._pool.append(self._send_request())

    def _forget(self) -> None:
        """Give up, in a forked child, what is the parent's: the pool, the threads, and a lock that one may hold."""
        self._lock = threading.RLock()
        self._threads = None
        while self._pool:
            self._pool.pop().close()  # its copies only

    def close(self) -> None:
        """End the warm containers. Calls that run go on."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, deque()
            threads, self._threads = self._threads, None
        for answers in pool:
            answers.close()  # a warm container ends when its socket is closed
        if threads:
            threads.shutdown(wait=False)

    def __enter__(self) -> Sandbox[Output]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Sandbox[Output]:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


_sandboxes: weakref.WeakSet[Sandbox[Any]] = weakref.WeakSet()


def _forget() -> None:
    for sandbox in _sandboxes:
        sandbox._forget()


os.register_at_fork(after_in_child=_forget)


def _run_in(sandbox: Sandbox[Any], args: Any, keywords: CallKeywords) -> SandboxResult[Any]:
    return sandbox.run(args, **keywords)


class _Run:
    """Run one call: hold its container and its pipes, and end it at a limit."""

    def __init__(
        self,
        sandbox: Sandbox[Any],
        args: Any,
        /,
        *,
        input: Any = None,
        text: bool | None = None,
        timeout: float | None = None,
        env: Any = None,
        cwd: Any = None,
        shell: bool = False,
        executable: Any = None,
        umask: int = -1,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise TypeError(f"run() got an unexpected keyword argument {next(iter(unknown))!r}")
        self.sandbox = sandbox
        self.args = args
        self.text = sandbox.text if text is None else text
        self.timeout = sandbox.timeout if timeout is None else timeout
        self.began = time.monotonic()
        self.stopped_by: str | None = None
        self.pidfd = -1
        self.data = memoryview(input.encode() if isinstance(input, str) else b"" if input is None else input).cast("B")
        self.asked = arguments.command(args, executable, shell=shell)
        self.cwd = cwd
        self.words = arguments.words_of(*self.asked, env=env, cwd=cwd, umask=umask)
        self.stopped = False
        self._start()

    def _start(self) -> None:
        """Make the pipes, and give the call and their other ends to a container."""
        (stdin, self.stdin), (self.stdout, stdout), (self.stderr, stderr) = os.pipe(), os.pipe(), os.pipe()
        try:
            self.answers, self.is_warm = self._begin([stdin, stdout, stderr])
        except BaseException:
            self._close(self.stdin, self.stdout, self.stderr)
            self.stdin = self.stdout = self.stderr = -1
            raise
        finally:
            self._close(stdin, stdout, stderr)

    def _begin(self, fds: list[int]) -> tuple[client.Answers, bool]:
        """Give the call to a container. Return what it answers with, and whether it waited for the call."""
        while answers := self.sandbox._take():
            try:
                answers.call(self.words, fds)
                return answers, True
            except OSError:
                answers.close()
        return self.sandbox._send_request(self.words, fds), False

    def finish(self) -> SandboxResult[Any]:
        """Exchange data until the end. Raises the errors of a program that cannot be executed."""
        try:
            self.pidfd = self._await_program()
            streams = self._exchange()
            status = self._await_end()
        except BaseException:
            self.stop()
            raise
        finally:
            self._close(self.stdin, self.stdout, self.stderr, self.pidfd)
            self.stdin = self.stdout = self.stderr = self.pidfd = -1
            self.answers.close()
        code = os.waitstatus_to_exitcode(status)
        out, err = (bytes(each) for each in streams)
        seconds = time.monotonic() - self.began
        if self.text:
            text = out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
            return SandboxResult(self.args, code, *text, self._verdict(code), seconds)
        return SandboxResult(self.args, code, out, err, self._verdict(code), seconds)

    def _await_program(self) -> int:
        """Wait until the program runs, and return its pidfd.

        If the container has ended with a killed launcher before it took the call, give the call to another one.
        """
        attempts = 0
        while True:
            try:
                return self.answers.await_verdict()[1]
            except LauncherError:
                attempts += not self.is_warm
                if attempts > 1 or self.stopped:
                    raise
                self.answers.close()
                self._close(self.stdin, self.stdout, self.stderr)
                self.stdin = self.stdout = self.stderr = -1
                self._start()
            except RootlessError as error:
                raise translate(error, self.asked[1], self.cwd, is_host=self.sandbox._settings.is_host) from None

    def _verdict(self, code: int) -> str | None:
        if self.stopped_by:
            return self.stopped_by
        if self.answers.kills:
            return "memory"
        return "signal" if code < 0 else None

    def stop(self) -> None:
        """Kill the container, also one that is still being set up.

        `finish` may be at work in another thread meanwhile, and closes its descriptors: they are not touched here.
        """
        self.stopped = True
        self.answers.ask_to_kill()

    def _kill(self) -> None:
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        except (ProcessLookupError, OSError):
            pass

    def _exchange(self) -> tuple[bytearray, bytearray]:
        """Write the input and read both streams to their end, within the limits."""
        collected = {self.stdout: bytearray(), self.stderr: bytearray()}
        out, err = collected.values()
        poller = select.poll()
        view = self.data
        if view:
            os.set_blocking(self.stdin, False)
            poller.register(self.stdin, select.POLLOUT)
        else:
            self._end_input()
        for fd in collected:
            poller.register(fd, select.POLLIN)
        while collected or self.stdin >= 0:  # it may read on when it has closed its streams
            left = self._left()
            ready = poller.poll(None if left is None else milliseconds(left))
            if not ready and self._left() == 0:
                self._stop_by("timeout")
            for fd, _ in ready:
                if fd == self.stdin:
                    view = self._feed(view, poller)
                elif not self._read(fd, collected[fd], out, err):
                    poller.unregister(fd)
                    del collected[fd]
        return out, err

    def _await_end(self) -> int:
        """Return the wait status. The program may run on when it has closed its streams, until the time is over."""
        complete = self.sandbox._settings.complete
        status = self.answers.wait(self._left(), complete=complete)
        if status is None:
            self._stop_by("timeout")
            status = self.answers.wait(None, complete=complete)
        assert status is not None
        return status

    def _left(self) -> float | None:
        """Return the seconds until the time is over, None for any time."""
        if self.timeout is None or self.stopped_by:
            return None
        return max(0.0, self.began + self.timeout - time.monotonic())

    def _stop_by(self, reason: str) -> None:
        if not self.stopped_by:
            self.stopped_by = reason
            self._kill()

    def _feed(self, view: memoryview, poller: select.poll) -> memoryview:
        try:
            view = view[os.write(self.stdin, view[:_PIECE]) :]
        except BlockingIOError:
            return view
        except BrokenPipeError:
            view = view[:0]
        if not view:
            poller.unregister(self.stdin)
            self._end_input()
        return view

    def _end_input(self) -> None:
        self._close(self.stdin)
        self.stdin = -1

    def _read(self, fd: int, into: bytearray, out: bytearray, err: bytearray) -> bool:
        """Read a piece; False at the end. What is beyond the limit is dropped, and ends the program."""
        data = os.read(fd, _PIECE)
        room = self.sandbox.output_limit - len(out) - len(err)
        into += data[: max(room, 0)]
        if len(data) > room:
            self._stop_by("output")
        return bool(data)

    @staticmethod
    def _close(*fds: int) -> None:
        for fd in fds:
            if fd >= 0:
                os.close(fd)
