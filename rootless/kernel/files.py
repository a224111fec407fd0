"""Read and write files by fd. write(2) may take fewer bytes than it was given, which these functions handle."""

from __future__ import annotations

import errno

from rootless.startup import lean_os as os

# Flags of open(2) for a directory that is not reached through a symbolic link in its last component: to list it, and
# only to name what is below it.
READ_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PATH_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_MFD_EXEC = 0x10  # memfd_create(2)
_SEALING_MAX = 5.0  # seconds in which a memfd has to become free for its seals


def write_all(fd: int, data: bytes) -> None:
    """Write all bytes, in as many calls as needed. Raises OSError."""
    written = os.write(fd, data)
    if written < len(data):
        view = memoryview(data)[written:]
        while view:
            view = view[os.write(fd, view) :]


def write_out(data: bytes) -> None:
    """Write all bytes to standard output. Raises OSError, whose file name says so."""
    try:
        write_all(1, data)
    except OSError as error:
        raise OSError(error.errno, f"cannot write: {error.strerror}", "standard output") from None


def read_at_most(limit: int, path: str | int) -> bytes:
    """Return up to `limit` bytes of a file, or of an open fd, and one more if there are more. Raises OSError.

    A read of a pipe returns what has been written so far, so only an empty one is the end (pipe(7)).
    """
    parts = []
    with open(path, "rb", buffering=0, closefd=isinstance(path, str)) as file:
        left = limit + 1
        while left and (part := file.read(left)):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)


def write_at_once(fd: int, data: bytes) -> None:
    """Write a value in one call, because the kernel reads files of /proc and cgroup2, and messages, call by call.

    Raises OSError; EIO if only a part was written.
    """
    if os.write(fd, data) != len(data):
        raise OSError(errno.EIO, "write: only a part was taken")


def close_at_last(*fds: int) -> None:
    """Close descriptors when the work is done, or has failed with an error of its own; -1 stands for none.

    Whatever close(2) answers, the descriptor is gone: it must neither turn a success into an error nor hide one.
    """
    for fd in fds:
        if fd >= 0:
            try:
                os.close(fd)
            except OSError:
                continue


def write_at(directory: int, name: str, data: bytes) -> None:
    """Write `data` in one call (`write_at_once`) to an existing file below a directory fd. Raises OSError."""
    fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        write_at_once(fd, data)
    finally:
        os.close(fd)


def make_program(name: str) -> int:
    """Return a close-on-exec fd of a new file in memory that may be executed, and can be sealed (memfd_create(2)).

    Raises OSError; EACCES if the sysctl vm.memfd_noexec is 2.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, flags)  # before Linux 6.3, where every file in memory may be executed


def seal(fd: int) -> None:
    """Seal a memfd, so that nobody can change it any more (fcntl(2), F_ADD_SEALS). Raises OSError.

    F_SEAL_WRITE waits 150 ms for pages that somebody holds (mm/memfd.c, memfd_wait_for_pins). On a busy machine the
    kernel itself may hold pages that were just written for longer. The call fails with EBUSY then, and is made again.
    """
    import fcntl
    import time

    end = time.monotonic() + _SEALING_MAX
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    while True:
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() >= end:
                raise
        time.sleep(0.01)
