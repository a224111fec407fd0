"""Find the host's node of a device (sysfs(5), /sys/dev)."""

from __future__ import annotations

from _stat import S_IFBLK

from rootless.startup import lean_os as os

_PAGE = 4096  # bytes, the most that a file of sysfs holds


def host_path(path: str, kind: int, rdev: int) -> str:
    """Return the path of the host's node for a device: `path` if it is that device, else the one that /sys names."""
    try:
        if os.stat(path).st_rdev == rdev:
            return path
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    place = f"/sys/dev/{'block' if kind == S_IFBLK else 'char'}/{os.major(rdev)}:{os.minor(rdev)}/uevent"
    try:
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return path
    try:
        lines = os.read(fd, _PAGE).split(b"\n")  # not through `open`, so that it can be recorded (kernel/recording.py)
    finally:
        os.close(fd)
    return next((f"/dev/{os.fsdecode(line[8:])}" for line in lines if line.startswith(b"DEVNAME=")), path)
