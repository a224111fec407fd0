"""Look at what a plan, or a container that was set up ahead of its call, has found on the host.

A mount lies on a directory entry: when that is removed, or another file is renamed over it, the kernel detaches the
mount in every mount namespace (rename(2)). So a container that waits for its call loses its mounts while somebody
rebuilds the rootfs below it. The inode's number is no proof, because a new directory often gets that of the old one.
"""

from __future__ import annotations

from _stat import S_ISLNK

from rootless.kernel import syscalls as sc
from rootless.kernel.paths import is_below
from rootless.startup import lean_os as os
from rootless.steps.binds import BindMount
from rootless.steps.devices import Device
from rootless.steps.masks import MakePathReadonly, MaskPath
from rootless.steps.mounts import Mount
from rootless.steps.root import AttachRootfs, MakeWorkingDirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.compiler import Plan

    Points = dict[str, dict[str, int]]  # {directory of the host: {path in it: how much of `_status` counts}}

_WHICH, _WHICH_AND_CHANGED = 2, 3  # how much of what `_status` returns


def look(root: str, paths: dict[str, int]) -> list[tuple[int, ...]]:
    """Return what is at each path in a directory of the host, whose links stay in it; () for nothing."""
    try:
        root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return [_status(root_fd, path)[:count] for path, count in paths.items()]
    finally:
        os.close(root_fd)


def look_at_ids(rootfs: str) -> list[tuple[int, ...]]:
    """Return what the files with the names of users and groups are, which change when an image is built anew."""
    return look(rootfs, {"/etc/passwd": _WHICH_AND_CHANGED, "/etc/group": _WHICH_AND_CHANGED})


def _status(root_fd: int, path: str) -> tuple[int, ...]:
    """Return (device, inode, time of its last change)."""
    first, _, rest = path.strip("/").partition("/")
    try:
        status = os.stat(first, dir_fd=root_fd, follow_symlinks=False)
    except OSError:
        return ()
    if rest or S_ISLNK(status.st_mode):
        fd = sc.find_in_root(root_fd, path)
        if fd < 0:
            return ()
        status = os.fstat(fd)
        os.close(fd)
    return status.st_dev, status.st_ino, status.st_ctime_ns


def find_points(plan: Plan) -> Points:
    """Return the places on the host that a container of this plan has mounts on, and where its program begins.

    What the program does in its working directory changes that. A container that waits is in it, so its inode's number
    is no other's meanwhile.
    """
    points: Points = {}
    mounts: list[tuple[str, str]] = []  # (path in the container, directory of the host that is there, "" for none)
    for step in [*plan.prepare, *plan.enter]:
        if isinstance(step, AttachRootfs):
            mounts.append(("/", step.path))
            points[step.path] = {"/etc/passwd": _WHICH_AND_CHANGED}  # for HOME
            continue
        path = step.target if isinstance(step, Mount) else step.path if isinstance(step, _ON_PATHS) else ""
        if not path:
            continue
        top, source = next((each for each in reversed(mounts) if is_below(path, each[0])), ("", ""))
        if source and path != top:
            count = _WHICH if isinstance(step, MakeWorkingDirectory) else _WHICH_AND_CHANGED
            points.setdefault(source, {}).setdefault(path.removeprefix(top.rstrip("/")), count)
        if isinstance(step, Mount):
            mounts.append((path, step.source if isinstance(step, BindMount) else ""))
    return points


_ON_PATHS = (Device, MakePathReadonly, MakeWorkingDirectory, MaskPath)
