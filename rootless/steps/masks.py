"""`maskedPaths` and `readonlyPaths`: what is laid over a path of the container when all mounts are there."""

from __future__ import annotations

from _stat import S_ISDIR

from rootless import log
from rootless.kernel import syscalls as sc
from rootless.plan.mounts import is_below
from rootless.startup import lean_os as os
from rootless.steps.mounting import Target, empty_tmpfs, is_same_place, leads_away


def mask(target: Target, path: str, context: tuple[str, str] = ("", "")) -> None:
    """Hide a path: a directory under an empty read-only tmpfs, anything else under the host's null device."""
    place = _open_covered(target, path, "masked")
    if place < 0:
        return
    try:
        if is_same_place(target, place, target.root_fd):
            raise leads_away("leads to the root itself", path)
        if not S_ISDIR(os.fstat(place).st_mode):
            tree = sc.open_tree(target.dev_null, b"", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE)
        elif target.empty >= 0:
            tree = sc.open_tree(target.empty, b"", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE)
        else:
            tree = target.empty = empty_tmpfs(context)
        sc.move_mount(tree, place)
        if tree != target.empty:
            os.close(tree)
    finally:
        os.close(place)


def make_readonly(target: Target, path: str) -> None:
    """A path becomes a read-only bind mount of itself, with all below it."""
    place = _open_covered(target, path, "read-only")
    if place < 0:
        return
    try:
        if is_same_place(target, place, target.root_fd):
            # A mount on top of the root would be seen by `exec` alone: the program's root stays below it.
            sc.mount_setattr(target.root_fd, attr_set=sc.MOUNT_ATTR_RDONLY)
            return
        tree = sc.open_tree(place, b"", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE | sc.AT_RECURSIVE)
        sc.move_mount(tree, place)
        sc.mount_setattr(tree, attr_set=sc.MOUNT_ATTR_RDONLY, recursive=False)
        os.close(tree)
    finally:
        os.close(place)


def _open_covered(target: Target, path: str, how: str) -> int:
    """Open a path that is to be masked or made read-only; -1 where there is none.

    What lies below a /proc or /sys that is not the kernel's protects nothing: it does not count as applied.
    """
    try:
        place = sc.open_in_root(target.root_fd, path)
    except (FileNotFoundError, NotADirectoryError):
        place = -1
    for top, magic in (("/proc", sc.PROC_SUPER_MAGIC), ("/sys", sc.SYSFS_MAGIC)):
        if not (log.debugging() and is_below(path, top) and _is_fake(target, top, magic)):
            continue
        if place < 0 or sc.fstatfs_type(place) != magic:
            log.debug(f"{how} path not applied: {path}: {top} of this container is not the kernel's")
    return place


def _is_fake(target: Target, top: str, magic: int) -> bool:
    """Return whether there is a directory of that name in the container that is of another file system."""
    try:
        fd = sc.open_in_root(target.root_fd, top)
    except OSError:
        return False
    try:
        return sc.fstatfs_type(fd) != magic
    finally:
        os.close(fd)
