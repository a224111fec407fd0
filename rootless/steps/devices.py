"""Make device nodes and the links of /dev (config-linux.md#devices, #default-devices)."""

from __future__ import annotations

import errno
from _stat import S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT, S_ISDIR, S_ISLNK

from rootless.errors import RootlessError
from rootless.kernel import syscalls as sc
from rootless.kernel.devices import host_path
from rootless.startup import lean_os as os
from rootless.steps import Step
from rootless.steps.places import at_path, attach_node, make_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.steps import Words
    from rootless.steps.builder import RootBuilder
    from rootless.steps.context import Init

_LETTERS = {S_IFCHR: "c", S_IFBLK: "b", S_IFIFO: "p"}


class Device(Step):
    """A device node: its path in the container, its kind (S_IFCHR, S_IFBLK, S_IFIFO), numbers, mode and owner.

    is_default: whether the specification asks for it, not config.json; mode: -1 if config.json has none.
    """

    __slots__ = ("gid", "is_default", "kind", "major", "minor", "mode", "path", "uid")

    def __init__(
        self, pointer: str, path: str, kind: int, major: int, minor: int, mode: int, uid: int, gid: int,
        *, is_default: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(pointer)
        self.path = path
        self.kind = kind
        self.major = major
        self.minor = minor
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.is_default = is_default

    def words(self) -> Words:
        numbers = f"{self.major}:{self.minor}"
        return "device", self.path, _LETTERS[self.kind], numbers, f"{self.mode:04o}", f"{self.uid}:{self.gid}"

    @property
    def rdev(self) -> int:
        """The device number, 0 for a FIFO."""
        return 0 if self.kind == S_IFIFO else os.makedev(self.major, self.minor)


class MakeDevice(Device):
    """Make the node with mknod(2), which only root of the host may call."""

    __slots__ = ()

    def execute(self, init: Init) -> None:
        parent, _, name = self.path.rpartition("/")
        directory = make_directory(init.root.fd, parent or "/")
        try:
            os.mknod(name, self.kind | self.mode, self.rdev, dir_fd=directory)
            os.chown(name, self.uid, self.gid, dir_fd=directory, follow_symlinks=False)
        except FileExistsError as error:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if S_IFMT(status.st_mode) != self.kind or (self.rdev and status.st_rdev != self.rdev):
                raise at_path(error, self.path) from None
        except OSError as error:
            raise at_path(error, self.path) from None
        finally:
            os.close(directory)


class BindDevice(Device):
    """Bind the host's node, because mknod(2) is EPERM in a user namespace. Mode and owner stay the host's."""

    __slots__ = ()

    def words(self) -> Words:
        return "device", self.path, _LETTERS[self.kind], f"{self.major}:{self.minor}", "bound"

    def execute(self, init: Init) -> None:
        _bind_device(init.root, host_path(self.path, self.kind, self.rdev), self.path, self.rdev)


class AttachDevice(Device):
    """Attach a node that the runtime has made as root outside of the user namespace (outside/device_nodes.py)."""

    __slots__ = ()

    def execute(self, init: Init) -> None:
        attach_node(init.root, init.prepared.device_fds[self.path], self.path)


class RequirePlainDirectory(Step):
    """Refuse /dev if the image made it a symbolic link: devices must not be created where it points."""

    __slots__ = ("path",)

    def __init__(self, pointer: str, path: str) -> None:
        super().__init__(pointer)
        self.path = path

    def words(self) -> Words:
        return "plain_directory", self.path

    def execute(self, init: Init) -> None:
        try:
            status = os.stat(self.path[1:], dir_fd=init.root.fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if S_ISLNK(status.st_mode):
            raise OSError(errno.ENOTDIR, "it is a symbolic link", self.path)


class Link(Step):
    """Make a symbolic link of /dev, such as /dev/fd, unless something is there already."""

    __slots__ = ("path", "target")

    def __init__(self, pointer: str, path: str, target: str) -> None:
        super().__init__(pointer)
        self.path = path
        self.target = target

    def words(self) -> Words:
        return "link", self.path, self.target

    def execute(self, init: Init) -> None:
        parent, _, name = self.path.rpartition("/")
        directory = make_directory(init.root.fd, parent)
        try:
            os.symlink(self.target, name, dir_fd=directory)
        except FileExistsError:
            # A device ptmx of the image would open a pty of the wrong devpts (devpts(5)).
            if name == "ptmx" and not S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=directory)
                os.symlink(self.target, name, dir_fd=directory)
        except OSError as error:
            if error.errno != errno.EROFS or init.root.closed:
                raise at_path(error, self.path) from None
        finally:
            os.close(directory)


def _bind_device(root: RootBuilder, source: str, path: str, rdev: int) -> None:
    try:
        tree = sc.open_tree(sc.AT_FDCWD, source, sc.AT_SYMLINK_NOFOLLOW | sc.OPEN_TREE_CLONE)
    except OSError as error:
        raise RootlessError.from_os(error, "the host has no such device to bind", source) from None
    if rdev and os.fstat(tree).st_rdev != rdev:
        raise RootlessError(f"the host's node is not the device {os.major(rdev)}:{os.minor(rdev)}", source)
    sc.mount_setattr(tree, attr_set=sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NOEXEC)
    attach_node(root, tree, path)
