"""Replace `os.path` in hot modules, with the same names, arguments and results. lean_os.py exports this as `path`."""

import posix
from _stat import S_ISDIR, S_ISREG
from errno import EACCES, EBADF, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NOTHING = frozenset((EACCES, EBADF, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR))


def exists(path: str) -> bool:
    """Return whether stat(2) finds the path."""
    return _mode(path) != 0


def isdir(path: str) -> bool:
    """Return whether the path is a directory, or a link to one."""
    return S_ISDIR(_mode(path))


def isfile(path: str) -> bool:
    """Return whether the path is a regular file, or a link to one."""
    return S_ISREG(_mode(path))


def dirname(path: str) -> str:
    """Return the part before the last `/`, without the slashes at its end."""
    head = path[: path.rfind("/") + 1]
    return head.rstrip("/") or head


def basename(path: str) -> str:
    """Return the part after the last `/`."""
    return path[path.rfind("/") + 1 :]


def normpath(path: str) -> str:
    """Return the path without `.`, double slashes, and names before `..`. Links are not resolved.

    Two slashes at the front stay (POSIX, Pathname Resolution).
    """
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
    """Return the absolute path, normalised by `normpath`."""
    return normpath(path if path[:1] == "/" else f"{posix.getcwd()}/{path}")


def realpath(path: str) -> str:
    """Return the path without symbolic links, as the kernel resolves it. Raises OSError if it does not exist."""
    fd = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
    try:
        return posix.readlink(f"/proc/self/fd/{fd}")
    finally:
        posix.close(fd)


def _mode(path: "str | int") -> int:
    """Return the file's mode, 0 if the path does not exist. Raises OSError for other failures, such as ENOMEM."""
    try:
        return posix.stat(path).st_mode
    except ValueError:
        return 0
    except OSError as error:
        if error.errno not in _NOTHING:
            raise
        return 0


def __getattr__(name: str) -> "Any":
    if name[:2] == "__":  # the import system asks every module for __path__
        raise AttributeError(name)
    import os

    return getattr(os.path, name)
