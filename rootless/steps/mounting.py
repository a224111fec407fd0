"""Mounting by file descriptors alone: a container's path is resolved once, inside its root, and never again by name.

The new mount API makes a detached mount, dresses it, and moves it onto the fd of its target. mount(2) serves only
where fsconfig(2) cannot carry the options (`_mount_by_name`).
"""

from __future__ import annotations

import errno
from _stat import S_ISCHR, S_ISDIR, S_ISLNK

from rootless.errors import RootlessError, printable
from rootless.kernel import syscalls as sc
from rootless.kernel.host import read_id_map
from rootless.plan.mounts import is_below
from rootless.startup import lean_os as os
from rootless.steps.copyup import copy_up
from rootless.steps.places import at_path, make_directory, make_file, mount_id
from rootless.userns import idmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# File systems whose every option fsconfig(2) takes. Others (overlay's lowerdir may be longer than its 256 bytes, and
# hold commas) go through mount(2).
_BY_FSCONFIG = ("proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2", "ramfs")
# The flags that fsconfig(2) knows for any file system. What mount(2) has beside, silent and iversion, has no effect on
# those above.
_PROC_ROOT_INO = 1  # linux/proc_fs.h
_SUPERBLOCK = {"sync": sc.MS_SYNCHRONOUS, "dirsync": sc.MS_DIRSYNC, "mand": sc.MS_MANDLOCK, "lazytime": sc.MS_LAZYTIME}


class Target:
    """The container's root while it is being built: its fd, and what has to wait until everything is mounted."""

    def __init__(
        self,
        root_fd: int,
        proc_fd: int,
        *,
        own_netns: bool,
        own_cgroupns: bool,
        own_pidns: bool,
        shares_pids: bool = False,
        gid_5: bool,
        on_host: bool,
    ) -> None:
        self.root_fd = root_fd
        self.proc_fd = proc_fd
        self.own_netns = own_netns
        self.own_cgroupns = own_cgroupns
        self.own_pidns = own_pidns  # a new one
        self.shares_pids = shares_pids  # the caller's
        self.gid_5 = gid_5
        self.on_host = on_host  # without a mount namespace
        make_private(self, root_fd)
        self.late_readonly: list[int] = []
        self.dev_null = open_dev_null()
        self.empty = -1  # the tmpfs that all masked directories share


def open_dev_null() -> int:
    """The host's /dev/null, checked to be the real one: a swapped one would unmask (CVE-2025-31133)."""
    fd = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(fd)
    if not S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
        raise RootlessError("/dev/null is not the null device", "/dev/null")
    return fd


def make_private(target: Target, tree: int) -> None:
    """Of a container in the host's mount namespace: no mount below this one shows, or goes, elsewhere too."""
    if target.on_host:
        sc.mount_setattr(tree, propagation=sc.MS_PRIVATE, recursive=True)


def apply_mount(target: Target, entry: dict[str, Any]) -> None:
    """Carry out one mount step (see plan/mounts.py for the keys)."""
    if entry["fstype"] == "bind":
        _bind(target, entry)
        return
    fstype = "cgroup2" if entry["fstype"] == "cgroup" else entry["fstype"]
    if fstype == "tmpfs":
        _keep_mode(target, entry)
    if fstype in ("proc", "sysfs") or entry["target"] == "/proc":
        _check_plain(target, entry["target"])
    place = make_directory(target.root_fd, entry["target"])
    try:
        _check_place(target, place, entry["target"])
        copy = _copy_up_source(target, entry)
        try:
            tree = _make_file_system(target, fstype, entry)
        except OSError as error:
            tree = _fall_back(target, fstype, entry, error)
        if tree < 0:
            tree = _mount_by_name(target, place, fstype, entry)
        else:
            _map_ids(target, tree, entry)
            make_private(target, tree)
            sc.move_mount(tree, place)
        if copy >= 0:
            copy_up(copy, tree)
        if entry["target"] == "/":
            _enter_root(target, tree)
        _dress(target, tree, entry)
    finally:
        os.close(place)


def _check_plain(target: Target, path: str) -> None:
    """proc and sysfs go onto a plain directory only: with a link of the image they would be where no mask looks for
    them (CVE-2019-19921)."""
    parent, _, name = path.rstrip("/").rpartition("/")
    try:
        directory = sc.open_in_root(target.root_fd, parent or "/", os.O_PATH | os.O_DIRECTORY)
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        os.close(directory)
    except FileNotFoundError:
        return
    if not S_ISDIR(mode):
        raise RootlessError("must be mounted on ordinary directory", path, errno.ENOTDIR)


def _keep_mode(target: Target, entry: dict[str, Any]) -> None:
    """A tmpfs without mode= has that of the directory it hides, as runc and crun have it."""
    if any(option.startswith("mode=") for option in ",".join(entry["data"]).split(",")):
        return
    try:
        hidden = sc.open_in_root(target.root_fd, entry["target"])
    except OSError:
        return
    entry["data"].insert(0, f"mode={os.fstat(hidden).st_mode & 0o7777:o}")
    os.close(hidden)


def _check_place(target: Target, place: int, path: str) -> None:
    """Refuse a place that is another than its path says, because a link of the image leads there: the root, /proc, or
    a piece of procfs (CVE-2019-16884). What counts is what was opened, not the text of the path."""
    if path != "/" and is_same_place(target, place, target.root_fd):
        raise leads_away("leads to the root itself", path)
    if is_below(path, "/proc"):
        return
    if sc.fstatfs_type(place) == sc.PROC_SUPER_MAGIC:
        raise leads_away("leads into procfs", path)
    try:
        proc = sc.open_in_root(target.root_fd, "/proc")
    except OSError:
        return
    try:
        if path != "/" and is_same_place(target, place, proc):
            raise leads_away("leads to /proc", path)
    finally:
        os.close(proc)


def leads_away(how: str, path: str) -> OSError:
    """Return the error for a path of the container that a link takes elsewhere."""
    return OSError(errno.EXDEV, f"it {how}: {os.strerror(errno.EXDEV)}", path)


def is_same_place(target: Target, one: int, other: int) -> bool:
    """Return whether two fds are the same file of the same mount."""
    first, second = os.fstat(one), os.fstat(other)
    if (first.st_dev, first.st_ino) != (second.st_dev, second.st_ino):
        return False
    return mount_id(target.proc_fd, one) == mount_id(target.proc_fd, other)


def _check_source(source: int, entry: dict[str, Any]) -> None:
    """Refuse a bind mount onto, or below, /proc whose source is not a procfs, or not the root of one.

    The masks and read-only paths would land on a fake, and what is below it would be uncovered. What counts is the
    opened source: a path below /proc may lead elsewhere. Raises RootlessError.
    """
    needed = entry.get("needs_procfs")
    if not needed:
        return
    place = f"{entry['pointer']}/source: {printable(entry['source'])}"
    if sc.fstatfs_type(source) != sc.PROC_SUPER_MAGIC:
        what = f"{printable(entry['target'])} cannot be mounted because the source is not procfs"
        raise RootlessError(what, place, hint="onto /proc goes a mount of type proc, or a bind mount of /proc")
    if needed == "root" and os.fstat(source).st_ino != _PROC_ROOT_INO:
        raise RootlessError("/proc cannot be mounted because the source is not the root of procfs", place)


def _make_file_system(target: Target, fstype: str, entry: dict[str, Any]) -> int:
    """A detached mount of a new superblock; -1 where mount(2) has to do it."""
    if fstype not in _BY_FSCONFIG:
        return -1
    if fstype == "sysfs" and not target.own_netns:
        raise PermissionError(errno.EPERM, "sysfs needs a network namespace of one's own")
    fs_fd = sc.fsopen(fstype)
    try:
        if entry["source"]:
            sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, "source", entry["source"])
        for option in ",".join(entry["data"]).split(","):
            key, equals, value = option.partition("=")
            if fstype == "devpts" and key == "gid" and value == "5" and not target.gid_5:
                continue  # an unmapped id is EINVAL: devpts(5)
            if equals:
                sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, key, value)
            elif key:
                sc.fsconfig(fs_fd, sc.FSCONFIG_SET_FLAG, key)
        for name, flag in _SUPERBLOCK.items():
            if entry["superblock"] & flag:
                sc.fsconfig(fs_fd, sc.FSCONFIG_SET_FLAG, name)
        _set_context(fs_fd, *entry.get("context", ("", "")))
        sc.fsconfig(fs_fd, sc.FSCONFIG_CMD_CREATE)
        return sc.fsmount(fs_fd)
    except OSError as error:
        said = _read_log(fs_fd) if error.errno == errno.EINVAL else ""
        if not said:
            raise
        place = f"{entry['pointer']}: {entry['target']}"
        hint = f"the kernel says: {os.strerror(errno.EINVAL)}, {said}"
        raise RootlessError.from_os(error, f"cannot mount {fstype}", place, hint) from None
    finally:
        os.close(fs_fd)


def _set_context(fs_fd: int, key: str, value: str) -> None:
    """linux.mountLabel, if there is one: apart from the data, as labels hold commas. Raises RootlessError."""
    if not key:
        return
    try:
        sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, key, value)
    except OSError as error:
        hint = "no SELinux policy is loaded, or it does not know the label" if error.errno == errno.EINVAL else ""
        raise RootlessError.from_os(
            error, f"cannot set {key}={printable(value)} of a mount", "/linux/mountLabel", hint
        ) from None


def _read_log(fs_fd: int) -> str:
    """What a file system has to say about its options, "" for nothing: a line at a time, the first letter a level."""
    try:
        return os.read(fs_fd, 4096)[2:].decode("utf-8", "replace").strip()
    except OSError:  # ENODATA
        return ""


def _fall_back(target: Target, fstype: str, entry: dict[str, Any], error: OSError) -> int:
    """What a user gets where the kernel refuses a superblock of its own: the host's, or nothing."""
    if error.errno not in (errno.EPERM, errno.EBUSY, errno.EACCES):
        raise error
    if fstype == "sysfs":
        entry["attr_set"] |= sc.MOUNT_ATTR_RDONLY
        entry["rec_set"] |= sc.MOUNT_ATTR_RDONLY
        fd = os.open("/sys", os.O_PATH | os.O_CLOEXEC)
    elif fstype == "proc" and target.shares_pids and not entry["data"]:
        # proc(5) of the pid namespace that is shared: a mount of one's own is only to be had with one's own (EPERM).
        fd = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
    elif fstype == "mqueue":  # without an ipc namespace of one's own the queues are the host's: mq_overview(7)
        try:
            fd = os.open("/dev/mqueue", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            place = f"{entry['pointer']}: {entry['target']}"
            hint = "it needs an ipc namespace of the container's own, or the host's queues on /dev/mqueue"
            raise RootlessError.from_os(error, "cannot mount mqueue", place, hint) from None
    elif fstype == "cgroup2" and not target.own_cgroupns:
        # CVE-2023-25809: without a cgroup namespace the user's own slice must not show through.
        return empty_tmpfs()
    else:
        raise error
    try:
        return sc.open_tree(fd, b"", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE | sc.AT_RECURSIVE)
    finally:
        os.close(fd)


def empty_tmpfs(context: tuple[str, str] = ("", "")) -> int:
    fs_fd = sc.fsopen("tmpfs")
    try:
        sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, "source", "tmpfs")
        sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, "mode", "755")
        sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, "nr_blocks", "1")
        sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, "nr_inodes", "1")
        _set_context(fs_fd, *context)
        sc.fsconfig(fs_fd, sc.FSCONFIG_CMD_CREATE)
        return sc.fsmount(fs_fd, sc.MOUNT_ATTR_RDONLY)
    finally:
        os.close(fs_fd)


def _mount_by_name(target: Target, place: int, fstype: str, entry: dict[str, Any]) -> int:
    """The one use of mount(2): on the target's fd, through /proc/self/fd; the fd of what is mounted there."""
    if "idmap" in entry:
        raise RootlessError(f"a mount of type {fstype} cannot be id-mapped", entry["pointer"])
    key, value = entry.get("context", ("", ""))
    data = ",".join([*entry["data"], f'{key}="{value}"'] if key else entry["data"])
    sc.mount(entry["source"] or fstype, f"/proc/self/fd/{place}", fstype, entry["superblock"], data or None)
    if entry["target"] == "/":  # from the root's own fd no mount on top of it is seen, by its path the last one
        return os.open(os.readlink(f"/proc/self/fd/{target.root_fd}"), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return sc.open_in_root(target.root_fd, entry["target"], os.O_PATH | os.O_DIRECTORY)


def _bind(target: Target, entry: dict[str, Any]) -> None:
    source = entry["made"] if "made" in entry else _open_source(entry)
    try:
        _check_source(source, entry)
        if entry["target"] == "/proc":
            _check_plain(target, "/proc")
        kind = os.fstat(source).st_mode
        if S_ISLNK(kind) and "copy-symlink" in entry["extensions"]:
            _copy_link(target, source, entry)
            return
        tree = os.dup(source) if "made" in entry else _clone_tree(source, entry)
    finally:
        os.close(source)
    _map_ids(target, tree, entry)
    make_private(target, tree)
    if entry["target"] == "/":
        sc.move_mount(tree, target.root_fd)
        _enter_root(target, tree)
        _dress(target, tree, entry)
        return
    place = _bind_target(target, entry["target"], kind, follow="dest-nofollow" not in entry["extensions"])
    _check_place(target, place, entry["target"])
    sc.move_mount(tree, place)
    os.close(place)
    _dress(target, tree, entry)


def _enter_root(target: Target, tree: int) -> None:
    """A mount on `/`: all that follows is done in it."""
    os.close(target.root_fd)
    target.root_fd = os.dup(tree)


def _open_source(entry: dict[str, Any]) -> int:
    nofollow = os.O_NOFOLLOW if {"src-nofollow", "copy-symlink"} & set(entry["extensions"]) else 0
    try:
        return os.open(entry["source"], os.O_PATH | os.O_CLOEXEC | nofollow)
    except OSError as error:
        place = f"{entry['pointer']}/source: {entry['source']}"
        raise RootlessError.from_os(error, "cannot open the source of a bind mount", place) from None


def _clone_tree(source: int, entry: dict[str, Any]) -> int:
    flags = sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE | (sc.AT_RECURSIVE if entry["recursive"] else 0)
    try:
        return sc.open_tree(source, b"", flags)
    except OSError as error:
        hint = "it holds mounts that are locked together: use rbind" if error.errno == errno.EINVAL else ""
        raise RootlessError.from_os(error, "cannot bind", f"{entry['pointer']}: {entry['source']}", hint) from None


def _bind_target(target: Target, path: str, kind: int, *, follow: bool) -> int:
    """The fd to mount on, made if it is not there; with dest-nofollow it is there, perhaps as a symbolic link."""
    if follow and S_ISDIR(kind):
        return make_directory(target.root_fd, path)
    if follow and not S_ISLNK(kind):
        return make_file(target.root_fd, path)
    parent, _, name = path.rpartition("/")
    directory = make_directory(target.root_fd, parent or "/")
    try:
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.close(directory)


def _copy_link(target: Target, source: int, entry: dict[str, Any]) -> None:
    """crun's copy-symlink: the link itself, not what it leads to; the same link may be there already."""
    text = os.readlink("", dir_fd=source)
    parent, _, name = entry["target"].rpartition("/")
    directory = make_directory(target.root_fd, parent or "/")
    try:
        os.symlink(text, name, dir_fd=directory)
    except FileExistsError:
        try:
            found = os.readlink(name, dir_fd=directory)
        except OSError:
            found = ""
        if found != text:
            raise OSError(errno.EEXIST, f"it exists and is no link to {text}", entry["target"]) from None
    except OSError as error:  # it names the text of the link
        raise at_path(error, entry["target"]) from None
    finally:
        os.close(directory)


def _map_ids(target: Target, tree: int, entry: dict[str, Any]) -> None:
    """An id-mapped mount of a file system that belongs to the container's user namespace, or is root's."""
    wanted = entry.get("idmap")
    if not wanted or "made" in entry:
        return
    maps = []
    for name in ("uid_map", "gid_map"):
        own = read_id_map(f"/proc/self/fd/{target.proc_fd}/self/{name}")
        try:
            maps.append(idmap.nested_map(own, wanted[name]))
        except RootlessError as error:
            raise RootlessError(error.what, f"{entry['pointer']}/{name[:3]}Mappings") from None
    userns = idmap.make_userns(target.proc_fd, maps[0], maps[1], alone=target.own_pidns)
    try:
        set_id_map(tree, userns, entry)
    finally:
        os.close(userns)


def set_id_map(tree: int, userns: int, entry: dict[str, Any]) -> None:
    """mount_setattr(2) with MOUNT_ATTR_IDMAP on a detached mount. Raises RootlessError."""
    try:
        sc.mount_setattr(
            tree, attr_set=sc.MOUNT_ATTR_IDMAP, userns_fd=userns, recursive=bool(entry["idmap"]["recursive"])
        )
    except OSError as error:
        hint = ""
        if error.errno == errno.EPERM:
            hint = "its file system is the host's, whose root alone may map its ids; a tmpfs of the container can be"
        elif error.errno == errno.EINVAL:
            hint = "its file system knows no id-mapped mounts: mount_setattr(2)"
        place = f"{entry['pointer']}: {entry['source'] or entry['target']}"
        raise RootlessError.from_os(error, "cannot map the ids of the mount", place, hint) from None


def prepare_binds(proc_fd: int, mounts: list[dict[str, Any]]) -> None:
    """In R, as root: make the bind mounts whose source the container's root could not reach or map; I attaches them."""
    for entry in mounts:
        source = _open_source(entry)
        if S_ISLNK(os.fstat(source).st_mode) and "copy-symlink" in entry["extensions"]:
            entry["made"] = source
            continue
        wanted = entry.get("idmap")
        try:
            entry["made"] = _clone_tree(source, entry)
        except RootlessError as error:
            # In a user namespace without a mount namespace of its own only I may do it, in the container's.
            if error.errno != errno.EPERM or wanted:
                raise
            continue
        finally:
            os.close(source)
        if not any(flags & sc.MS_SHARED for flags in entry["propagation"]):
            # A clone made here is a peer of the host's mount: what the container mounts on it would show on the host.
            sc.mount_setattr(entry["made"], propagation=sc.MS_SLAVE, recursive=True)
        if not wanted:
            continue
        if wanted["userns"]:
            userns = os.open(wanted["userns"], os.O_RDONLY | os.O_CLOEXEC)
        else:
            userns = idmap.make_userns(proc_fd, wanted["uid_map"], wanted["gid_map"])
        set_id_map(entry["made"], userns, entry)
        os.close(userns)


def _dress(target: Target, tree: int, entry: dict[str, Any]) -> None:
    """Attributes, recursive ones, propagation; a tmpfs becomes read-only only when everything below it is there."""
    attr_set, attr_clr = entry["attr_set"], entry["attr_clr"]
    late = attr_set & sc.MOUNT_ATTR_RDONLY and entry["fstype"] == "tmpfs"
    if late:
        attr_set &= ~sc.MOUNT_ATTR_RDONLY
    try:
        implied = entry.get("implied_clr", 0)
        if "made" in entry:  # by R, for a user namespace, in which the others would be locked
            implied &= sc.MOUNT_ATTR_NOSYMFOLLOW
        _set_attributes(tree, attr_set, attr_clr, recursive=False, implied=implied)
        _set_attributes(tree, entry["rec_set"], entry["rec_clr"], recursive=True)
    except PermissionError as error:
        place = f"{entry['pointer']}: {entry['target']}"
        raise RootlessError.from_os(error, "cannot set the flags of the mount", place, _LOCKED) from None
    for flags in entry["propagation"]:
        sc.mount_setattr(tree, propagation=flags & ~sc.MS_REC, recursive=bool(flags & sc.MS_REC))
    if late:
        target.late_readonly.append(tree)
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
    """implied: what is cleared too, where it can be."""
    if not attr_set and not attr_clr:
        return
    try:
        sc.mount_setattr(tree, attr_set=attr_set, attr_clr=attr_clr | implied, recursive=recursive)
    except PermissionError:
        # Flags of a mount from a more privileged namespace are locked (mount_namespaces(7)): they stay, as in runc.
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


def apply_late_readonly(target: Target) -> None:
    """Make those tmpfs read-only that config.json wants so."""
    for tree in target.late_readonly:
        sc.mount_setattr(tree, attr_set=sc.MOUNT_ATTR_RDONLY)
        os.close(tree)
    target.late_readonly = []


def bind_device(target: Target, host_path: str, path: str, rdev: int) -> None:
    """The host's device node under a container's path: mknod(2) is EPERM in a user namespace."""
    try:
        tree = sc.open_tree(sc.AT_FDCWD, host_path, sc.AT_SYMLINK_NOFOLLOW | sc.OPEN_TREE_CLONE)
    except OSError as error:
        raise RootlessError.from_os(error, "the host has no such device to bind", host_path) from None
    if rdev and os.fstat(tree).st_rdev != rdev:
        raise RootlessError(f"the host's node is not the device {os.major(rdev)}:{os.minor(rdev)}", host_path)
    sc.mount_setattr(tree, attr_set=sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NOEXEC)
    attach_node(target, tree, path)


def attach_node(target: Target, tree: int, path: str) -> None:
    """A detached mount of a device node onto a file, made if it is not there."""
    place = make_file(target.root_fd, path)
    try:
        _check_place(target, place, path)
        sc.move_mount(tree, place)
    finally:
        os.close(place)
        os.close(tree)


def _copy_up_source(target: Target, entry: dict[str, Any]) -> int:
    if "tmpcopyup" not in entry["extensions"]:
        return -1
    return sc.open_in_root(target.root_fd, entry["target"], os.O_RDONLY | os.O_DIRECTORY)
