"""Run a function as root of a user namespace with the user's id map, so that it can use files of subordinate ids."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from typing import TYPE_CHECKING, NoReturn

from oci.errors import OciError
from rootless import log
from rootless.errors import RootlessError, unexpected
from rootless.kernel import proc
from rootless.kernel import syscalls as sc
from rootless.kernel.files import close_at_last, write_all, write_at_once
from rootless.kernel.host import Host
from rootless.userns.hints import explain_refusal
from rootless.userns.idmap import default_maps as default_maps
from rootless.userns.idmap import write_maps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rootless.kernel.host import IdMap

    Signals = Sequence[signal.Signals]


def run_in_userns(uid_map: IdMap, gid_map: IdMap, function: Callable[[], int], signals: Signals = ()) -> int:
    """Run `function` in a forked child that is root of a new user namespace with these maps; return its exit code.

    With empty maps no namespace is made. If `function` raises, the child prints the error in one line and exits with 1.
    If a signal ends the child, the result is 128+n. signals: they end the child, and this process passes them on to it.
    The child starts the function only when this process is ready to wait for it. Raises RootlessError, OSError.
    """
    if not uid_map and not signals:
        return function()
    fds: set[int] = set()
    # Block SIGINT until each process is in its own `try`. Otherwise KeyboardInterrupt in the child would unwind the
    # parent's stack, which the child has a copy of.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*signals, signal.SIGINT})
    # The kernel reaps the children of a process that ignores SIGCHLD, so nobody could wait for them (wait(2), NOTES).
    is_reaped = signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    try:
        if is_reaped:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        fds |= {*(child_end := os.pipe2(os.O_CLOEXEC))}
        fds |= {*(go := os.pipe2(os.O_CLOEXEC))}
        pid = os.fork()
        if pid == 0:
            try:
                _child(child_end, go, function, signals, before, is_mapped=bool(uid_map))
            finally:
                os._exit(1)
        for fd in (child_end[1], go[0]):
            fds.remove(fd)
            close_at_last(fd)
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, {*before, *signals})
            # A pidfd, because the pid may belong to another process by the time a handler runs.
            fds.add(child := os.pidfd_open(pid))
            if uid_map:
                _map(os.read(child_end[0], 4), pid, uid_map, gid_map)
            with contextlib.suppress(BrokenPipeError):  # the child has ended, and has printed why
                write_at_once(go[1], b"m")
            status = _wait(pid, child, signals)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
    finally:
        close_at_last(*fds)
        if is_reaped:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def call_as_range_root(function: Callable[[], str]) -> str:
    """Return the result of the function, called as root of all the user's ids. Raises OSError and RootlessError."""
    result = os.memfd_create("result")
    try:
        if number := run_in_userns(*default_maps(Host()), lambda: _store(result, function)):
            raise OSError(number, os.strerror(number))
        return os.pread(result, os.fstat(result).st_size, 0).decode()
    finally:
        close_at_last(result)


def _store(result: int, function: Callable[[], str]) -> int:
    try:
        write_all(result, function().encode())
    except OSError as error:
        return error.errno or 1
    return 0


def _map(answer: bytes, pid: int, uid_map: IdMap, gid_map: IdMap) -> None:
    """Write the child's maps. answer: the errno of its unshare(2), 0 for success, in 4 bytes. Raises RootlessError."""
    if not answer:  # the child has printed an error, or was killed
        return
    number = int.from_bytes(answer)
    if number:
        raise RootlessError("cannot create a user namespace", errno=number, hint=explain_refusal(number))
    proc_fd = proc.open_proc()
    try:
        write_maps(proc_fd, pid, uid_map, gid_map, Host(), is_default=False)
    finally:
        os.close(proc_fd)


def _wait(pid: int, child: int, signals: Signals) -> int:
    """Wait for the child and return its wait status. child: its pidfd; `signals` are unblocked, and passed on to it."""

    def pass_on(signum: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child, signum)

    before = {signum: signal.signal(signum, pass_on) for signum in signals}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    try:
        while True:
            try:
                return os.waitpid(pid, 0)[1]
            except KeyboardInterrupt:  # the terminal sent it to the child, too, which ends by itself
                continue
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _child(
    parent: tuple[int, int],
    go: tuple[int, int],
    function: Callable[[], int],
    signals: Signals,
    mask: set[signal.Signals | int],
    *,
    is_mapped: bool,
) -> NoReturn:
    """Run the function when the parent allows it, then exit. Never return or raise: the stack above is the parent's."""
    code = 1
    try:
        for signum in signals:
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(go[1])
        is_ready = (not is_mapped or _make_namespace(parent[1])) and os.read(go[0], 1)
        for fd in (*parent, go[0]):  # before `function`, which may need the descriptors
            os.close(fd)
        if is_ready:  # otherwise the parent has failed, or was killed
            if is_mapped:
                sc.setresgid(0)
                sc.setresuid(0)
            code = function()
    except BaseException as error:
        code = _report(error)
    finally:
        os._exit(code)


def _make_namespace(parent: int) -> bool:
    """Make a user namespace and send the errno to the parent, 0 if it worked. The parent reports a failure."""
    number = 0
    try:
        sc.unshare(sc.CLONE_NEWUSER)
    except OSError as error:
        number = error.errno or errno.EPERM
    write_at_once(parent, number.to_bytes(4))
    return not number


def _report(error: BaseException) -> int:
    """Print why the child ends in one line, with --debug also the traceback; return the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    line = type(error).__name__
    try:
        line = error.message() if isinstance(error, OciError) else unexpected(error).message()
        log.error(line)
        log.trace(error)
    except Exception:  # it may fail for the same reason: no memory or descriptors are left
        log.last_words(line)
    return 1
