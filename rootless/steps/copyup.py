"""Copy the files that a tmpfs hides into the tmpfs, for tmpcopyup, a mount option of crun and runc.

Extended attributes and hard links are lost.
"""

from __future__ import annotations

from _stat import S_ISDIR, S_ISLNK, S_ISREG

from rootless.kernel.files import READ_DIRECTORY
from rootless.startup import lean_os as os


def copy_up(source: int, destination: int) -> None:
    """Copy a directory's files, directories and symbolic links with mode and owner. Closes `source`. Raises OSError."""
    for name in os.listdir(source):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=destination)
        elif S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=destination)
            flags = READ_DIRECTORY
            below, copy = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=destination)
            copy_up(below, copy)
            _copy_owner(copy, status)
            os.close(copy)
        elif S_ISREG(status.st_mode):
            _copy_file(source, destination, name, status)
    os.close(source)


def _copy_file(source: int, destination: int, name: str, status: os.stat_result) -> None:
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=destination)
    while os.sendfile(writer, reader, None, 1 << 20):
        pass
    _copy_owner(writer, status)
    os.close(reader)
    os.close(writer)


def _copy_owner(fd: int, status: os.stat_result) -> None:
    os.fchown(fd, status.st_uid, status.st_gid)
    os.fchmod(fd, status.st_mode & 0o7777)
