"""Normalise and compare paths as text. Nothing here asks the kernel."""

from __future__ import annotations


def is_below(path: str, top: str) -> bool:
    """Return whether a normalised path is `top` or lies below it. `/procsys` is not below `/proc`."""
    return path == top or path.startswith(top.rstrip("/") + "/")


def tidy_path(path: str, base: str) -> str:
    """Return a path of the host as an absolute one, without `.` and empty components.

    A `..` stays, because only the kernel knows where it leads (path_resolution(7)).
    """
    if not path.startswith("/"):
        path = f"{base}/{path}"
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def normal_path(path: str) -> str:
    """Return a path of the container as absolute and normalised text. A relative path starts at /, as in runc."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part and part != ".":
            parts.append(part)
    return "/" + "/".join(parts)
