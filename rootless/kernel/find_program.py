"""Search PATH for a program, as execvp(3) does: the first regular file that this process may execute."""

from __future__ import annotations

from _stat import S_ISREG
from errno import EACCES

from rootless.startup import lean_os as os

# Searched after PATH: podman and service managers start a runtime with a short PATH, or without one.
_USUAL = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


def find_program(name: str) -> str:
    """Return the path of one of the host's helper programs, "" if it is not installed.

    An empty element of PATH, which execvp(3) takes for the working directory, is left out: the working directory may
    be a bundle, whose files somebody else wrote.
    """
    places = f"{os.environ.get('PATH', '')}:{_USUAL}"
    return search(name, ":".join(place for place in places.split(":") if place))[0]


def search(name: str, path: str) -> tuple[str, list[str], list[str]]:
    """Search the directories of `path`; an empty element is the working directory (execvp(3)).

    Return (the program or "", the paths that could not be looked at because of permissions, the paths that are there
    but cannot be executed). The search continues after both, and the caller can name them if it finds no program.
    """
    out_of_reach: list[str] = []
    not_executable: list[str] = []
    for directory in path.split(":"):
        candidate = f"{directory or '.'}/{name}"
        try:
            status = os.stat(candidate)
        except OSError as error:
            if error.errno == EACCES:
                out_of_reach.append(candidate)
            continue
        if S_ISREG(status.st_mode) and os.access(candidate, os.X_OK, effective_ids=True):
            return candidate, out_of_reach, not_executable
        not_executable.append(candidate)
    return "", out_of_reach, not_executable
