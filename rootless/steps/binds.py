"""Bind mounts: a source of the host, or of the rootfs, on a path of the container (mount_namespaces(7))."""

from __future__ import annotations

import errno
from _stat import S_ISDIR, S_ISLNK

from rootless.errors import RootlessError, advice, printable
from rootless.kernel import syscalls as sc
from rootless.startup import lean_os as os
from rootless.steps.mount_flags import map_ids, set_id_map, set_mount_flags
from rootless.steps.mounts import Mount
from rootless.steps.places import at_path, check_place, check_plain, make_directory, make_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.steps.builder import RootBuilder
    from rootless.steps.context import Init

_PROC_ROOT_INO = 1  # linux/proc_fs.h


class BindMount(Mount):
    """Bind a source onto a path of the container."""

    __slots__ = ()

    def execute(self, init: Init) -> None:
        try:
            _bind(init.root, self, init.prepared.mount_fds.get(self.pointer, -1))
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.EINVAL, errno.EISDIR):
                from rootless.steps.mismatch import raise_mismatch

                raise_mismatch(init.root, self)
            raise self.at_target(error) from None

    def prepare(self, proc_fd: int) -> int:
        """Make the mount in the runtime, because the container's root may not reach, or map, the source; return its fd.

        For a symbolic link that is to be copied, return an fd of the link. Return -1 if only init may make the mount,
        in the container's own mount namespace. Raises RootlessError.
        """
        source = _open_source(self)
        if S_ISLNK(os.fstat(source).st_mode) and "copy-symlink" in self.options.extensions:
            return source
        try:
            tree = _clone_tree(source, self)
        except RootlessError as error:
            if error.errno != errno.EPERM or self.id_map:
                raise
            return -1
        finally:
            os.close(source)
        if not any(flags & sc.MS_SHARED for flags in self.options.propagation):
            # The clone is a peer of the host's mount, so what the container mounts on it would appear on the host.
            sc.mount_setattr(tree, propagation=sc.MS_SLAVE, recursive=True)
        if self.id_map:
            from rootless.userns.mount_userns import make_userns

            if self.id_map.userns:
                userns = os.open(self.id_map.userns, os.O_RDONLY | os.O_CLOEXEC)
            else:
                userns = make_userns(proc_fd, self.id_map.uid_map or [], self.id_map.gid_map or [])
            set_id_map(tree, userns, self)
            os.close(userns)
        return tree


def _bind(root: RootBuilder, mount: Mount, prepared: int) -> None:
    """Bind the source, or attach the mount that the runtime made. prepared: its fd, -1 for none."""
    source = prepared if prepared >= 0 else _open_source(mount)
    try:
        _check_source(source, mount)
        if mount.target == "/proc":
            check_plain(root, "/proc")
        kind = os.fstat(source).st_mode
        if S_ISLNK(kind) and "copy-symlink" in mount.options.extensions:
            _copy_link(root, source, mount)
            return
        tree = os.dup(source) if prepared >= 0 else _clone_tree(source, mount)
    finally:
        os.close(source)
    if prepared < 0:
        map_ids(root, tree, mount)
    root.make_private(tree)
    if mount.target == "/":
        sc.move_mount(tree, root.fd)
        root.enter(tree)
        root.has_procfs = False
        set_mount_flags(root, tree, mount, prepared=prepared >= 0)
        return
    place = _bind_target(root, mount.target, kind, follow="dest-nofollow" not in mount.options.extensions)
    check_place(root, place, mount.target)
    sc.move_mount(tree, place)
    os.close(place)
    set_mount_flags(root, tree, mount, prepared=prepared >= 0)


def _check_source(source: int, mount: Mount) -> None:
    """Refuse a bind mount onto, or below, /proc whose source is not a procfs, or not the root of one.

    Otherwise masks and read-only paths would be applied to a fake, and not protect the real one. The check is made on
    the opened source, because a path below /proc may lead elsewhere. Raises RootlessError.
    """
    needed = mount.needs_procfs
    if not needed:
        return
    place = f"{mount.pointer}/source: {printable(mount.source)}"
    if sc.fstatfs_type(source) != sc.PROC_SUPER_MAGIC:
        what = f"{printable(mount.target)} cannot be mounted because the source is not procfs"
        raise RootlessError(what, place, hint="mount type proc on /proc, or bind the host's /proc")
    if needed == "root" and os.fstat(source).st_ino != _PROC_ROOT_INO:
        raise RootlessError("/proc cannot be mounted because the source is not the root of procfs", place)


def _open_source(mount: Mount) -> int:
    """Open the source of a bind mount as O_PATH. Raises RootlessError."""
    nofollow = os.O_NOFOLLOW if {"src-nofollow", "copy-symlink"} & set(mount.options.extensions) else 0
    try:
        return os.open(mount.source, os.O_PATH | os.O_CLOEXEC | nofollow)
    except OSError as error:
        place = f"{mount.pointer}/source: {mount.source}"
        raise RootlessError.from_os(error, "cannot open the source of a bind mount", place) from None


def _clone_tree(source: int, mount: Mount) -> int:
    """Return a detached clone of the mount at the source. Raises RootlessError."""
    flags = sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE | (sc.AT_RECURSIVE if mount.options.recursive else 0)
    try:
        return sc.open_tree(source, b"", flags)
    except OSError as error:
        hint = advice("locked-mounts") if error.errno == errno.EINVAL else ""
        raise RootlessError.from_os(error, "cannot bind", f"{mount.pointer}: {mount.source}", hint) from None


def _bind_target(root: RootBuilder, path: str, kind: int, *, follow: bool) -> int:
    """Open the mount point, after making it if it is missing; return the fd.

    follow: whether a symbolic link is followed. If not (dest-nofollow), the mount point must exist.
    """
    if follow and S_ISDIR(kind):
        return make_directory(root.fd, path)
    if follow and not S_ISLNK(kind):
        return make_file(root.fd, path)
    parent, _, name = path.rpartition("/")
    directory = make_directory(root.fd, parent or "/")
    try:
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.close(directory)


def _copy_link(root: RootBuilder, source: int, mount: Mount) -> None:
    """Make the same symbolic link in the container, which is crun's copy-symlink. It may exist already."""
    text = os.readlink("", dir_fd=source)
    parent, _, name = mount.target.rpartition("/")
    directory = make_directory(root.fd, parent or "/")
    try:
        os.symlink(text, name, dir_fd=directory)
    except FileExistsError:
        try:
            existing = os.readlink(name, dir_fd=directory)
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: it is not a link
                raise
            existing = ""
        if existing != text:
            raise OSError(errno.EEXIST, f"it exists and is not a link to {text}", mount.target) from None
    except OSError as error:  # its file name is the text of the link, so name the target
        raise at_path(error, mount.target) from None
    finally:
        os.close(directory)
