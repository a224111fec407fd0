"""A function run as root of the user's own id map: for writing, reading and removing files of subordinate ids."""

from __future__ import annotations

import contextlib
import signal

from rootless import lean_os as os
from rootless import proc
from rootless import syscalls as sc
from rootless.errors import RootlessError
from rootless.files import write_at_once
from rootless.host import Host, default_id_map
from rootless.idmap import write_maps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rootless.host import IdMap

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

    An exception in the child ends it with 1 after its message went to standard error; a signal gives 128+n. With
    empty maps no namespace is made. `signals` end the child, and are passed on to it when they are sent here.
    """
    if not uid_map and not signals:
        return function()
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    ready, go = os.pipe2(os.O_CLOEXEC)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    pid = os.fork()
    if pid == 0:
        for signum in signals:
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(go)
        _child((theirs, ready) if uid_map else None, function)
    os.close(theirs)
    os.close(ready)
    try:
        if uid_map:
            if not os.read(ours, 1):
                raise RootlessError("no user namespace can be made", hint=_HINT)
            proc_fd = proc.open_proc()
            write_maps(proc_fd, pid, uid_map, gid_map, Host(), is_default=False)
            os.close(proc_fd)
            write_at_once(go, b"m")
        status = _wait(pid, signals)
    except BaseException:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(ours)
        os.close(go)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _wait(pid: int, signals: Signals) -> int:
    """The child's wait status; `signals`, which are blocked, come in meanwhile and go on to the child."""
    child = os.pidfd_open(pid)  # a pid may be another process's by the time that a handler runs

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
        os.close(child)


_HINT = "user namespaces may be restricted here: sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces"


def _child(parent: tuple[int, int] | None, function: Callable[[], int]) -> None:
    code = 1
    try:
        if parent is None or _become_root(*parent):
            code = function()
    except RootlessError as error:
        from rootless import log

        log.error(error.message())
    except OSError as error:
        from rootless import log

        log.error(RootlessError.from_os(error, "in the user namespace").message())
    finally:
        os._exit(code)


def _become_root(theirs: int, ready: int) -> bool:
    """Root of a new user namespace, when the parent has written its maps; False if it did not."""
    sc.unshare(sc.CLONE_NEWUSER)
    write_at_once(theirs, b"u")
    if not os.read(ready, 1):
        return False
    sc.setresgid(0)
    sc.setresuid(0)
    return True
