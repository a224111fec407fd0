"""Turn an error about the program into the one that subprocess raises, and say what brings a host's program in."""

from __future__ import annotations

import errno
import os

from rootless.errors import (
    ProgramError,
    ProgramNotADirectory,
    ProgramNotExecutable,
    ProgramNotFound,
    RootlessError,
    UnknownName,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROGRAMS = ("bin", "sbin", "libexec", "shims")  # directories of programs, which need what is beside them
_NOT_FOUND = (errno.ENOENT, errno.ENOTDIR)


def translate(error: RootlessError, executable: Any, cwd: Any, *, is_host: bool) -> RootlessError:
    """Return the error as subprocess's callers know it: mostly an OSError with the program's or directory's name."""
    if error.where in ("/etc/passwd", "/etc/group") and error.what.startswith("unknown "):
        return UnknownName(error.what, error.where, error.errno, error.hint)
    if error.where.startswith(("/process/user", "process_group=")):  # the errors of setgroups(2) and setpgid(2)
        return ProgramNotExecutable(error.what, error.where, error.errno or errno.EPERM, error.hint)
    if not error.errno or not error.where.startswith(("/process/args", "/process/cwd")):
        return error
    filename = cwd if error.where.startswith("/process/cwd") else executable
    hint = error.hint
    if is_host and error.errno in _NOT_FOUND:
        hint = _host_hint(os.fsdecode(filename)) or hint
    kind = ProgramError
    if error.errno == errno.ENOENT:
        kind = ProgramNotFound
    elif error.errno == errno.ENOTDIR:
        kind = ProgramNotADirectory
    elif error.errno in (errno.EACCES, errno.EPERM):
        kind = ProgramNotExecutable
    return kind(error.what, error.where, error.errno, hint, filename)


def _host_hint(name: str) -> str:
    """Return the hint how to bring a program into the container that exists on the host only; "" for none."""
    volumes, path = volumes_of(name)
    its_path = "" if "/" in name else f", and its path {path}"
    return f"volumes={volumes!r}{its_path}" if volumes else ""


def volumes_of(name: str) -> tuple[list[str], str]:
    """Return the volumes that bring a program in which exists on the host only, and its path; none, if it does not."""
    import shutil

    path = name if "/" in name else shutil.which(name) or ""
    if not path or not os.path.exists(path):
        return [], ""
    path = os.path.abspath(path)
    places = dict.fromkeys(map(_place_of, (path, os.path.realpath(path))))
    return [f"{place}:{place}:ro" for place in places if place not in ("/", "/usr", "/usr/local")], path


def _place_of(program: str) -> str:
    """Return what brings a program in: its prefix, its directory, or the file alone rather than a whole home."""
    directory = os.path.dirname(program)
    place = os.path.dirname(directory) if os.path.basename(directory) in _PROGRAMS else directory
    is_home = place in ("/home", os.path.expanduser("~")) or os.path.dirname(place) == "/home"
    return program if is_home else place
