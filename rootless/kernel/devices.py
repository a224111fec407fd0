"""Find the host's node of a device (sysfs(5), /sys/dev)."""

from __future__ import annotations

from _stat import S_IFBLK

from rootless.startup import lean_os as os


def host_path(path: str, kind: int, rdev: int) -> str:
    """Return the path of the host's node for a device: `path` if it is that device, else the one that /sys names."""
    try:
        if os.stat(path).st_rdev == rdev:
            return path
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    place = f"/sys/dev/{'block' if kind == S_IFBLK else 'char'}/{os.major(rdev)}:{os.minor(rdev)}/uevent"
    try:
        with open(place) as file:
            for line in file:
                if line.startswith("DEVNAME="):
                    return f"/dev/{line[8:].rstrip()}"
    except (FileNotFoundError, PermissionError):
        pass
    return path
