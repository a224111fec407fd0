"""Read /proc/self/mountinfo (proc_pid_mountinfo(5))."""

from __future__ import annotations

from rootless.startup import lean_os as os

_ESCAPES = {b"\\040": b" ", b"\\011": b"\t", b"\\012": b"\n", b"\\134": b"\\"}


class Mount:
    """One line, as bytes: the mount point, the type of the file system, and its superblock's options."""

    __slots__ = ("fstype", "options", "path")

    def __init__(self, path: bytes, fstype: bytes, options: list[bytes]) -> None:
        self.path = path
        self.fstype = fstype
        self.options = options


def read(proc_fd: int) -> list[Mount]:
    """Return the mounts of this process. proc_fd: a /proc that shows this process. Raises OSError."""
    with open(os.open("self/mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd), "rb") as file:
        return parse(file.read())


def find(fstype: bytes, path: str = "/proc/self/mountinfo") -> list[Mount]:
    """Return the mounts of one type of file system that a mountinfo file lists. Raises OSError."""
    with open(path, "rb") as file:
        return [mount for mount in parse(file.read()) if mount.fstype == fstype]


def parse(text: bytes) -> list[Mount]:
    """Return the mounts of mountinfo text, in its order."""
    mounts = []
    for line in text.splitlines():
        fields = line.split(b" ")
        rest = fields[fields.index(b"-") + 1 :]
        mounts.append(Mount(_unescape(fields[4]), rest[0], rest[2].split(b",")))
    return mounts


def _unescape(path: bytes) -> bytes:
    """Undo the kernel's octal escapes of blank, tab, newline and backslash."""
    if b"\\" not in path:
        return path
    pieces = path.split(b"\\")
    whole = pieces[0]
    for piece in pieces[1:]:
        escape = b"\\" + piece[:3]
        whole += _ESCAPES.get(escape, escape) + piece[3:]
    return whole
