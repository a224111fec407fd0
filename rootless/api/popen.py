"""`run` and `Popen`: subprocess's own, in a container. What is not said here is subprocess's.

`Popen` is a subprocess.Popen whose child is made by the launcher, and waited for on a socket instead of by wait4(2).
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

from rootless.api import client, settings
from rootless.errors import LauncherError, ProgramError, ProgramNotExecutable, ProgramNotFound, RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

_NOT_FOUND = (errno.ENOENT, errno.ENOTDIR)
_EXECUTE_NAMES = subprocess.Popen._execute_child.__code__.co_varnames[1:]  # type: ignore[attr-defined]


class CompletedProcess(subprocess.CompletedProcess):  # type: ignore[type-arg]
    """A subprocess.CompletedProcess; oom_killed: whether the memory limit ended a process of the container."""

    def __init__(
        self, args: Any, returncode: int, stdout: Any = None, stderr: Any = None, *, oom_killed: bool = False
    ) -> None:
        super().__init__(args, returncode, stdout, stderr)
        self.oom_killed = oom_killed


class Popen(subprocess.Popen):  # type: ignore[type-arg]
    """A program that runs in a container of its own.

    pid: the program's, as the caller sees it; name: the container's, "" for none; oom_killed: once it has ended,
    whether the memory limit ended a process of the container.
    """

    def __init__(self, args: Any, bufsize: int = -1, executable: Any = None, **keywords: Any) -> None:
        self._child_created = False
        self._answers: client.Answers | None = None
        self._pidfd = -1
        self._deferred = keywords.pop("_deferred", False)
        self.oom_killed = False
        about = {name: keywords.pop(name) for name in settings.NAMES.intersection(keywords)}
        if keywords.get("preexec_fn") is not None:
            raise ValueError("preexec_fn is a function of this process: in a container there is nothing to call it")
        if not keywords.get("close_fds", True):
            raise ValueError("close_fds=False: a container gets no descriptors but those of pass_fds")
        user, group, groups = (keywords.pop(name, None) for name in ("user", "group", "extra_groups"))
        _check_ids(user, group, groups)
        self._settings = settings.Packed(about, user, group, groups)  # type: ignore[arg-type]
        self.name = self._settings.name
        super().__init__(args, bufsize, executable, **keywords)

    # --- subprocess's own places to make and to wait for a child

    def _execute_child(self, *values: Any) -> None:
        given = dict(zip(_EXECUTE_NAMES, values, strict=False))
        args, executable = command(given["args"], given["executable"], shell=given["shell"])
        sys.audit("subprocess.Popen", executable or args[0], given["args"], given["cwd"], given["env"])
        closed, fds = _streams(given["p2cread"], given["c2pwrite"], given["errwrite"])
        passed = [int(fd) for fd in given["pass_fds"]]
        for fd in passed:
            os.fstat(fd)
        group = given.get("process_group")
        words = words_of(
            args, executable, env=given["env"], cwd=given["cwd"], umask=given["umask"],
            restore=bool(given["restore_signals"]), session=bool(given["start_new_session"]),
            group=-1 if group is None else group, pid1=self._settings.pid1, closed=closed, passed=passed,
        )  # fmt: skip
        self._asked = (args, executable, given["cwd"])
        answers = client.Answers()
        try:
            client.request(self._message(answers.number, words), answers.ask([*fds, *passed]))
            answers.sent()
        except BaseException:
            answers.close()
            raise
        self._answers = answers
        if not self._deferred:
            self._finish_start()
            self._close_childs_ends(given)
        else:
            self._close_childs_ends(given)

    def _message(self, number: int, words: Any) -> tuple[Any, ...]:
        """Return the request for this process."""
        return "run", number, self._settings.data, words

    def _close_childs_ends(self, given: Mapping[str, Any]) -> None:
        """Close what only the child needs of the pipes, as subprocess does."""
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
            self._answers.abandon()
            raise
        self._child_created = True

    def _note_end(self) -> None:
        """Take over what is known of the end; close what waited for it."""
        answers = self._answers
        assert answers and answers.status is not None
        self._handle_exitstatus(answers.status)  # type: ignore[attr-defined]
        self.oom_killed = answers.kills > 0
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        answers.end.close()

    def _wait(self, timeout: float | None) -> int:
        lock = self._waitpid_lock  # type: ignore[attr-defined]
        while self.returncode is None:
            if not lock.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            try:
                if self.returncode is not None:
                    break
                if not self._is_ours():
                    self.returncode = 0
                    break
                assert self._answers
                if self._answers.wait(timeout, complete=self._settings.has_cgroup) is None:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
                self._note_end()
            finally:
                lock.release()
        return self.returncode

    def _is_ours(self) -> bool:
        """Whether this process made the container: in a forked child its end is not to be known, as with wait4(2)."""
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
                    elif self._answers and self._answers.wait(0, complete=self._settings.has_cgroup) is not None:
                        self._note_end()
            except (LauncherError, OSError):
                if _deadstate is None:
                    raise
                self.returncode = _deadstate
            finally:
                lock.release()
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal to the program; nothing where it has ended (pidfd_send_signal(2))."""
        self.poll()
        if self.returncode is not None or self._pidfd < 0:
            return
        try:
            signal.pidfd_send_signal(self._pidfd, sig)
        except ProcessLookupError:
            pass

    # --- what only a container has

    def exec(self, args: Any, **keywords: Any) -> CompletedProcess:
        """Run one more program in the container, and wait for it; the arguments are those of `run`."""
        self._require_running("exec in")

        def start(words: Any, **rest: Any) -> Popen:
            return Executed(self, words, **rest)

        return run_with(start, args, **keywords)

    def pause(self) -> None:
        """Freeze every process of the container. Raises RootlessError where it has no cgroup."""
        self._control("pause", ())

    def resume(self) -> None:
        """Let them go on."""
        self._control("resume", ())

    def stats(self) -> dict[str, Any]:
        """Return the figures of its cgroup, in the form of `rootless events --stats`."""
        import json

        figures: dict[str, Any] = json.loads(self._control("stats", ()))
        return figures

    def update(self, **limits: Any) -> None:
        """Change its limits: memory, cpus and pids, as in `run`."""
        self._control("update", limits)

    def _control(self, action: str, words: Any) -> str:
        """Have the launcher do something to the container; return its answer. Raises RootlessError."""
        self._require_running(action)
        answers = client.Answers()
        try:
            client.request(("control", answers.number, self.number, action, words), answers.ask([]))
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


class Executed(Popen):
    """One more program in a container that runs."""

    def __init__(self, container: Popen, args: Any, **keywords: Any) -> None:
        self._target = container.number
        for name in ("user", "group", "extra_groups", "executable", "start_new_session", "process_group"):
            if keywords.get(name) not in (None, False):
                raise ValueError(f"{name} cannot be given: exec takes the container's own")
        super().__init__(args, **keywords)

    def _message(self, number: int, words: Any) -> tuple[Any, ...]:
        return "control", number, self._target, "exec", words


def run(*popenargs: Any, **kwargs: Any) -> CompletedProcess:
    """Run a program in a container, wait for its end, and return a CompletedProcess: subprocess.run's arguments.

    Raises subprocess's own TimeoutExpired and CalledProcessError, with the output so far, and RootlessError.
    """
    return run_with(Popen, *popenargs, **kwargs)


def run_with(
    start: Callable[..., Popen],
    *popenargs: Any,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **kwargs: Any,
) -> CompletedProcess:
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
        except BaseException:
            process.kill()
            raise
        code = process.poll()
        assert code is not None
        if check and code:
            raise subprocess.CalledProcessError(code, process.args, output=stdout, stderr=stderr)
    return CompletedProcess(process.args, code, stdout, stderr, oom_killed=process.oom_killed)


def translate(error: RootlessError, args: Any, executable: Any, cwd: Any, *, is_host: bool) -> RootlessError:
    """Return the error as subprocess's callers know it: an OSError with the program's or the directory's name."""
    if not error.errno or not error.where.startswith(("/process/args", "/process/cwd")):
        return error
    filename = cwd if error.where == "/process/cwd" else executable or args[0]
    hint = error.hint
    if is_host and error.errno in _NOT_FOUND:
        hint = _host_hint(os.fsdecode(filename)) or hint
    kind = ProgramError
    if error.errno == errno.ENOENT:
        kind = ProgramNotFound
    elif error.errno in (errno.EACCES, errno.EPERM):
        kind = ProgramNotExecutable
    return kind(error.what, error.where, error.errno, hint, filename)


def words_of(
    args: list[Any],
    executable: Any,
    *,
    env: Any,
    cwd: Any,
    umask: int = -1,
    restore: bool = True,
    session: bool = False,
    group: int = -1,
    pid1: bool = False,
    closed: Iterable[int] = (),
    passed: Iterable[int] = (),
) -> tuple[Any, ...]:
    """Return a call as the launcher takes it (init/launched.py, Call). Raises ValueError for a NUL byte."""
    words = [os.fsencode(arg) for arg in args]
    place = b"" if cwd is None else os.fsencode(cwd)
    if any(b"\0" in word for word in (place, *words)):
        raise ValueError("embedded null byte")
    program = os.fsencode(executable or b"")
    return words, program, _environment(env), place, umask, restore, session, group, pid1, [*closed], [*passed]


def command(args: Any, executable: Any, *, shell: bool) -> tuple[list[Any], Any]:
    """Return (argv, executable) as subprocess makes them; the shell is the container's /bin/sh."""
    if isinstance(args, (str, bytes)):
        words: list[Any] = [args]
    elif isinstance(args, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        words = [args]
    else:
        words = list(args)
    if shell:
        words = ["/bin/sh", "-c", *words]
        if executable:
            words[0] = executable
    if not words:
        raise IndexError("list index out of range")
    return words, words[0] if executable is None else executable


def _environment(env: Any) -> list[bytes] | None:
    if env is None:
        return None
    entries = []
    for name, value in env.items():
        name, value = os.fsencode(name), os.fsencode(value)
        if b"=" in name:
            raise ValueError("illegal environment variable name")
        if b"\0" in name or b"\0" in value:
            raise ValueError("embedded null byte")
        entries.append(name + b"=" + value)
    return entries


def _streams(stdin: int, stdout: int, stderr: int) -> tuple[list[int], list[int]]:
    """Return (which of 0, 1 and 2 are closed in the program, the fds of the others): -1 is the caller's own."""
    closed, fds = [], []
    for number, fd in enumerate((stdin, stdout, stderr)):
        fd = number if fd == -1 else fd
        try:
            os.fstat(fd)
            fds.append(fd)
        except OSError:
            if fd != number:
                raise
            closed.append(number)
    return closed, fds


def _check_ids(user: Any, group: Any, groups: Any) -> None:
    """Check the types as subprocess does; the names are the container's own."""
    for word, value in (("user", user), ("group", group)):
        if value is None or isinstance(value, str):
            continue
        if not isinstance(value, int):
            raise TypeError(f"{word.capitalize()} must be a string or an integer, not {type(value)}")
        _check_range(word, value)
    if isinstance(groups, str):
        raise ValueError("Groups must be a list, not a string")
    for value in groups or ():
        if not isinstance(value, (str, int)):
            raise TypeError(f"Items in extra_groups must be a string or integer, not {type(value)}")
        if isinstance(value, int):
            _check_range("group", value)


def _check_range(word: str, value: int) -> None:
    if value < 0:
        raise ValueError(f"{word.capitalize()} ID cannot be negative, got {value}")
    if value >= 2**32:
        raise OverflowError(f"{word} id is larger than 32 bits")


def _host_hint(name: str) -> str:
    """Return what brings a program of the host's into the container that is there, but not in it; "" for none."""
    import shutil

    path = name if "/" in name else shutil.which(name) or ""
    if not path or not os.path.exists(path):
        return ""
    path = os.path.abspath(path)
    prefixes = []
    for each in dict.fromkeys((path, os.path.realpath(path))):
        prefix = os.path.dirname(os.path.dirname(each))
        if prefix not in ("/", "/usr", "/usr/local"):
            prefixes.append(f"{prefix}:{prefix}:ro")
    return f"volumes={prefixes!r}" if prefixes else ""
