"""Run hooks: programs that get the container's state on stdin at fixed moments (config.md#posix-platform-hooks)."""

from __future__ import annotations

from _signal import SIG_BLOCK, SIG_SETMASK, SIGKILL, pthread_sigmask  # type: ignore[import-not-found]
from _stat import S_ISCHR

from rootless import log
from rootless.errors import RootlessError, permissions_explained, printable
from rootless.kernel import child, proc
from rootless.kernel import syscalls as sc
from rootless.kernel.signals import ENDING
from rootless.kernel.waiting import wait_for
from rootless.process import program
from rootless.startup import jsonlite
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.process.report import Report


class Hook:
    """One hook of config.json.

    env: None if it names none; timeout: seconds, 0 for none; stdout, stderr: files that crun's annotations name, "" for
    none.
    """

    __slots__ = ("args", "env", "path", "pointer", "stderr", "stdout", "timeout")

    def __init__(
        self, pointer: str, path: str, args: list[str], env: list[str] | None, timeout: int, stdout: str, stderr: str
    ) -> None:
        self.pointer = pointer
        self.path = path
        self.args = args
        self.env = env
        self.timeout = timeout
        self.stdout = stdout
        self.stderr = stderr


class HookContext:
    """Hold what hooks get: the state on standard input, the environment, and files for their output.

    state: as runtime.md#state describes it, with the status for this moment; its pid stays the number that the runtime
    sees, also for hooks that run in the container. env: what a hook that names none gets, None for the runtime's own
    environment, as with runc. say: takes a line for --debug, because init has closed the log before its last hooks.
    streams: files for their output that are open already, by path.
    """

    __slots__ = ("env", "say", "state", "streams")

    def __init__(
        self, state: Report, status: str, env: list[str] | None = None, say: Callable[[str], None] = log.debug
    ) -> None:
        self.state = {**state, "status": status}
        self.env = env
        self.say = say
        self.streams: dict[str, int] = {}


def run_hook(hook: Hook, moment: str, context: HookContext) -> None:
    """Run one hook and wait for its end, at most `timeout` seconds. Raises RootlessError when it fails.

    Its stdin and stderr are files in memory, because a pipe blocks a writer when it is full (pipe(7)). Its stdout is
    the null device, as with runc and crun, because our stdout is the program's and may have lost its reader.
    """
    stdin, stderr = os.memfd_create("state"), os.memfd_create("stderr")
    with open(stdin, "wb", closefd=False) as file:
        file.write(jsonlite.dumps(context.state).encode())
    os.lseek(stdin, 0, os.SEEK_SET)
    begun_by = os.getpid()
    # Signals are blocked, because one between the clone and the `try` in _wait would leave the hook running.
    before = pthread_sigmask(SIG_BLOCK, ENDING)
    try:
        pid, pidfd = child.clone(0, lambda: _become_hook(hook, stdin, stderr, context, begun_by))
        os.close(stdin)
        status = _wait(pid, pidfd, hook, moment, before)
        output = os.pread(stderr, 4096, 0).decode("utf-8", "replace").strip()
    finally:
        pthread_sigmask(SIG_SETMASK, before)
        os.close(stderr)
    if status:
        raise RootlessError(_describe(hook, moment, os.waitstatus_to_exitcode(status), output), hook.pointer)
    if output:
        context.say(f"{moment} hook: {hook.path}: {output}")


def _wait(pid: int, pidfd: int, hook: Hook, moment: str, mask: set[int]) -> int:
    """Wait for the hook; return its wait status. Raises RootlessError when its time is over.

    The hook is killed then, and also when a signal ends the command. mask: the signals to block while waiting.
    """
    try:
        pthread_sigmask(SIG_SETMASK, mask)
        if hook.timeout and not wait_for(pidfd, hook.timeout):
            raise RootlessError(f"{moment} hook took longer than {hook.timeout} s", hook.pointer)
        _, status = os.waitpid(pid, 0)
    except BaseException:
        proc.end(pid, pidfd)
        raise
    os.close(pidfd)
    return status


def _describe(hook: Hook, moment: str, code: int, output: str) -> str:
    """Return the message for a failed hook: runc's words for an error, crun's for poststop, which only warns."""
    detail = f": {output}" if output else ""
    if moment == "poststop":
        how = f"failed with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
        return f"poststop hook {how}: {hook.path}{detail}"
    how = f"exit status {code}" if code >= 0 else f"signal {-code}"
    number = hook.pointer.rpartition("/")[2]
    return f"error running {moment} hook #{number}: {hook.path}: {how}{detail}"


def _open_sink() -> int:
    """Open the null device for a hook's stdout.

    startContainer hooks see the container's /dev, whose `null` may be anything. Then a file in memory takes its place.
    """
    try:
        fd = os.open("/dev/null", os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        status = os.fstat(fd)
        if S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3):  # null(4)
            return fd
    except OSError:
        pass
    return os.memfd_create("stdout")


def open_stream(path: str) -> int:
    """Open a file for what hooks print, to be appended to. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o700)


def _become_hook(hook: Hook, stdin: int, stderr: int, context: HookContext, parent: int) -> None:
    try:
        # A hook that hangs must not outlive a runtime that `delete --force` has killed: prctl(2).
        sc.prctl(sc.PR_SET_PDEATHSIG, SIGKILL)
        if os.getppid() != parent:  # the runtime ended before prctl
            os._exit(127)
        if permissions_explained():  # we were root: this user's programs must not get root's terminal (TIOCSTI)
            os.setsid()
        os.dup2(stdin, 0)
        os.dup2(_open_sink(), 1)
        os.dup2(stderr, 2)
        for fd, path in ((1, hook.stdout), (2, hook.stderr)):
            if path:
                os.dup2(context.streams[path] if path in context.streams else open_stream(path), fd)
        given = context.env if hook.env is None else hook.env
        environment = dict(os.environ) if given is None else dict(e.split("=", 1) for e in given if "=" in e)
        program.become(hook.path, hook.args, environment)
    except Exception as error:  # ValueError: what CPython's execve does not take, such as an empty args[0]
        said = str(error).encode("utf-8", "replace")
        if isinstance(error, OSError):
            place = f"{printable(error.filename)}: " if error.filename not in (None, hook.path) else ""
            said = f"{place}{error.strerror}".encode("utf-8", "replace")
        for fd in (stderr, 2):  # try both: the first may be closed, the second may be the file of an annotation
            try:
                os.write(fd, said)
                break
            except OSError:
                continue
    finally:
        os._exit(127)
