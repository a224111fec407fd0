"""Find where cgroup v2 is mounted, and which cgroup this process is in (cgroups(7))."""

from __future__ import annotations

from rootless.errors import RootlessError
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.mountinfo import Mount

_USUAL = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")  # the unified layout, and systemd's hybrid one


class View:
    """Hold what this process sees of the cgroups.

    mount: the directory of the cgroup2 file system, "" if there is none; own: this process's cgroup below it, such as
    /user.slice/..., "" if it is outside of this cgroup namespace.
    """

    __slots__ = ("mount", "own")

    def __init__(self, mount: str, own: str) -> None:
        self.mount = mount
        self.own = own


def read() -> View:
    """Return the view of this process. Raises RootlessError if /proc/self/cgroup cannot be read."""
    for mount in _USUAL:
        if os.path.exists(f"{mount}/cgroup.controllers"):
            break
    else:
        mount = _mounted()
    return View(mount, own() if mount else "")


def own(pid: int | str = "self") -> str:
    """Return the cgroup v2 path of a process in this cgroup namespace, "" if it is outside. Raises RootlessError."""
    try:
        with open(f"/proc/{pid}/cgroup", "rb", buffering=0) as file:
            for line in file.readall().split(b"\n"):
                if line.startswith(b"0::"):
                    path = os.fsdecode(line[3:].removesuffix(b" (deleted)"))
                    return "" if path == "/.." or path.startswith("/../") else path  # outside of our namespace
    except OSError as error:
        raise RootlessError.from_os(error, "cannot read the cgroup of a process") from None
    return ""


def nsdelegate() -> bool:
    """Return whether processes in a cgroup namespace cannot lift the limits of its root (cgroups(7), nsdelegate)."""
    return any(b"nsdelegate" in mount.options for mount in _mounts())


def _mounted() -> str:
    """Return a cgroup2 mount at an unusual place that no other mount hides, or ""."""
    places = (os.fsdecode(mount.path) for mount in _mounts())
    return next((place for place in places if os.path.exists(f"{place}/cgroup.controllers")), "")


def _mounts() -> list[Mount]:
    from rootless.kernel import mountinfo  # imported late, because most machines have cgroup2 at a usual place

    return mountinfo.find(b"cgroup2")
