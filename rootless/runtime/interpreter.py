"""The interpreter's file: never one that root in the container could write (CVE-2019-5736).

A process on its way into a container, or a program named /proc/self/exe, shows the container the file that we run
from. Where the container's root owns it, the kernel would let it be overwritten: then a sealed copy is run instead.
"""

from __future__ import annotations

import fcntl
import sys

from rootless.errors import RootlessError
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import IdMap

_EXE = "/proc/self/exe"
_PIECE = 1 << 24  # bytes a sendfile(2)


def protect(uid_map: IdMap, gid_map: IdMap) -> None:
    """Return where the interpreter's file is safe from root of these maps; otherwise run this command line again from
    a sealed memfd (memfd_create(2)), where this function then returns.

    Call it before anything is changed, locked or cloned. Empty maps mean no user namespace: all ids are the
    container's. Raises RootlessError where no copy can be made: there is no way on.
    """
    fd = os.open(_EXE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if writable(os.fstat(fd), uid_map, gid_map) and not _sealed(fd):
            _execute_copy(fd)
    except OSError as error:
        raise RootlessError.from_os(
            error, "cannot run from a sealed copy of the interpreter", _EXE, "use one that root owns, /usr/bin/python3"
        ) from None
    finally:
        os.close(fd)


def writable(found: os.stat_result, uid_map: IdMap, gid_map: IdMap) -> bool:
    """Whether root of these maps could write, or make writable, a file: capabilities reach what has a mapped owner."""
    return (
        _mapped(found.st_uid, uid_map)
        or (_mapped(found.st_gid, gid_map) and bool(found.st_mode & 0o020))
        or bool(found.st_mode & 0o002)
    )


def _mapped(number: int, id_map: IdMap) -> bool:
    return not id_map or any(first <= number < first + size for _, first, size in id_map)


def _sealed(fd: int) -> bool:
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE)
    except OSError:  # EINVAL: no memfd
        return False


def _execute_copy(fd: int) -> None:
    copy = os.memfd_create("rootless", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    while os.sendfile(copy, fd, None, _PIECE):
        pass
    os.fchmod(copy, 0o500)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(copy, fcntl.F_ADD_SEALS, seals)
    # argv[0] stays the interpreter's path: it finds its library by that.
    os.execve(copy, [sys.executable or sys.orig_argv[0], *sys.orig_argv[1:]], os.environ)
