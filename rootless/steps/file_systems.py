"""Mount new superblocks: proc, sysfs, tmpfs, devpts, mqueue, cgroup2, and whatever mount(2) can mount.

The new mount API makes a detached mount, sets its flags, and moves it onto the fd of its target. mount(2) is used only
if fsconfig(2) cannot carry the options (`_mount_by_name`).
"""

from __future__ import annotations

import errno

from rootless.errors import RootlessError, advice, printable
from rootless.kernel import syscalls as sc
from rootless.startup import lean_os as os
from rootless.steps.copyup import copy_up
from rootless.steps.mount_flags import map_ids, set_mount_flags
from rootless.steps.mounts import Mount
from rootless.steps.places import check_place, check_plain, make_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.steps.builder import RootBuilder
    from rootless.steps.context import Init

# File systems that take all options by fsconfig(2). Others go through mount(2), because an option such as overlay's
# lowerdir may be longer than fsconfig's 256 bytes.
_BY_FSCONFIG = ("proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2", "ramfs")
_PAGE = 4096  # mount(2) cuts the options off there and ends them with a NUL, on machines with larger pages later
# The flags that fsconfig(2) takes for any file system. mount(2) also has silent and iversion, which have no effect on
# the file systems above.
_SUPERBLOCK = {"sync": sc.MS_SYNCHRONOUS, "dirsync": sc.MS_DIRSYNC, "mand": sc.MS_MANDLOCK, "lazytime": sc.MS_LAZYTIME}


class MountFileSystem(Mount):
    """Mount a new superblock of a file system."""

    __slots__ = ()

    def execute(self, init: Init) -> None:
        try:
            _mount_file_system(init.root, self)
        except OSError as error:
            if error.errno == errno.ENOTDIR:
                from rootless.steps.mismatch import raise_mismatch

                raise_mismatch(init.root, self)
            raise self.at_target(error) from None


def _mount_file_system(root: RootBuilder, mount: Mount) -> None:
    fstype = "cgroup2" if mount.fstype == "cgroup" else mount.fstype
    data = _with_mode(root, mount) if fstype == "tmpfs" else mount.options.data
    if fstype in ("proc", "sysfs") or mount.target == "/proc":
        check_plain(root, mount.target)
    place = make_directory(root.fd, mount.target)
    try:
        check_place(root, place, mount.target)
        copy = _copy_up_source(root, mount)
        extra_flags = 0
        try:
            tree = _make_file_system(root, fstype, mount, data)
        except OSError as error:
            tree = _fall_back(root, fstype, mount, error)
            extra_flags = sc.MOUNT_ATTR_RDONLY if fstype == "sysfs" else 0
        if tree < 0:
            tree = _mount_by_name(root, place, fstype, mount)
        else:
            map_ids(root, tree, mount)
            root.make_private(tree)
            sc.move_mount(tree, place)
        if mount.target in ("/", "/proc"):
            root.has_procfs = mount.target == "/proc" and sc.fstatfs_type(tree) == sc.PROC_SUPER_MAGIC
        if copy >= 0:
            copy_up(copy, tree)
        if mount.target == "/":
            root.enter(tree)
        set_mount_flags(root, tree, mount, extra_flags)
    finally:
        os.close(place)


def _with_mode(root: RootBuilder, mount: Mount) -> list[str]:
    """Return the data of a tmpfs. Without mode= it gets the mode of the directory that it hides, as in runc."""
    data = mount.options.data
    if any(option.startswith("mode=") for option in ",".join(data).split(",")):
        return data
    hidden = sc.find_in_root(root.fd, mount.target)
    if hidden < 0:
        return data
    mode = os.fstat(hidden).st_mode & 0o7777
    os.close(hidden)
    return [f"mode={mode:o}", *data]


def _make_file_system(root: RootBuilder, fstype: str, mount: Mount, data: list[str]) -> int:
    """Return a detached mount of a new superblock, -1 if mount(2) has to make it. Raises OSError, RootlessError."""
    if fstype not in _BY_FSCONFIG:
        return -1
    if fstype == "sysfs" and not root.own_netns:
        raise PermissionError(errno.EPERM, "sysfs needs a network namespace of one's own")
    fs_fd = sc.fsopen(fstype)
    try:
        if mount.source:
            sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, "source", mount.source)
        for option in ",".join(data).split(","):
            key, equals, value = option.partition("=")
            if fstype == "devpts" and key == "gid" and value == "5" and not root.tty_group_mapped:
                continue  # devpts(5) refuses an unmapped gid with EINVAL
            if equals:
                sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, key, value)
            elif key:
                sc.fsconfig(fs_fd, sc.FSCONFIG_SET_FLAG, key)
        for name, flag in _SUPERBLOCK.items():
            if mount.options.superblock & flag:
                sc.fsconfig(fs_fd, sc.FSCONFIG_SET_FLAG, name)
        _set_context(fs_fd, *mount.context)
        sc.fsconfig(fs_fd, sc.FSCONFIG_CMD_CREATE)
        return sc.fsmount(fs_fd)
    except OSError as error:
        words = _read_log(fs_fd) if error.errno == errno.EINVAL else ""
        if not words:
            raise
        place = f"{mount.pointer}: {mount.target}"
        hint = f"the kernel says: {os.strerror(errno.EINVAL)}, {words}"
        raise RootlessError.from_os(error, f"cannot mount {fstype}", place, hint) from None
    finally:
        os.close(fs_fd)


def _set_context(fs_fd: int, key: str, value: str) -> None:
    """Set linux.mountLabel, if there is one. It is not part of the data, because labels contain commas.

    Raises RootlessError.
    """
    if not key:
        return
    try:
        sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, key, value)
    except OSError as error:
        hint = advice("no-selinux-policy") if error.errno == errno.EINVAL else ""
        raise RootlessError.from_os(
            error, f"cannot set {key}={printable(value)} of a mount", "/linux/mountLabel", hint
        ) from None


def _read_log(fs_fd: int) -> str:
    """Return the kernel's message about the last failure, "" for none, without the letter of its level (fsopen(2))."""
    try:
        return os.read(fs_fd, 4096)[2:].decode("utf-8", "replace").strip()
    except OSError:  # ENODATA
        return ""


def _fall_back(root: RootBuilder, fstype: str, mount: Mount, error: OSError) -> int:
    """Return a detached mount to use if the kernel refuses a new superblock: a clone of the host's, or an empty tmpfs.

    Raises the error, if there is none to use.
    """
    if error.errno not in (errno.EPERM, errno.EBUSY, errno.EACCES):
        raise error
    if fstype == "sysfs":
        fd = os.open("/sys", os.O_PATH | os.O_CLOEXEC)
    elif fstype == "proc" and root.shares_pids and not mount.options.data:
        # The container shares our pid namespace, so our /proc shows the same. A new one needs a pid namespace (EPERM).
        fd = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
    elif fstype == "mqueue" and not root.new_ipcns:  # the container has the host's queues then (mq_overview(7))
        try:
            fd = os.open("/dev/mqueue", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            place = f"{mount.pointer}: {mount.target}"
            hint = advice("no-mqueue")
            raise RootlessError.from_os(error, "cannot mount mqueue", place, hint) from None
    elif fstype == "cgroup2" and not root.own_cgroupns:
        # Without a cgroup namespace the container could write to the user's own slice (CVE-2023-25809).
        return empty_tmpfs()
    elif fstype == "proc" and error.errno == errno.EPERM and not root.shares_pids:
        from rootless.kernel.hints import HINTS

        place = f"{mount.pointer}: {mount.target}"
        what = "cannot mount proc: this /proc is partly masked, as in a container"
        raise RootlessError.from_os(error, what, place, HINTS["covered-proc"].text) from None
    else:
        raise error
    try:
        return sc.open_tree(fd, b"", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE | sc.AT_RECURSIVE)
    finally:
        os.close(fd)


def empty_tmpfs(context: tuple[str, str] = ("", "")) -> int:
    """Return a detached, empty, read-only tmpfs that can hold no file. context: a mount label (Mount.context)."""
    fs_fd = sc.fsopen("tmpfs")
    try:
        sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, "source", "tmpfs")
        sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, "mode", "755")
        sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, "nr_blocks", "1")
        sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, "nr_inodes", "1")
        _set_context(fs_fd, *context)
        sc.fsconfig(fs_fd, sc.FSCONFIG_CMD_CREATE)
        attributes = sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV | sc.MOUNT_ATTR_NOEXEC
        return sc.fsmount(fs_fd, attributes)
    finally:
        os.close(fs_fd)


def _mount_by_name(root: RootBuilder, place: int, fstype: str, mount: Mount) -> int:
    """Mount with mount(2), on the target's fd through /proc/self/fd. Return an fd of the new mount's root."""
    if mount.id_map:
        raise RootlessError(f"a mount of type {fstype} cannot be id-mapped", mount.pointer)
    key, value = mount.context
    options = mount.options.data
    if fstype == "overlay" and any(option.startswith("upper=tmpfs") for option in options):
        from rootless.steps.upper import mount_upper

        place, options = mount_upper(place, options)
    label = [f'{key}="{value}"'] if key else []
    fds: list[int] = []
    try:
        if fstype == "overlay" and _is_too_long([*options, *label]):
            from rootless.steps.upper import shorten

            options, fds = shorten(options)
        if _is_too_long([*options, *label]):
            what = f"the options of the mount on {printable(mount.target)} are longer than the {_PAGE - 1} bytes that "
            raise RootlessError(f"{what}mount(2) takes", mount.pointer)
        data = ",".join([*options, *label])
        sc.mount(mount.source or fstype, f"/proc/self/fd/{place}", fstype, mount.options.superblock, data or None)
    except OSError as error:
        from rootless.steps.mismatch import refused_file_system

        raise refused_file_system(error, mount) from None
    finally:
        for fd in fds:
            os.close(fd)
    if mount.target == "/":  # root.fd is below the new mount, so open it by the path
        return os.open(os.readlink(f"/proc/self/fd/{root.fd}"), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return sc.open_in_root(root.fd, mount.target, os.O_PATH | os.O_DIRECTORY)


def _is_too_long(options: list[str]) -> bool:
    return len(os.fsencode(",".join(options))) >= _PAGE


def _copy_up_source(root: RootBuilder, mount: Mount) -> int:
    """Open the directory whose files a tmpfs with `tmpcopyup` gets; return -1 without that option."""
    if "tmpcopyup" not in mount.options.extensions:
        return -1
    return sc.open_in_root(root.fd, mount.target, os.O_RDONLY | os.O_DIRECTORY)
