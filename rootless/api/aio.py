"""`async_run` and `async_popen`: asyncio's own Process around a container.

The event loop waits on the container's two sockets, so no thread and no child watcher is needed.
"""

from __future__ import annotations

import asyncio
import select
import subprocess
from asyncio import base_subprocess
from asyncio.subprocess import Process, SubprocessStreamProtocol

from rootless.api.popen import CompletedProcess, Popen
from rootless.errors import LauncherError, RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, Unpack, overload

    from rootless.api.client import Answers
    from rootless.api.keywords import AsyncPopenKeywords, AsyncRunKeywords, Command, Data

_LIMIT = 2**16  # asyncio.streams: the default limit of a stream's buffer


class AsyncProcess(Process):
    """An asyncio.subprocess.Process; name and oom_killed as in Popen."""

    _popen: Popen[bytes]
    _transport: _Transport

    async def wait(self) -> int:
        """Wait for the end and return the exit status. Raises LauncherError if the launcher was killed before."""
        code = await super().wait()
        if self._transport.lost:
            raise self._transport.lost
        return code

    @property
    def name(self) -> str:
        """The container's name, "" for none."""
        return self._popen.name

    @property
    def oom_killed(self) -> bool:
        """Whether the memory limit ended a process of the container, once it has ended."""
        return self._popen.oom_killed

    @property
    def args(self) -> Any:
        """The program and its arguments."""
        return self._popen.args


class _Deferred(Popen[bytes]):
    """A Popen whose verdict the event loop waits for."""

    _deferred = True


class _Transport(base_subprocess.BaseSubprocessTransport):
    """Wrap a Popen that exists already into asyncio's transport."""

    lost: LauncherError | None = None  # the launcher was killed before the container's end

    def _start(
        self, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **kwargs: Any
    ) -> None:  # fmt: skip
        self._proc = kwargs["popen"]

    def close(self) -> None:
        """Close the streams and kill the program."""
        try:
            super().close()
        except LauncherError:
            pass  # the container has ended; `_watch_end` learns of it, too

    def note_end(self) -> None:
        """Tell whoever waits for the end, once."""
        if self._returncode is None and self._proc and self._proc.returncode is not None:
            self._process_exited(self._proc.returncode)


if TYPE_CHECKING:

    @overload
    async def async_popen(*args: Command, limit: int = ..., **keywords: Unpack[AsyncPopenKeywords]) -> AsyncProcess: ...

    @overload
    async def async_popen(*args: Any, limit: int = ..., **keywords: Any) -> AsyncProcess: ...


async def async_popen(*args: Any, limit: int = _LIMIT, **keywords: Any) -> AsyncProcess:
    """Start a program in a container; asyncio.create_subprocess_exec's arguments, and those of `Popen`.

    The program and its arguments are words, or one list. Raises what Popen raises.
    """
    command = _command(args, keywords)
    for name in ("text", "universal_newlines", "encoding", "errors"):
        if keywords.pop(name, None):
            raise ValueError(f"{name} must be None or False: asyncio's streams are of bytes")
    if keywords.pop("bufsize", 0):
        raise ValueError("bufsize must be 0")
    loop = asyncio.get_running_loop()
    return await _wrap(loop, await _start(loop, command, keywords), limit)


async def _start(
    loop: asyncio.AbstractEventLoop, command: Any, keywords: dict[str, Any], *, to_end: bool = False
) -> Popen[bytes]:
    """Start a program in a container, and wait until it runs. Raises what Popen raises.

    to_end: wait until it has ended, if the container is a plain one. Then nothing is to do when it begins to run, and
    the event loop has one socket less to watch.
    """
    popen = _Deferred(command, 0, **keywords)
    to_end = to_end and not popen._settings.complete
    try:
        while not popen._child_created:
            answers = popen._answers
            await _readable(loop, answers.end if to_end else answers.verdict)  # type: ignore[union-attr]
            try:
                popen._finish_start()
            except LauncherError:
                popen._ask_again()
    except BaseException as error:
        for stream in (popen.stdin, popen.stdout, popen.stderr):
            if stream:
                stream.close()
        if popen._answers and isinstance(error, asyncio.CancelledError):
            await _cancel(loop, popen, popen._answers)
        raise
    finally:
        popen._close_childs_ends()
    return popen


async def _cancel(loop: asyncio.AbstractEventLoop, popen: Popen[bytes], answers: Answers) -> None:
    """End a container whose program may run already, and wait until it is gone."""
    poller = select.poll()
    poller.register(answers.verdict, select.POLLIN)
    if poller.poll(0):
        try:
            popen._finish_start()
        except (OSError, RootlessError):
            return  # it could not be started
        await _kill(loop, popen)
        return
    answers.ask_to_kill()
    try:
        await _readable(loop, answers.end)  # so that nothing of it is left, as after `_kill`
    finally:
        answers.close()


async def _wrap(loop: asyncio.AbstractEventLoop, popen: Popen[bytes], limit: int) -> AsyncProcess:
    """Return the process as asyncio has it, with its streams."""
    protocol = SubprocessStreamProtocol(limit=limit, loop=loop)
    given = [subprocess.PIPE if stream else None for stream in (popen.stdin, popen.stdout, popen.stderr)]
    waiter = loop.create_future()
    transport: Any = _Transport(loop, protocol, popen.args, False, *given, 0, waiter, popen=popen)  # type: ignore[arg-type, call-arg]
    _watch_end(loop, popen, transport)
    try:
        await waiter
    except BaseException:
        transport.close()
        await transport._wait()
        raise
    process = AsyncProcess(transport, protocol, loop)
    process._popen = popen
    return process


def _command(args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Return the program and its arguments as the caller gave them: one object, or several words. Raises TypeError."""
    if not args and "args" in keywords:
        return keywords.pop("args")
    if not args:
        raise TypeError("missing 1 required positional argument: 'args'")
    return args[0] if len(args) == 1 else list(args)


async def _readable(loop: asyncio.AbstractEventLoop, sock: Any) -> None:
    ready = loop.create_future()
    fd = sock.fileno()
    loop.add_reader(fd, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _watch_end(loop: asyncio.AbstractEventLoop, popen: Popen[bytes], transport: _Transport) -> None:
    """Tell the transport as soon as the container has ended."""
    assert popen._answers
    end = popen._answers.end

    def look() -> None:
        try:
            popen._internal_poll()
        except LauncherError as error:
            transport.lost = error
            popen.returncode = -9  # so the container was, too
            loop.remove_reader(end.fileno())
            transport.note_end()

    # The poll that sees the end closes the socket. It need not be this one: `send_signal` polls first, too.
    popen._answers.end = _Kept(end, loop, transport.note_end)  # type: ignore[assignment]
    loop.add_reader(end.fileno(), look)


class _Kept:
    """Keep the socket of the container's end open while the event loop watches it.

    `close` removes the watch first, because the socket's number may be another one's afterwards, and lets the event
    loop call `closed`.
    """

    def __init__(self, sock: Any, loop: asyncio.AbstractEventLoop, closed: Callable[[], None]) -> None:
        self.sock = sock
        self.loop = loop
        self.closed = closed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def close(self) -> None:
        fd = self.sock.fileno()
        if fd >= 0 and not self.loop.is_closed():  # the interpreter's end closes it before Popen.__del__ looks
            self.loop.remove_reader(fd)
            self.loop.call_soon(self.closed)
        self.sock.close()


if TYPE_CHECKING:

    @overload
    async def async_run(
        *args: Command,
        input: str | None = ..., text: bool | None = ..., encoding: str, errors: str | None = ...,
        universal_newlines: bool | None = ..., **keywords: Unpack[AsyncRunKeywords],
    ) -> CompletedProcess[str]: ...  # fmt: skip

    @overload
    async def async_run(
        *args: Command,
        input: str | None = ..., text: bool | None = ..., encoding: str | None = ..., errors: str,
        universal_newlines: bool | None = ..., **keywords: Unpack[AsyncRunKeywords],
    ) -> CompletedProcess[str]: ...  # fmt: skip

    @overload
    async def async_run(
        *args: Command,
        input: str | None = ..., text: bool | None = ..., encoding: str | None = ..., errors: str | None = ...,
        universal_newlines: Literal[True], **keywords: Unpack[AsyncRunKeywords],
    ) -> CompletedProcess[str]: ...  # fmt: skip

    @overload
    async def async_run(
        *args: Command,
        input: str | None = ..., text: Literal[True], encoding: str | None = ..., errors: str | None = ...,
        universal_newlines: bool | None = ..., **keywords: Unpack[AsyncRunKeywords],
    ) -> CompletedProcess[str]: ...  # fmt: skip

    @overload
    async def async_run(
        *args: Command,
        input: Data | None = ..., text: Literal[False] | None = ..., encoding: None = ..., errors: None = ...,
        universal_newlines: Literal[False] | None = ..., **keywords: Unpack[AsyncRunKeywords],
    ) -> CompletedProcess[bytes]: ...  # fmt: skip

    @overload
    async def async_run(
        *args: Command,
        input: Data | str | None = ..., text: bool | None = ..., encoding: str | None = ..., errors: str | None = ...,
        universal_newlines: bool | None = ..., **keywords: Unpack[AsyncRunKeywords],
    ) -> CompletedProcess[Any]: ...  # fmt: skip


async def async_run(
    *args: Any, input: Any = None, capture_output: bool = False, timeout: float | None = None,
    check: bool = False, **keywords: Any,
) -> CompletedProcess[Any]:  # fmt: skip
    """Run a program in a container and wait for its end: the asyncio twin of `run`, whose exceptions it raises.

    A task that is cancelled meanwhile kills the container.
    """
    decode = {name: keywords.pop(name, None) for name in ("text", "universal_newlines", "encoding", "errors")}
    if input is not None:
        if keywords.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        keywords["stdin"] = subprocess.PIPE
    if capture_output:
        if keywords.get("stdout") is not None or keywords.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        keywords["stdout"] = keywords["stderr"] = subprocess.PIPE
    if not isinstance(keywords.pop("bufsize", 0), int):  # nobody sees the buffers of what is collected here
        raise TypeError("bufsize must be an integer")
    pipes = [keywords.get(name) == subprocess.PIPE for name in ("stdin", "stdout", "stderr")]
    convert = _Text(decode, checks=any(pipes))
    data = convert.encode(input)
    loop = asyncio.get_running_loop()
    popen = await _start(loop, _command(args, keywords), keywords, to_end=timeout is None and not any(pipes))
    if not any(pipes):
        ended = await _wait(loop, popen, timeout)
        if check and ended:
            raise subprocess.CalledProcessError(ended, popen.args)
        return CompletedProcess(popen.args, ended, oom_killed=popen.oom_killed)
    process = await _wrap(loop, popen, _LIMIT)
    collected: list[bytearray | None] = [bytearray() if s else None for s in (process.stdout, process.stderr)]
    tasks = [
        asyncio.ensure_future(_collect(stream, into))
        for stream, into in zip((process.stdout, process.stderr), collected, strict=True)
        if stream
    ]
    if process.stdin is not None:
        process._protocol._stdin_closed.add_done_callback(_look_at)  # type: ignore[attr-defined]
        tasks.append(asyncio.ensure_future(_feed(process.stdin, data)))
    everything = asyncio.gather(process.wait(), *tasks)
    try:
        await asyncio.wait_for(everything, timeout)
    except TimeoutError:
        await _end(process, tasks)
        out, err = (convert.so_far(each) for each in collected)
        raise subprocess.TimeoutExpired(process.args, timeout or 0, output=out, stderr=err) from None
    except BaseException:
        await _end(process, tasks)
        raise
    out, err = (convert.decode(each) for each in collected)
    code = process.returncode
    assert code is not None
    if check and code:
        raise subprocess.CalledProcessError(code, process.args, output=out, stderr=err)
    return CompletedProcess(process.args, code, out, err, oom_killed=process.oom_killed)


async def _wait(loop: asyncio.AbstractEventLoop, popen: Popen[bytes], timeout: float | None) -> int:
    """Wait for the end of a program without pipes; return its exit status. Kill it after the timeout or an exception.

    An asyncio.subprocess.Process would take several turns of the event loop more.
    """
    end = _wait_for_end(loop, popen)
    try:
        return await (end if timeout is None else asyncio.wait_for(end, timeout))
    except TimeoutError:
        await _kill(loop, popen)
        raise subprocess.TimeoutExpired(popen.args, timeout or 0) from None
    except LauncherError:
        popen.returncode = -9  # so the container was, too
        raise
    except BaseException:
        await _kill(loop, popen)
        raise


async def _wait_for_end(loop: asyncio.AbstractEventLoop, popen: Popen[bytes]) -> int:
    while (code := popen._internal_poll()) is None:
        await _readable(loop, popen._answers.end)  # type: ignore[union-attr]
    return code


async def _kill(loop: asyncio.AbstractEventLoop, popen: Popen[bytes]) -> None:
    """Kill the container and wait until it is gone."""
    popen.kill()
    try:
        await asyncio.shield(_wait_for_end(loop, popen))
    except LauncherError:
        popen.returncode = -9  # it has ended all the same


def _look_at(closed: asyncio.Future[None]) -> None:
    """Take note of the error of a pipe that the program has not read, which asyncio logs otherwise."""
    if not closed.cancelled():
        closed.exception()


async def _end(process: AsyncProcess, tasks: list[Any]) -> None:
    """Kill the container and wait until it is gone; the streams end with it."""
    if process.returncode is None:
        try:
            process.kill()
        except ProcessLookupError:
            pass
    try:
        await asyncio.shield(process.wait())
    except LauncherError:
        pass  # it has ended all the same
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _collect(stream: asyncio.StreamReader, into: bytearray | None) -> None:
    while piece := await stream.read(65536):
        assert into is not None
        into += piece


async def _feed(stream: asyncio.StreamWriter, data: memoryview) -> None:
    try:
        if data:
            stream.write(data)
            await stream.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the program does not read it: as subprocess's communicate
    stream.close()


class _Text:
    """Encode and decode as subprocess does with `text`, `encoding` and `errors`.

    checks: whether an unknown encoding is an error. Raises SubprocessError and LookupError.
    """

    def __init__(self, asked: dict[str, Any], *, checks: bool) -> None:
        self.is_text = any(asked.values())
        text, newlines = asked["text"], asked["universal_newlines"]
        if None not in (text, newlines) and bool(text) != bool(newlines):
            raise subprocess.SubprocessError("text and universal_newlines are given, and are not the same")
        self.encoding = asked["encoding"] or "locale"
        self.errors = asked["errors"] or "strict"
        if self.is_text and self.encoding == "locale":
            import locale

            self.encoding = locale.getpreferredencoding(False)
        if self.is_text and checks:
            "".encode(self.encoding)

    def encode(self, data: Any) -> memoryview:
        """Return what goes to the program. Raises what subprocess raises for what is not of the right type."""
        if data is None:
            return memoryview(b"")
        try:
            return memoryview(data.encode(self.encoding, self.errors) if self.is_text else data).cast("B")
        except TypeError:
            if data:
                raise
            return memoryview(b"")  # subprocess takes whatever is false for no input, such as an empty str

    def decode(self, data: bytearray | None) -> Any:
        """Return what came from it, with universal newlines."""
        if data is None or not self.is_text:
            return None if data is None else bytes(data)
        return data.decode(self.encoding, self.errors).replace("\r\n", "\n").replace("\r", "\n")

    def so_far(self, data: bytearray | None) -> Any:
        """Return the output so far as bytes, None for nothing, as subprocess.TimeoutExpired holds it."""
        return bytes(data) if data else None
