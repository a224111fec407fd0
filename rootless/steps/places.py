"""Make and open places in the container's root, to mount on them.

A path of the container is resolved once, inside the root, by openat2(2). Afterwards only its fd is used.
"""

from __future__ import annotations

import errno
from _stat import S_ISDIR

from rootless.errors import RootlessError
from rootless.kernel import syscalls as sc
from rootless.kernel.files import PATH_DIRECTORY
from rootless.kernel.paths import is_below
from rootless.startup import lean_os as os
from rootless.steps.builder import is_same_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.steps.builder import RootBuilder

_LINKS_MAX = 40  # as the kernel: path_resolution(7)


def attach_rootfs(path: str) -> int:
    """Make the rootfs a mount of its own, as pivot_root(2) demands; return an fd of its root. Raises RootlessError."""
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot open the rootfs", path) from None
    tree = sc.open_tree(fd, b"", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE | sc.AT_RECURSIVE)
    sc.move_mount(tree, fd)
    os.close(fd)
    return tree


def make_parent_private(path: str) -> None:
    """Make the mount that holds a path private, so that mounts below it do not propagate (pivot_root(2) demands it)."""
    path = os.path.realpath(path)
    while True:
        try:
            sc.mount(None, path, None, sc.MS_PRIVATE)
            return
        except OSError as error:
            if error.errno != errno.EINVAL or path == "/":  # EINVAL: it is not a mount point
                raise
        path = os.path.dirname(path)


def mount_place(path: str) -> list[str | int]:
    """Return [mount namespace of the caller, id of the topmost mount at a path] (proc_pid_fdinfo(5))."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    proc_fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        number = mount_id(proc_fd, fd)
    finally:
        os.close(proc_fd)
        os.close(fd)
    return [os.readlink("/proc/self/ns/mnt"), number]


def mount_id(proc_fd: int, fd: int) -> int:
    """Return the id of the mount that an fd is on (proc_pid_fdinfo(5)). proc_fd: a /proc that shows this process."""
    with open(os.open(f"self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)) as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def is_attached(path: str, before: list[str | int]) -> bool:
    """Return whether something has been mounted at a path of this mount namespace since `mount_place`. Raises OSError.

    before: what mount_place returned then.
    """
    now = mount_place(path)
    return now[0] == before[0] and now[1] != before[1]


def detach_rootfs(path: str, before: list[str | int]) -> None:
    """Unmount what a container without a mount namespace has mounted on its rootfs.

    before: what mount_place returned before. The mounts are made private first, because umount2(2) would propagate to
    their peers, such as the host's own /sys.
    """
    for _ in range(_LINKS_MAX):  # more than once, because a bind mount on `/` lies on top of the rootfs
        if not is_attached(path, before):
            return
        sc.mount(None, path, None, sc.MS_PRIVATE | sc.MS_REC)
        sc.umount2(path, sc.MNT_DETACH)


def make_directory(root_fd: int, path: str, mode: int = 0o755, links: int = _LINKS_MAX) -> int:
    """Make a directory and its parents inside the root; return an O_PATH fd of it. Dangling links are followed inside.

    Raises OSError, whose file name is the whole path in the container.
    """
    try:
        return sc.open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    parent, _, name = path.rstrip("/").rpartition("/")
    parent_fd = make_directory(root_fd, parent or "/", mode, links)
    try:
        try:
            os.mkdir(name, mode, dir_fd=parent_fd)
        except FileExistsError:
            if links == 0:
                raise OSError(errno.ELOOP, "too many symbolic links", path) from None
            return make_directory(root_fd, _follow(parent_fd, parent, name), mode, links - 1)
        except OSError as error:
            raise at_path(error, path) from None
        return os.open(name, PATH_DIRECTORY, dir_fd=parent_fd)
    finally:
        os.close(parent_fd)


def make_file(root_fd: int, path: str, links: int = _LINKS_MAX) -> int:
    """Return an fd of the file at a path: O_PATH of an existing file, or a new, empty one.

    Raises OSError, whose file name is the whole path in the container.
    """
    try:
        return sc.open_in_root(root_fd, path)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    try:
        return sc.open_in_root(root_fd, path.rstrip("/"), os.O_CREAT | os.O_EXCL, mode=0o644)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EEXIST):  # its directory is missing, or it is a dangling link
            raise at_path(error, path) from None
    parent, _, name = path.rstrip("/").rpartition("/")
    parent_fd = make_directory(root_fd, parent or "/")
    try:
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=parent_fd))
        except FileExistsError:
            if links == 0:
                raise OSError(errno.ELOOP, "too many symbolic links", path) from None
            return make_file(root_fd, _follow(parent_fd, parent, name), links - 1)
        except OSError as error:
            raise at_path(error, path) from None
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    finally:
        os.close(parent_fd)


def at_path(error: OSError, path: str) -> OSError:
    """Return the error with the whole path as its file name, because a call with a dir_fd names the last part only."""
    error.filename = path
    return error


def _follow(parent_fd: int, parent: str, name: str) -> str:
    """Return where the link leads that is in the way of a new file, as a path of the container.

    Another container that has the same rootfs may have made the file itself meanwhile. Then return the file's own path.
    """
    try:
        target = os.readlink(name, dir_fd=parent_fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):  # it is not a link, or was one that has gone
            raise
        target = name
    return target if target.startswith("/") else f"{parent}/{target}"


def check_plain(root: RootBuilder, path: str) -> None:
    """Refuse a mount point that the image made a symbolic link.

    proc and sysfs are mounted on a plain directory only. Behind a link they would be at a place that no mask covers
    (CVE-2019-19921). Raises RootlessError.
    """
    parent, _, name = path.rstrip("/").rpartition("/")
    try:
        directory = sc.open_in_root(root.fd, parent or "/", os.O_PATH | os.O_DIRECTORY)
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        os.close(directory)
    except FileNotFoundError:
        return
    if not S_ISDIR(mode):
        raise RootlessError("must be mounted on ordinary directory", path, errno.ENOTDIR)


def check_place(root: RootBuilder, place: int, path: str) -> None:
    """Refuse a place if a link of the image has led it to the root, to /proc, or into procfs (CVE-2019-16884).

    The check is made on the opened fd, not on the text of the path. Raises OSError.
    """
    if path != "/" and is_root(root, place):
        raise leads_away("leads to the root itself", path)
    if is_below(path, "/proc"):
        return
    if sc.fstatfs_type(place) == sc.PROC_SUPER_MAGIC:
        raise leads_away("leads into procfs", path)
    if root.has_procfs:  # then /proc itself was such a place
        return
    proc = sc.find_in_root(root.fd, "/proc")
    if proc < 0:
        return
    try:
        if path != "/" and is_same_place(root, place, proc):
            raise leads_away("leads to /proc", path)
    finally:
        os.close(proc)


def leads_away(how: str, path: str) -> OSError:
    """Return the error for a path of the container that a link has led elsewhere."""
    return OSError(errno.EXDEV, f"it {how}: {os.strerror(errno.EXDEV)}", path)


def is_root(root: RootBuilder, place: int) -> bool:
    """Return whether an fd is the root itself."""
    return root.is_at(place) and mount_id(root.proc_fd, place) == mount_id(root.proc_fd, root.fd)


def is_same_place(root: RootBuilder, one: int, other: int) -> bool:
    """Return whether two fds are the same file of the same mount."""
    if not is_same_file(os.fstat(one), os.fstat(other)):
        return False
    return mount_id(root.proc_fd, one) == mount_id(root.proc_fd, other)


def _make_new_file(root_fd: int, path: str) -> int:
    """Return an fd of a new, empty file, -1 if none can be made. `make_file` finds out why."""
    try:
        return sc.open_in_root(root_fd, path, os.O_CREAT | os.O_EXCL, mode=0o644)
    except OSError:
        return -1


def attach_node(root: RootBuilder, tree: int, path: str) -> None:
    """Move a detached mount of a device node onto a file, after making the file if it is missing. Closes `tree`."""
    place = _make_new_file(root.fd, path)
    is_new = place >= 0  # as it nearly always is; a new file is neither the root nor in procfs
    if not is_new:
        place = make_file(root.fd, path)
    try:
        if not is_new:
            check_place(root, place, path)
        sc.move_mount(tree, place)
    finally:
        os.close(place)
        os.close(tree)
