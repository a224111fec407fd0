"""Make a tree readable for everybody, for bundles that other users run."""

from __future__ import annotations

import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make_readable(fd: int, path: bytes = b"") -> list[str]:
    """Let everybody read the files and enter the directories below an open directory; return the files that changed.

    A program that its owner may execute, everybody may. Raises OSError.
    """
    changed: list[str] = []
    os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) | 0o555)
    for name in sorted(map(os.fsencode, os.listdir(fd))):
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        below = path + b"/" + name
        if stat.S_ISDIR(status.st_mode):
            if status.st_mode & 0o700 != 0o700:
                os.chmod(name, stat.S_IMODE(status.st_mode) | 0o700, dir_fd=fd)
            child = os.open(name, _DIRECTORY, dir_fd=fd)
            try:
                changed += make_readable(child, below)
            finally:
                os.close(child)
        elif stat.S_ISREG(status.st_mode):
            wanted = status.st_mode | 0o444 | (0o111 if status.st_mode & 0o100 else 0)
            if wanted != status.st_mode:
                os.chmod(name, stat.S_IMODE(wanted), dir_fd=fd)
                if not status.st_mode & 0o004:
                    changed.append(os.fsdecode(below))
    return changed
