"""Find byte code that installations have left in the user's cache when they were removed or replaced.

startup/codecache.py writes one file for a command and an installation, and renews it. Nothing renews the files of an
installation that is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import TYPE_CHECKING

import attrs

from oci.private import open_private
from rootless.runtime.caches import cache_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

# COMMAND.cpython-311%usr%lib%...%rootless.code, and what is appended to it while it is written.
_NAME = re.compile(r"[a-z]+\.[a-z]+-\d+((?:%[^%]+)+%rootless)\.code(?:\.[0-9a-f]{16})?")


@attrs.define
class OldCode:
    """Describe the code of one installation.

    package: where it was; files: names in the cache; size: bytes on disk; used: seconds since the epoch.
    """

    package: str
    files: list[str]
    size: int
    used: float


def kept() -> list[OldCode]:
    """Return the code of installations that are gone, [] also where the directory is not the user's own."""
    try:
        fd = open_private(_directory())
    except OSError:
        return []
    try:
        return list(_old_codes(fd))
    finally:
        os.close(fd)


def prune() -> list[OldCode]:
    """Remove what `kept` returns; return what was removed."""
    try:
        fd = open_private(_directory())
    except OSError:
        return []
    try:
        codes = list(_old_codes(fd))
        for code in codes:
            for name in code.files:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=fd)
        return codes
    finally:
        os.close(fd)


def _directory() -> str:
    return cache_directory("code")


def _old_codes(directory: int) -> Iterator[OldCode]:
    packages: dict[str, OldCode] = {}
    for name in sorted(os.listdir(directory)):
        match = _NAME.fullmatch(name)
        if not match:
            continue
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or _is_used(match[1], status):
            continue
        package = match[1].replace("%", "/")
        code = packages.setdefault(package, OldCode(package, [], 0, 0.0))
        code.files.append(name)
        code.size += status.st_blocks * 512
        code.used = max(code.used, status.st_mtime)
    yield from packages.values()


def _is_used(encoded: str, written: os.stat_result) -> bool:
    """Return whether an installation can still use a file: it is there, and was there when the file was written.

    encoded: its package's path with % for each slash. The sources of a replaced installation have changed since; their
    modification time comes from the wheel, so the time of the change counts (inode(7)).
    """
    for package in _paths("", encoded[1:].split("%")):
        with contextlib.suppress(OSError):
            return os.stat(f"{package}/startup/codecache.py").st_ctime <= written.st_mtime
    return False


def _paths(above: str, parts: list[str]) -> Iterator[str]:
    """Yield the directories that exist and that an encoded path can mean, because a name may hold a % itself."""
    for count in range(1, len(parts) + 1):
        path = f"{above}/{'%'.join(parts[:count])}"
        if os.path.isdir(path):
            if count == len(parts):
                yield path
            else:
                yield from _paths(path, parts[count:])
