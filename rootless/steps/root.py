"""Attach the container's root file system, and enter it after other steps have filled it."""

from __future__ import annotations

import errno
from _stat import S_ISCHR

from rootless.errors import RootlessError, advice
from rootless.kernel import mountinfo
from rootless.kernel import syscalls as sc
from rootless.startup import lean_os as os
from rootless.steps import Step
from rootless.steps.builder import RootBuilder
from rootless.steps.mounts import propagation_names
from rootless.steps.places import attach_rootfs, make_directory, make_parent_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.steps import Words
    from rootless.steps.context import Init


def open_dev_null() -> int:
    """Open the host's /dev/null and check that it is the null device, because it masks paths (CVE-2025-31133)."""
    fd = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(fd)
    if not S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
        raise RootlessError("/dev/null is not the null device", "/dev/null")
    return fd


class SetPropagation(Step):
    """Set the propagation of all mounts before anything is mounted (mount_namespaces(7))."""

    __slots__ = ("flags",)

    def __init__(self, pointer: str, flags: int) -> None:
        super().__init__(pointer)
        self.flags = flags

    def words(self) -> Words:
        return "propagation", *propagation_names(self.flags)

    def execute(self, init: Init) -> None:
        flags = self.flags
        if init.prepared.no_pivot and flags & sc.MS_SHARED:
            # Without pivot_root the container's root would propagate, and be moved onto the host's root, too.
            flags = sc.MS_SLAVE | sc.MS_REC
        sc.mount(None, "/", None, flags)


class MakeParentPrivate(Step):
    """Make the mount that holds the rootfs private, as pivot_root(2) demands."""

    __slots__ = ("path",)

    def __init__(self, pointer: str, path: str) -> None:
        super().__init__(pointer)
        self.path = path

    def words(self) -> Words:
        return "private_parent", self.path

    def execute(self, init: Init) -> None:
        make_parent_private(self.path)


class AttachRootfs(Step):
    """Make the rootfs a mount of its own and open it."""

    __slots__ = ("on_host", "path")

    def __init__(self, pointer: str, path: str, *, on_host: bool = False) -> None:
        super().__init__(pointer)
        self.path = path
        self.on_host = on_host

    def words(self) -> Words:
        return "host_rootfs" if self.on_host else "rootfs", self.path

    def execute(self, init: Init) -> None:
        fd = attach_rootfs(self.path)
        init.root = RootBuilder(fd, init.prepared.proc_fd, init.namespaces, init.gids, on_host=self.on_host)
        init.root.make_private(fd)
        init.root.dev_null = open_dev_null()
        if init.keeps_rootfs:
            init.root.close_for_writing()


class AttachEmptyRoot(Step):
    """Make an empty tmpfs the root, mounted on a directory of the host that nothing of the container comes from."""

    __slots__ = ("path",)

    def __init__(self, pointer: str, path: str) -> None:
        super().__init__(pointer)
        self.path = path

    def words(self) -> Words:
        return "empty_root", self.path

    def execute(self, init: Init) -> None:
        place = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        fs_fd = sc.fsopen("tmpfs")
        sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, "source", "rootless")
        sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, "mode", "755")
        sc.fsconfig(fs_fd, sc.FSCONFIG_CMD_CREATE)
        tree = sc.fsmount(fs_fd, sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV)
        os.close(fs_fd)
        sc.move_mount(tree, place)
        os.close(place)
        init.root = RootBuilder(tree, init.prepared.proc_fd, init.namespaces, init.gids, on_host=False)
        init.root.dev_null = open_dev_null()


class MakeWorkingDirectory(Step):
    """Make the working directory if the image lacks it."""

    __slots__ = ("path",)

    def __init__(self, pointer: str, path: str) -> None:
        super().__init__(pointer)
        self.path = path

    def words(self) -> Words:
        return "make_cwd", self.path

    def execute(self, init: Init) -> None:
        try:
            os.close(make_directory(init.root.fd, self.path))
        except OSError as error:  # after these two errors chdir(2) decides, as the program's user
            if error.errno not in (errno.EACCES, errno.EROFS):
                raise


class MakeRootReadonly(Step):
    """Make the root file system read-only."""

    __slots__ = ()

    def words(self) -> Words:
        return ("readonly_root",)

    def execute(self, init: Init) -> None:
        sc.mount_setattr(init.root.fd, attr_set=sc.MOUNT_ATTR_RDONLY)


class PivotRoot(Step):
    """Make the root file system the root of the mount namespace and detach the host's: pivot_root(2)."""

    __slots__ = ("propagation",)

    def __init__(self, pointer: str, propagation: int) -> None:
        super().__init__(pointer)
        self.propagation = propagation

    def words(self) -> Words:
        return "pivot_root", *propagation_names(self.propagation)

    def execute(self, init: Init) -> None:
        init.root.apply_late_readonly()
        os.fchdir(init.root.fd)
        if init.prepared.no_pivot:
            _hide_bare_proc(init.root)
            sc.mount(".", "/", None, sc.MS_MOVE)
            os.chroot(".")
        else:
            old_root = os.open("/", os.O_PATH | os.O_CLOEXEC) if self.propagation & sc.MS_SHARED else -1
            _exchange_roots()
            if old_root >= 0:
                os.fchdir(old_root)
                os.close(old_root)
                # Otherwise umount2(2) would propagate to the host's peers.
                sc.mount(None, ".", None, sc.MS_SLAVE | sc.MS_REC)
            sc.umount2(".", sc.MNT_DETACH)
        os.chdir("/")
        os.close(init.root.fd)
        if self.propagation:
            sc.mount(None, "/", None, self.propagation)


class Chroot(Step):
    """Enter the root file system by chroot(2), for a container without a mount namespace."""

    __slots__ = ("propagation",)

    def __init__(self, pointer: str, propagation: int) -> None:
        super().__init__(pointer)
        self.propagation = propagation

    def words(self) -> Words:
        return "chroot", *propagation_names(self.propagation)

    def execute(self, init: Init) -> None:
        init.root.apply_late_readonly()
        os.fchdir(init.root.fd)
        os.chroot(".")
        os.close(init.root.fd)
        if self.propagation:
            sc.mount(None, "/", None, self.propagation)


def _exchange_roots() -> None:
    """Put the old root on top of the new one, at the same place: pivot_root(2), `pivot_root(".", ".")`."""
    try:
        sc.pivot_root(".", ".")
    except OSError as error:
        hint = ""
        if error.errno == errno.EINVAL:  # pivot_root(2), NOTES: "the rootfs (initial ramfs) cannot be pivot_root()ed"
            hint = advice("initramfs")
        raise RootlessError.from_os(error, "pivot_root", "/root/path", hint) from None


def _hide_bare_proc(root: RootBuilder) -> None:
    """Unmount the host's proc and sysfs, which stay below the root without pivot_root(2).

    As long as the mount namespace has one that is fully visible, a program of the container could mount another in a
    user namespace of its own, without our masks (mount_too_revealing() in fs/namespace.c; runc's msMoveRoot).
    """
    rootfs = os.fsencode(os.readlink(f"self/fd/{root.fd}", dir_fd=root.proc_fd)).rstrip(b"/") + b"/"
    for mount in mountinfo.read(root.proc_fd):
        if mount.fstype not in (b"proc", b"sysfs") or mount.path.startswith(rootfs):
            continue
        try:
            sc.mount(None, mount.path, None, sc.MS_SLAVE | sc.MS_REC)
            sc.umount2(mount.path, sc.MNT_DETACH)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM):  # locked, because it came from another user namespace
                raise
            sc.mount("tmpfs", mount.path, "tmpfs", sc.MS_RDONLY)
