"""Keep the interpreter's file safe from root in the container (CVE-2019-5736).

A process that enters a container shows it the interpreter's file as /proc/PID/exe, and a program named /proc/self/exe
would run it. If the container's root owns that file, it could overwrite it. Then this module runs a sealed copy.
"""

from __future__ import annotations

import errno
import fcntl
import sys

from rootless.errors import RootlessError
from rootless.kernel.files import make_program, seal
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import IdMap

_EXE = "/proc/self/exe"
_PIECE = 1 << 24  # bytes for each sendfile(2)


def protect(uid_map: IdMap, gid_map: IdMap) -> None:
    """Return if root of these maps cannot write the interpreter's file. Otherwise execute this command line again.

    The second run uses a sealed copy in a memfd (memfd_create(2)), and this function returns there. Call it before
    anything is changed, locked or cloned. Empty maps mean that the container has no user namespace and can have all
    ids. Raises RootlessError if no copy can be made, because the command cannot continue then.
    """
    fd = os.open(_EXE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if writable(os.fstat(fd), uid_map, gid_map) and not _sealed(fd):
            _execute_copy(fd)
    except OSError as error:
        from rootless.kernel.hints import hint

        what = "cannot run from a sealed copy of the interpreter"
        name = "memfd-noexec" if error.errno == errno.EACCES else "own-interpreter"
        raise RootlessError.from_os(error, what, _EXE, hint(name).text) from None
    finally:
        os.close(fd)


def writable(status: os.stat_result, uid_map: IdMap, gid_map: IdMap) -> bool:
    """Return whether root of these maps may write a file or change its mode, which takes a mapped owner."""
    return (
        _mapped(status.st_uid, uid_map)
        or (_mapped(status.st_gid, gid_map) and bool(status.st_mode & 0o020))
        or bool(status.st_mode & 0o002)
    )


def _mapped(number: int, id_map: IdMap) -> bool:
    return not id_map or any(first <= number < first + size for _, first, size in id_map)


def _sealed(fd: int) -> bool:
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE)
    except OSError:  # EINVAL: not a memfd
        return False


def _execute_copy(fd: int) -> None:
    copy = make_program("rootless")
    while os.sendfile(copy, fd, None, _PIECE):
        pass
    os.fchmod(copy, 0o500)
    seal(copy)
    # Python finds its standard library by argv[0], so that stays the interpreter's path.
    os.execve(copy, [sys.executable or sys.orig_argv[0], *sys.orig_argv[1:]], os.environ)
