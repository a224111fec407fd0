"""A function run as root of the user's own id map: for writing, reading and removing files of subordinate ids."""

from __future__ import annotations

import os

from rootless import proc
from rootless import syscalls as sc
from rootless.errors import RootlessError
from rootless.host import Host, default_id_map
from rootless.idmap import write_maps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.host import IdMap


def default_maps(host: Host) -> tuple[IdMap, IdMap]:
    """(uid map, gid map): container 0 is the user, 1 and up the subordinate ids; root keeps its own ids."""
    if host.real_root:
        return [], []
    ranges = bool(host.subuid and host.subgid)
    return (
        default_id_map(host.uid, host.subuid if ranges else []),
        default_id_map(host.gid, host.subgid if ranges else []),
    )


def run(uid_map: IdMap, gid_map: IdMap, function: Callable[[], int]) -> int:
    """Run `function` in a forked child that is root of a new user namespace with these maps; its exit code.

    An exception in the child ends it with 1 after its message went to standard error; a signal gives 128+n. SIGINT and
    SIGTERM reach the child too, which cleans up after itself. With empty maps no namespace is made.
    """
    if not uid_map:
        return function()
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    ready, go = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _child(theirs, ready, go, function)
    os.close(theirs)
    os.close(ready)
    try:
        if not os.read(ours, 1):
            raise RootlessError("no user namespace can be made", hint=_HINT)
        proc_fd = proc.open_proc()
        write_maps(proc_fd, pid, uid_map, gid_map, Host(), is_default=False)
        os.close(proc_fd)
        os.write(go, b"m")
    except BaseException:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(ours)
        os.close(go)
    while True:
        try:
            _, status = os.waitpid(pid, 0)
            break
        except KeyboardInterrupt:  # the child got it too and ends by itself
            continue
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


_HINT = "user namespaces may be restricted here: sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces"


def _child(theirs: int, ready: int, go: int, function: Callable[[], int]) -> None:
    code = 1
    try:
        os.close(go)
        sc.unshare(sc.CLONE_NEWUSER)
        os.write(theirs, b"u")
        if os.read(ready, 1):
            sc.setresgid(0)
            sc.setresuid(0)
            code = function()
    except RootlessError as error:
        from rootless import log

        log.error(error.message())
    except OSError as error:
        from rootless import log

        log.error(RootlessError.from_os(error, "in the user namespace").message())
    finally:
        os._exit(code)
