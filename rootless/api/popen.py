"""`run` and `Popen`: subprocess's own, in a container. What is not described here is as in subprocess.

`Popen` is a subprocess.Popen whose child is made by the launcher, and waited for on a socket instead of by wait4(2).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from rootless.api import arguments, client, settings
from rootless.api.program_errors import translate
from rootless.errors import LauncherError, RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, AnyStr, Literal, TypeVar, Unpack, overload

    from rootless.api.keywords import Command, Data, ExecKeywords, FilePath, PopenKeywords, RunKeywords

    Output = TypeVar("Output", bytes, str, Any)
else:
    from rootless.api.generics import AnyStr, Output
_PATIENCE = 4  # times that a request is sent again
_ENDING = 10.0  # seconds that a container may take to end after its kill
_GOING = 2.0  # seconds that an interrupted set-up may take to end
_EXECUTE_NAMES = subprocess.Popen._execute_child.__code__.co_varnames[1:]  # type: ignore[attr-defined]


# subprocess.Popen's arguments that may stand without their names, after the first three.
_POSITIONAL = (
    "stdin", "stdout", "stderr", "preexec_fn", "close_fds", "shell", "cwd", "env", "universal_newlines", "startupinfo",
    "creationflags", "restore_signals", "start_new_session", "pass_fds",
)  # fmt: skip


class CompletedProcess(subprocess.CompletedProcess[Output]):
    """A subprocess.CompletedProcess; oom_killed: whether the memory limit ended a process of the container."""

    def __init__(
        self, args: Any, returncode: int, stdout: Any = None, stderr: Any = None, *, oom_killed: bool = False
    ) -> None:
        super().__init__(args, returncode, stdout, stderr)
        self.oom_killed = oom_killed


class Popen(subprocess.Popen[AnyStr]):
    """A program that runs in a container of its own.

    pid: the program's, as the caller sees it; name: the container's, "" for none; oom_killed: once it has ended,
    whether the memory limit ended a process of the container.
    """

    _paused = False  # by `pause`
    _asked_again = 0
    _deferred = False  # whether somebody else waits for the verdict (api/aio.py)

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: Popen[str], args: Command, bufsize: int = ..., executable: FilePath | None = ...,
            *, text: bool | None = ..., encoding: str, errors: str | None = ...,
            universal_newlines: bool | None = ..., **keywords: Unpack[PopenKeywords],
        ) -> None: ...  # fmt: skip

        @overload
        def __init__(
            self: Popen[str], args: Command, bufsize: int = ..., executable: FilePath | None = ...,
            *, text: bool | None = ..., encoding: str | None = ..., errors: str,
            universal_newlines: bool | None = ..., **keywords: Unpack[PopenKeywords],
        ) -> None: ...  # fmt: skip

        @overload
        def __init__(
            self: Popen[str], args: Command, bufsize: int = ..., executable: FilePath | None = ...,
            *, text: bool | None = ..., encoding: str | None = ..., errors: str | None = ...,
            universal_newlines: Literal[True], **keywords: Unpack[PopenKeywords],
        ) -> None: ...  # fmt: skip

        @overload
        def __init__(
            self: Popen[str], args: Command, bufsize: int = ..., executable: FilePath | None = ...,
            *, text: Literal[True], encoding: str | None = ..., errors: str | None = ...,
            universal_newlines: bool | None = ..., **keywords: Unpack[PopenKeywords],
        ) -> None: ...  # fmt: skip

        @overload
        def __init__(
            self: Popen[bytes], args: Command, bufsize: int = ..., executable: FilePath | None = ...,
            *, text: Literal[False] | None = ..., encoding: None = ..., errors: None = ...,
            universal_newlines: Literal[False] | None = ..., **keywords: Unpack[PopenKeywords],
        ) -> None: ...  # fmt: skip

        @overload
        def __init__(
            self: Popen[Any], args: Command, bufsize: int = ..., executable: FilePath | None = ...,
            *, text: bool | None = ..., encoding: str | None = ..., errors: str | None = ...,
            universal_newlines: bool | None = ..., **keywords: Unpack[PopenKeywords],
        ) -> None: ...  # fmt: skip

    def __init__(self, args: Any, bufsize: int = -1, executable: Any = None, *rest: Any, **keywords: Any) -> None:
        self._child_created = False
        self._answers: client.Answers | None = None
        self._pidfd = -1
        self.oom_killed = False
        _name_positional(rest, keywords)
        about = {name: keywords.pop(name) for name in settings.NAMES.intersection(keywords)}
        if keywords.get("preexec_fn") is not None:
            raise ValueError("preexec_fn is a function of this process: in a container there is nothing to call it")
        if not keywords.get("close_fds", True):
            raise ValueError("close_fds=False: a container gets no descriptors but those of pass_fds")
        user, group, groups = (keywords.pop(name, None) for name in ("user", "group", "extra_groups"))
        groups = None if groups is None else groups if isinstance(groups, str) else list(groups)
        arguments.check_ids(user, group, groups)
        self._settings = self._pack(about, user, group, groups)
        self.name = self._settings.name
        super().__init__(args, bufsize, executable, **keywords)

    def _pack(self, about: dict[str, Any], user: Any, group: Any, groups: Any) -> settings.Packed:
        """Return the container's settings for the launcher."""
        return settings.Packed(about, user, group, groups)  # type: ignore[arg-type]

    # --- methods of subprocess.Popen that start a child and wait for it

    def _execute_child(self, *values: Any) -> None:
        given: dict[str, Any] = dict(zip(_EXECUTE_NAMES, values, strict=False))
        args, executable = arguments.command(given["args"], given["executable"], shell=given["shell"])
        sys.audit("subprocess.Popen", executable or args[0], given["args"], given["cwd"], given["env"])
        fds: list[int]
        passed: list[int] = arguments.passed_fds(given["pass_fds"])
        closed, fds = arguments.streams(given["p2cread"], given["c2pwrite"], given["errwrite"], passed)
        passed = [fd for fd in passed if fd > 2]  # the program's own streams are there already, as in subprocess
        group = given.get("process_group")
        words = arguments.words_of(
            args, executable, env=given["env"], cwd=given["cwd"], umask=given["umask"],
            restore=bool(given["restore_signals"]), session=bool(given["start_new_session"]),
            group=-1 if group is None else group, pid1=self._settings.pid1, closed=closed, passed=passed,
        )  # fmt: skip
        self._asked: tuple[Any, Any] = (executable, given["cwd"])
        self._place: tuple[list[bytes] | None, bytes] = words[2:4]  # its environment and directory, for `exec`
        self._request: tuple[tuple[Any, ...], list[int]] = (words, [*fds, *passed])
        self._childs_ends = given
        self._send_request()
        if not self._deferred:
            while not self._child_created:
                try:
                    self._finish_start()
                except LauncherError:
                    self._ask_again()
            self._close_childs_ends()

    def _ask_again(self) -> None:
        """Send the request again after a LauncherError: launcher or worker was killed before the program had begun.

        Raises that error if it comes again and again.
        """
        self._asked_again += 1
        if self._asked_again > _PATIENCE:
            raise  # noqa: PLE0704
        self._send_request()

    def _send_request(self) -> None:
        """Send the request for this process to the launcher. Raises OSError and RootlessError."""
        words, fds = self._request
        answers = client.Answers()
        try:
            client.request(self._message(answers.number, words), answers.request_fds(fds))
            answers.close_other_ends()
        except BaseException:
            answers.close()
            raise
        self._answers = answers

    def _message(self, number: int, words: Any) -> tuple[Any, ...]:
        """Return the request for this process."""
        return "run", number, self._settings.data, words

    def _close_childs_ends(self) -> None:
        """Close what only the child needs of the pipes, as subprocess does."""
        given, self._childs_ends, self._request = self._childs_ends, {}, ((), [])
        devnull = getattr(self, "_devnull", None)
        for ours, theirs in (("p2cwrite", "p2cread"), ("c2pread", "c2pwrite"), ("errread", "errwrite")):
            if given[ours] != -1 and given[theirs] not in (-1, devnull):
                os.close(given[theirs])
        if devnull is not None:
            os.close(devnull)
        self._closed_child_pipe_fds = True

    def _finish_start(self) -> None:
        """Wait for the verdict. Raises the error of a program that cannot be executed, and RootlessError."""
        assert self._answers
        try:
            self.pid, self._pidfd = self._answers.await_verdict()
        except RootlessError as error:
            self._answers.close()
            raise translate(error, *self._asked, is_host=self._settings.is_host) from None
        except BaseException:
            self._answers.abandon(_GOING)
            raise
        self._child_created = True

    def _note_end(self) -> None:
        """Store the exit status, and close what waited for it."""
        answers = self._answers
        assert answers and answers.status is not None
        self._handle_exitstatus(answers.status)  # type: ignore[attr-defined]
        self.oom_killed = answers.kills > 0
        self._release()

    def _release(self) -> None:
        """Close what waits for the end."""
        assert self._answers
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self._answers.end.close()

    def _wait(self, timeout: float | None) -> int:
        lock = self._waitpid_lock  # type: ignore[attr-defined]
        while self.returncode is None:
            if not lock.acquire(timeout=-1 if timeout is None else min(max(timeout, 0), threading.TIMEOUT_MAX)):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            try:
                if self.returncode is not None:
                    break
                if not self._is_ours():
                    self.returncode = 0
                    break
                assert self._answers
                if self._answers.wait(timeout, complete=self._settings.complete) is None:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
                self._note_end()
            finally:
                lock.release()
        return self.returncode

    def _is_ours(self) -> bool:
        """Return whether this process started the container. A forked child cannot wait for it, as with wait4(2)."""
        return self._answers is not None and self._answers.owner == os.getpid()

    def _internal_poll(self, _deadstate: int | None = None, **_: Any) -> int | None:
        if self.returncode is None:
            lock = self._waitpid_lock  # type: ignore[attr-defined]
            if not lock.acquire(False):
                return None
            try:
                if self.returncode is None:
                    if not self._is_ours():
                        self.returncode = 0 if _deadstate is None else _deadstate
                    elif self._answers and self._answers.wait(0, complete=self._settings.complete) is not None:
                        self._note_end()
            except (LauncherError, OSError):
                if _deadstate is None:
                    raise
                self.returncode = _deadstate
            finally:
                lock.release()
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal to the program; do nothing if it has ended (pidfd_send_signal(2)).

        A paused program gets it when it is resumed. SIGKILL resumes it, because its init has to report the end.
        """
        try:
            self.poll()
        except LauncherError:  # which `wait` reports: the container has ended with its launcher
            return
        if self.returncode is not None or self._pidfd < 0:
            return
        try:
            signal.pidfd_send_signal(self._pidfd, sig)
        except ProcessLookupError:
            return
        if sig == signal.SIGKILL and (self._paused or self.name):  # one with a name may be paused from elsewhere
            try:
                self._control("resume", ())
            except RootlessError:
                pass  # it has ended already, or has no cgroup

    def __del__(self, *defaults: Any, **names: Any) -> None:
        super().__del__(*defaults, **names)
        if self._child_created and self.returncode is not None:  # somebody may have set it, or this is a forked child
            self._release()

    # --- what only a container has

    if TYPE_CHECKING:

        @overload
        def exec(
            self, args: Command, bufsize: int = ..., executable: FilePath | None = ...,
            *, input: str | None = ..., text: bool | None = ..., encoding: str, errors: str | None = ...,
            universal_newlines: bool | None = ..., **keywords: Unpack[ExecKeywords],
        ) -> CompletedProcess[str]: ...  # fmt: skip

        @overload
        def exec(
            self, args: Command, bufsize: int = ..., executable: FilePath | None = ...,
            *, input: str | None = ..., text: bool | None = ..., encoding: str | None = ..., errors: str,
            universal_newlines: bool | None = ..., **keywords: Unpack[ExecKeywords],
        ) -> CompletedProcess[str]: ...  # fmt: skip

        @overload
        def exec(
            self, args: Command, bufsize: int = ..., executable: FilePath | None = ...,
            *, input: str | None = ..., text: bool | None = ..., encoding: str | None = ..., errors: str | None = ...,
            universal_newlines: Literal[True], **keywords: Unpack[ExecKeywords],
        ) -> CompletedProcess[str]: ...  # fmt: skip

        @overload
        def exec(
            self, args: Command, bufsize: int = ..., executable: FilePath | None = ...,
            *, input: str | None = ..., text: Literal[True], encoding: str | None = ..., errors: str | None = ...,
            universal_newlines: bool | None = ..., **keywords: Unpack[ExecKeywords],
        ) -> CompletedProcess[str]: ...  # fmt: skip

        @overload
        def exec(
            self, args: Command, bufsize: int = ..., executable: FilePath | None = ...,
            *, input: Data | None = ..., text: Literal[False] | None = ..., encoding: None = ..., errors: None = ...,
            universal_newlines: Literal[False] | None = ..., **keywords: Unpack[ExecKeywords],
        ) -> CompletedProcess[bytes]: ...  # fmt: skip

        @overload
        def exec(
            self, args: Command, bufsize: int = ..., executable: FilePath | None = ...,
            *, input: Data | str | None = ..., text: bool | None = ..., encoding: str | None = ...,
            errors: str | None = ..., universal_newlines: bool | None = ..., **keywords: Unpack[ExecKeywords],
        ) -> CompletedProcess[Any]: ...  # fmt: skip

    def exec(self, *args: Any, **keywords: Any) -> CompletedProcess[Any]:
        """Run one more program in the container, and wait for it; the arguments are those of `run`."""
        self._require_running("exec in")

        def start(*words: Any, **rest: Any) -> Popen[Any]:
            return Executed(self, *words, **rest)

        return run_with(start, *args, **keywords)

    def pause(self) -> None:
        """Freeze every process of the container. Raises RootlessError if it has no cgroup."""
        self._control("pause", ())
        self._paused = True

    def resume(self) -> None:
        """Let the processes of a paused container continue."""
        self._control("resume", ())
        self._paused = False

    def stats(self) -> dict[str, Any]:
        """Return the figures of its cgroup, in the form of `rootless events --stats`."""
        import json

        figures: dict[str, Any] = json.loads(self._control("stats", ()))
        return figures

    def update(
        self, *, memory: str | int | None = None, cpus: str | float | None = None, pids: int | None = None
    ) -> None:
        """Change its limits, as in `run`. Raises RootlessError."""
        limits = {"memory": memory, "cpus": cpus, "pids": pids}
        self._control("update", {name: value for name, value in limits.items() if value is not None})

    def _control(self, action: str, words: Any) -> str:
        """Ask the launcher to change the container, such as to pause it; return its answer. Raises RootlessError."""
        self._require_running("read the figures of" if action == "stats" else action)
        answers = client.Answers()
        try:
            client.request(("control", answers.number, self.number, action, words), answers.request_fds([]))
            return answers.await_answer()
        finally:
            answers.close()

    def _require_running(self, action: str) -> None:
        if self.poll() is not None:
            raise RootlessError(f"cannot {action} a container that has stopped: container not running")

    @property
    def number(self) -> int:
        """The launcher's number of this container."""
        if self._answers is None:
            raise RootlessError("the container was not started")
        return self._answers.number


class Executed(Popen[AnyStr]):
    """One more program in a container that runs."""

    def __init__(self, container: Popen[Any], *args: Any, **keywords: Any) -> None:
        self._target = container.number
        self._container = container._settings
        self._base = container._place
        self._ids: dict[str, Any] = {}
        super().__init__(*args, **keywords)

    def _pack(self, about: dict[str, Any], user: Any, group: Any, groups: Any) -> settings.Packed:
        """Return the settings of the container, which is there already."""
        if about:
            raise TypeError(f"{next(iter(about))} is the container's own: exec cannot change it")
        self._ids = {"user": user, "group": group, "groups": groups}
        return self._container

    def _message(self, number: int, words: Any) -> tuple[Any, ...]:
        args, program, env, place, *rest = words
        words = args, program, self._base[0] if env is None else env, place or self._base[1], *rest
        return "control", number, self._target, "exec", (words, self._ids)


def _name_positional(values: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    """Put arguments without a name under subprocess's names for them. Raises TypeError."""
    if len(values) > len(_POSITIONAL):
        raise TypeError(f"at most {len(_POSITIONAL) + 3} arguments may stand without their names")
    for name, value in zip(_POSITIONAL, values, strict=False):
        if name in keywords:
            raise TypeError(f"{name} is given twice")
        keywords[name] = value


if TYPE_CHECKING:

    @overload
    def run(
        args: Command, bufsize: int = ..., executable: FilePath | None = ...,
        *, input: str | None = ..., text: bool | None = ..., encoding: str, errors: str | None = ...,
        universal_newlines: bool | None = ..., **keywords: Unpack[RunKeywords],
    ) -> CompletedProcess[str]: ...  # fmt: skip

    @overload
    def run(
        args: Command, bufsize: int = ..., executable: FilePath | None = ...,
        *, input: str | None = ..., text: bool | None = ..., encoding: str | None = ..., errors: str,
        universal_newlines: bool | None = ..., **keywords: Unpack[RunKeywords],
    ) -> CompletedProcess[str]: ...  # fmt: skip

    @overload
    def run(
        args: Command, bufsize: int = ..., executable: FilePath | None = ...,
        *, input: str | None = ..., text: bool | None = ..., encoding: str | None = ..., errors: str | None = ...,
        universal_newlines: Literal[True], **keywords: Unpack[RunKeywords],
    ) -> CompletedProcess[str]: ...  # fmt: skip

    @overload
    def run(
        args: Command, bufsize: int = ..., executable: FilePath | None = ...,
        *, input: str | None = ..., text: Literal[True], encoding: str | None = ..., errors: str | None = ...,
        universal_newlines: bool | None = ..., **keywords: Unpack[RunKeywords],
    ) -> CompletedProcess[str]: ...  # fmt: skip

    @overload
    def run(
        args: Command, bufsize: int = ..., executable: FilePath | None = ...,
        *, input: Data | None = ..., text: Literal[False] | None = ..., encoding: None = ..., errors: None = ...,
        universal_newlines: Literal[False] | None = ..., **keywords: Unpack[RunKeywords],
    ) -> CompletedProcess[bytes]: ...  # fmt: skip

    @overload
    def run(
        args: Command, bufsize: int = ..., executable: FilePath | None = ...,
        *, input: Data | str | None = ..., text: bool | None = ..., encoding: str | None = ...,
        errors: str | None = ..., universal_newlines: bool | None = ..., **keywords: Unpack[RunKeywords],
    ) -> CompletedProcess[Any]: ...  # fmt: skip


def run(
    *popenargs: Any,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **kwargs: Any,
) -> CompletedProcess[Any]:
    """Run a program in a container, wait for its end, and return a CompletedProcess: subprocess.run's arguments.

    Raises subprocess's own TimeoutExpired and CalledProcessError, with the output so far, and RootlessError.
    """
    kwargs.update(input=input, capture_output=capture_output, timeout=timeout, check=check)
    return run_with(Popen, *popenargs, **kwargs)


def run_with(
    start: Callable[..., Popen[Any]],
    *popenargs: Any,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **kwargs: Any,
) -> CompletedProcess[Any]:
    """Do what subprocess.run does, with a process that `start` returns."""
    if input is not None:
        if kwargs.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        kwargs["stdin"] = subprocess.PIPE
    if capture_output:
        if kwargs.get("stdout") is not None or kwargs.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        kwargs["stdout"] = kwargs["stderr"] = subprocess.PIPE
    with start(*popenargs, **kwargs) as process:
        try:
            stdout, stderr = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        except LauncherError:
            process.returncode = -9  # so the container was, too
            raise
        except BaseException:  # Ctrl-C does not reach the container, and the caller may be about to remove its root
            process.kill()
            try:
                process._wait(_ENDING)  # `wait` would begin again after another Ctrl-C
            except subprocess.TimeoutExpired:
                pass
            raise
        code = process.poll()
        assert code is not None
        if check and code:
            raise subprocess.CalledProcessError(code, process.args, output=stdout, stderr=stderr)
    return CompletedProcess(process.args, code, stdout, stderr, oom_killed=process.oom_killed)
