"""`os.path` for the hot path: see lean_os.py, through which it is used. The same names, arguments and answers."""

import posix
from _stat import S_ISDIR, S_ISREG
from errno import EACCES, EBADF, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NOTHING = frozenset((EACCES, EBADF, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR))


def exists(path: str) -> bool:
    """Whether stat(2) finds it."""
    return _mode(path) != 0


def isdir(path: str) -> bool:
    """Whether it is a directory, or a link to one."""
    return S_ISDIR(_mode(path))


def isfile(path: str) -> bool:
    """Whether it is a regular file, or a link to one."""
    return S_ISREG(_mode(path))


def dirname(path: str) -> str:
    """What stands before the last `/`, without the slashes at its end."""
    head = path[: path.rfind("/") + 1]
    return head.rstrip("/") or head


def basename(path: str) -> str:
    """What stands behind the last `/`."""
    return path[path.rfind("/") + 1 :]


def normpath(path: str) -> str:
    """Without `.`, double slashes, and a name before `..`: by the text alone. Two slashes at the front stay (POSIX)."""
    if not path:
        return "."
    start = 0 if path[0] != "/" else 2 if path[:2] == "//" and path[:3] != "///" else 1
    names: list[str] = []
    for name in path.split("/"):
        if name in ("", "."):
            continue
        if name != ".." or (not start and not names) or (names and names[-1] == ".."):
            names.append(name)
        elif names:
            names.pop()
    return "/" * start + "/".join(names) or "."


def abspath(path: str) -> str:
    """Normal, and from the root."""
    return normpath(path if path[:1] == "/" else f"{posix.getcwd()}/{path}")


def realpath(path: str) -> str:
    """Where a path that exists leads to, as the kernel has it. Raises OSError."""
    fd = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
    try:
        return posix.readlink(f"/proc/self/fd/{fd}")
    finally:
        posix.close(fd)


def _mode(path: "str | int") -> int:
    """Return 0 where the path leads to nothing. Any other failure, such as ENOMEM, does not say that."""
    try:
        return posix.stat(path).st_mode
    except ValueError:
        return 0
    except OSError as error:
        if error.errno not in _NOTHING:
            raise
        return 0


def __getattr__(name: str) -> "Any":
    if name[:2] == "__":  # the import system asks for __path__
        raise AttributeError(name)
    import os

    return getattr(os.path, name)
