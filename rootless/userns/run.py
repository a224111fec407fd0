"""A function run as root of the user's own id map: for writing, reading and removing files of subordinate ids."""

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
from rootless.kernel.files import write_all, write_at_once
from rootless.kernel.host import Host, default_id_map
from rootless.userns.idmap import write_maps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rootless.kernel.host import IdMap

    Signals = Sequence[signal.Signals]


def default_maps(host: Host) -> tuple[IdMap, IdMap]:
    """(uid map, gid map): container 0 is the user, 1 and up the subordinate ids; root keeps its own ids."""
    if host.real_root:
        return [], []
    ranges = bool(host.subuid and host.subgid)
    return (
        default_id_map(host.uid, host.subuid if ranges else []),
        default_id_map(host.gid, host.subgid if ranges else []),
    )


def run(uid_map: IdMap, gid_map: IdMap, function: Callable[[], int], signals: Signals = ()) -> int:
    """Run `function` in a forked child that is root of a new user namespace with these maps; its exit code.

    Whatever the child ends with is told in one line on standard error, by the child if it comes from `function`: that
    gives 1; a signal gives 128+n. With empty maps no namespace is made. `signals` end the child, and are passed on to
    it when they are sent here. The child does nothing before this process has all that it needs to wait for it.
    Raises RootlessError, OSError.
    """
    if not uid_map and not signals:
        return function()
    fds: set[int] = set()
    # An interrupt must not raise before each of the two is in its own `try`: the child has this one's stack.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*signals, signal.SIGINT})
    try:
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
            os.close(fd)
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, {*before, *signals})
            fds.add(child := os.pidfd_open(pid))  # a pid may be another process's by the time that a handler runs
            if uid_map:
                _map(os.read(child_end[0], 4), pid, uid_map, gid_map)
            with contextlib.suppress(BrokenPipeError):  # it has ended, and said why
                write_at_once(go[1], b"m")
            status = _wait(pid, child, signals)
        except BaseException:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            raise
    finally:
        for fd in fds:
            os.close(fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def call_as_range_root(function: Callable[[], str]) -> str:
    """Return what the function returns, called as root of all the user's ids. Raises OSError and RootlessError."""
    result = os.memfd_create("result")
    try:
        if number := run(*default_maps(Host()), lambda: _store(result, function)):
            raise OSError(number, os.strerror(number))
        return os.pread(result, os.fstat(result).st_size, 0).decode()
    finally:
        os.close(result)


def _store(result: int, function: Callable[[], str]) -> int:
    try:
        write_all(result, function().encode())
    except OSError as error:
        return error.errno or 1
    return 0


def _map(said: bytes, pid: int, uid_map: IdMap, gid_map: IdMap) -> None:
    """Write the maps of a child that has said by four bytes what unshare(2) gave: 0, or its errno."""
    if not said:  # it has ended before, and said why or was killed
        return
    number = int.from_bytes(said)
    if number:
        raise RootlessError("no user namespace can be made", errno=number, hint=_HINT)
    proc_fd = proc.open_proc()
    try:
        write_maps(proc_fd, pid, uid_map, gid_map, Host(), is_default=False)
    finally:
        os.close(proc_fd)


def _wait(pid: int, child: int, signals: Signals) -> int:
    """Return the wait status of the child that `child` is a pidfd of; `signals`, blocked until now, go on to it."""

    def pass_on(signum: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child, signum)

    before = {signum: signal.signal(signum, pass_on) for signum in signals}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    try:
        while True:
            try:
                return os.waitpid(pid, 0)[1]
            except KeyboardInterrupt:  # the child got it too and ends by itself
                continue
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        for signum, handler in before.items():
            signal.signal(signum, handler)


_HINT = "user namespaces may be restricted here: sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces"


def _child(
    parent: tuple[int, int],
    go: tuple[int, int],
    function: Callable[[], int],
    signals: Signals,
    mask: set[signal.Signals | int],
    *,
    is_mapped: bool,
) -> NoReturn:
    """Run the function once the parent lets it go. Nothing leaves this: the stack above is the parent's."""
    code = 1
    try:
        for signum in signals:
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(go[1])
        is_ready = (not is_mapped or _make_namespace(parent[1])) and os.read(go[0], 1)
        for fd in (*parent, go[0]):  # descriptors may be short
            os.close(fd)
        if is_ready:  # else the parent has failed, or was killed
            if is_mapped:
                sc.setresgid(0)
                sc.setresuid(0)
            code = function()
    except BaseException as error:
        code = _report(error)
    finally:
        os._exit(code)


def _make_namespace(parent: int) -> bool:
    """Make a user namespace and tell the parent; where there is none, it is the parent that says so."""
    number = 0
    try:
        sc.unshare(sc.CLONE_NEWUSER)
    except OSError as error:
        number = error.errno or errno.EPERM
    write_at_once(parent, number.to_bytes(4))
    return not number


def _report(error: BaseException) -> int:
    """Say in one line what has ended the child, any exception, and with --debug where; the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    line = type(error).__name__
    try:
        line = error.message() if isinstance(error, OciError) else unexpected(error).message()
        log.error(line)
        log.trace(error)
    except Exception:  # what failed once may fail again: memory, descriptors
        log.last_words(line)
    return 1
