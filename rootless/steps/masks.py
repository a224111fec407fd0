"""Apply `maskedPaths` and `readonlyPaths`, after all mounts are made (config-linux.md#masked-paths)."""

from __future__ import annotations

from _stat import S_ISDIR

from rootless import log
from rootless.kernel import syscalls as sc
from rootless.kernel.paths import is_below
from rootless.startup import lean_os as os
from rootless.steps import Step
from rootless.steps.file_systems import empty_tmpfs
from rootless.steps.places import is_root, leads_away

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.steps import Words
    from rootless.steps.builder import RootBuilder
    from rootless.steps.context import Init


class MaskPath(Step):
    """Hide a path: a directory under an empty read-only tmpfs, anything else under the host's null device.

    context: the mount label of the tmpfs (Mount.context).
    """

    __slots__ = ("context", "path")

    def __init__(self, pointer: str, path: str, context: tuple[str, str] = ("", "")) -> None:
        super().__init__(pointer)
        self.path = path
        self.context = context

    def words(self) -> Words:
        return "mask", self.path

    def execute(self, init: Init) -> None:
        root = init.root
        place = _open_covered(root, self.path, "masked")
        if place < 0:
            return
        try:
            if is_root(root, place):
                raise leads_away("leads to the root itself", self.path)
            if not S_ISDIR(os.fstat(place).st_mode):
                tree = sc.open_tree(root.dev_null, b"", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE)
                sc.mount_setattr(tree, attr_set=sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NOEXEC)
            elif root.empty >= 0:
                tree = sc.open_tree(root.empty, b"", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE)
            else:
                tree = root.empty = empty_tmpfs(self.context)
            sc.move_mount(tree, place)
            if tree != root.empty:
                os.close(tree)
        finally:
            os.close(place)


class MakePathReadonly(Step):
    """Make a path a read-only bind mount of itself, with all below it."""

    __slots__ = ("path",)

    def __init__(self, pointer: str, path: str) -> None:
        super().__init__(pointer)
        self.path = path

    def words(self) -> Words:
        return "readonly_path", self.path

    def execute(self, init: Init) -> None:
        root = init.root
        place = _open_covered(root, self.path, "read-only")
        if place < 0:
            return
        try:
            if is_root(root, place):
                # The program's root would stay below a mount on top of it, and only `exec` would see that mount.
                sc.mount_setattr(root.fd, attr_set=sc.MOUNT_ATTR_RDONLY)
                return
            tree = sc.open_tree(place, b"", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE | sc.AT_RECURSIVE)
            sc.move_mount(tree, place)
            sc.mount_setattr(tree, attr_set=sc.MOUNT_ATTR_RDONLY, recursive=False)
            os.close(tree)
        finally:
            os.close(place)


def _open_covered(root: RootBuilder, path: str, how: str) -> int:
    """Open a path that is to be masked or made read-only; return -1 if it does not exist.

    A path below a /proc or /sys that is not the kernel's protects nothing, so --debug says that it was not applied.
    """
    try:
        place = sc.open_in_root(root.fd, path)
    except (FileNotFoundError, NotADirectoryError):
        place = -1
    for top, magic in (("/proc", sc.PROC_SUPER_MAGIC), ("/sys", sc.SYSFS_MAGIC)):
        if not (log.debugging() and is_below(path, top) and _is_fake(root, top, magic)):
            continue
        if place < 0 or sc.fstatfs_type(place) != magic:
            log.debug(f"{how} path not applied: {path}: {top} of this container is not the kernel's")
    return place


def _is_fake(root: RootBuilder, top: str, magic: int) -> bool:
    """Return whether the container has a directory `top` that is of another file system than the kernel's."""
    fd = sc.find_in_root(root.fd, top)
    if fd < 0:
        return False
    try:
        return sc.fstatfs_type(fd) != magic
    finally:
        os.close(fd)
