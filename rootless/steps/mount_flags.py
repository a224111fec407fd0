"""Set a new mount's flags, propagation and mapped ids (mount_setattr(2))."""

from __future__ import annotations

import errno

from rootless.errors import RootlessError, advice
from rootless.kernel import syscalls as sc
from rootless.kernel.host import read_id_map
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.steps.builder import RootBuilder
    from rootless.steps.mounts import Mount


def set_mount_flags(
    root: RootBuilder, tree: int, mount: Mount, extra_flags: int = 0, *, prepared: bool = False
) -> None:
    """Set attributes, recursive ones and propagation, and close `tree`.

    A tmpfs becomes read-only later, after everything below it is mounted (RootBuilder.apply_late_readonly).
    extra_flags: attributes to set recursively, besides those of config.json; prepared: whether the runtime made the
    mount. Raises RootlessError.
    """
    attr_set, attr_clr = mount.options.attr_set | extra_flags, mount.options.attr_clr
    late = attr_set & sc.MOUNT_ATTR_RDONLY and mount.fstype == "tmpfs"
    if late:
        attr_set &= ~sc.MOUNT_ATTR_RDONLY
    try:
        implied = mount.options.implied_clr
        if prepared:  # init could not clear the others in its user namespace, where they are locked
            implied &= sc.MOUNT_ATTR_NOSYMFOLLOW
        _set_attributes(tree, attr_set, attr_clr, recursive=False, implied=implied)
        _set_attributes(tree, mount.options.rec_set | extra_flags, mount.options.rec_clr, recursive=True)
    except PermissionError as error:
        place = f"{mount.pointer}: {mount.target}"
        raise RootlessError.from_os(error, "cannot set the flags of the mount", place, _LOCKED) from None
    for flags in mount.options.propagation:
        sc.mount_setattr(tree, propagation=flags & ~sc.MS_REC, recursive=bool(flags & sc.MS_REC))
    if late:
        root.late_readonly.append(tree)
    else:
        os.close(tree)


_LOCKED = (
    "flags of the host's mounts are locked in a user namespace, those of access times always "
    "(mount_namespaces(7)): leave the option out, or run as root"
)
# statvfs(3) flag: mount attribute
_LOCKABLE = {
    1: sc.MOUNT_ATTR_RDONLY, 2: sc.MOUNT_ATTR_NOSUID, 4: sc.MOUNT_ATTR_NODEV, 8: sc.MOUNT_ATTR_NOEXEC,
    1024: sc.MOUNT_ATTR_NOATIME, 2048: sc.MOUNT_ATTR_NODIRATIME,
}  # fmt: skip


def _set_attributes(tree: int, attr_set: int, attr_clr: int, *, recursive: bool, implied: int = 0) -> None:
    """Set and clear attributes. implied: attributes to clear too, if the kernel allows it. Raises OSError."""
    if not attr_set and not attr_clr:
        return
    try:
        sc.mount_setattr(tree, attr_set=attr_set, attr_clr=attr_clr | implied, recursive=recursive)
    except PermissionError:
        # Flags of a mount from a more privileged namespace are locked (mount_namespaces(7)). Keep them, as runc does.
        locked = os.fstatvfs(tree).f_flag
        attr_clr |= implied
        for bit, attribute in _LOCKABLE.items():
            if locked & bit:
                attr_clr &= ~attribute
        if attr_clr & sc.MOUNT_ATTR__ATIME != sc.MOUNT_ATTR__ATIME:
            attr_clr &= ~sc.MOUNT_ATTR__ATIME
            attr_set &= ~sc.MOUNT_ATTR__ATIME
        if attr_set or attr_clr:
            sc.mount_setattr(tree, attr_set=attr_set, attr_clr=attr_clr, recursive=recursive)


def map_ids(root: RootBuilder, tree: int, mount: Mount) -> None:
    """Map the ids of a detached mount, in init. Its file system must belong to init's user namespace.

    Raises RootlessError.
    """
    wanted = mount.id_map
    if not wanted:
        return
    from rootless.userns.mount_userns import make_userns, nested_map

    maps = []
    for name, id_map in (("uid_map", wanted.uid_map), ("gid_map", wanted.gid_map)):
        own = read_id_map(f"/proc/self/fd/{root.proc_fd}/self/{name}")
        try:
            maps.append(nested_map(own, id_map))
        except RootlessError as error:
            raise RootlessError(error.what, f"{mount.pointer}/{name[:3]}Mappings") from None
    userns = make_userns(root.proc_fd, maps[0], maps[1], alone=root.new_pidns)
    try:
        set_id_map(tree, userns, mount)
    finally:
        os.close(userns)


def set_id_map(tree: int, userns: int, mount: Mount) -> None:
    """Map the ids of a detached mount: mount_setattr(2), MOUNT_ATTR_IDMAP. Raises RootlessError."""
    try:
        sc.mount_setattr(
            tree,
            attr_set=sc.MOUNT_ATTR_IDMAP,
            userns_fd=userns,
            recursive=bool(mount.id_map and mount.id_map.recursive),
        )
    except OSError as error:
        hint = ""
        if error.errno == errno.EPERM:
            hint = advice("idmap-of-root")
        elif error.errno == errno.EINVAL:
            hint = advice("no-idmap")
        place = f"{mount.pointer}: {mount.source or mount.target}"
        raise RootlessError.from_os(error, "cannot map the ids of the mount", place, hint) from None
