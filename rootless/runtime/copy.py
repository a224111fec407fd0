"""Copy files between a container and the host, as `docker cp` does.

The container is hostile and may run meanwhile. Every path in it is resolved component by component from an fd of its
root (oci/root.py), and every file is opened by its name in an open directory, without following links. So a link that
the container puts in the way leads at most to another place in the container.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from oci.root import Root, normal
from rootless import log
from rootless.errors import RootlessError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from rootless.runtime.container import Container

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
INTO = 0o7777  # the bits of a mode that a copy keeps in a container
_OUT = 0o1777  # and on the host: no set-user-ID and set-group-ID bits, because the caller is the owner there
DEPTH = 256
_KERNELS = (b"proc", b"sysfs", b"cgroup", b"cgroup2", b"devpts", b"mqueue", b"securityfs", b"debugfs", b"tracefs")
COPIED = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO)  # what an ordinary user can make


def open_root(container: Container) -> int:
    """Open a container's root: as the container sees it while it runs, else its rootfs. Raises RootlessError."""
    runs = container.alive()
    if runs:
        path = f"/proc/{container.pid}/root"
    elif container.directory.noted("upper"):
        hint = "copy before it ends, or run it with --save-changes"
        raise RootlessError(
            "the container has ended, and its throw-away root with it", container.container_id, hint=hint
        )
    else:
        path = str(container.state.get("rootfs", ""))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot open the container's root", path) from None
    if runs and not container.alive():  # then it may be the root of another process, which has the number now
        os.close(fd)
        raise RootlessError("the container has ended just now", container.container_id)
    return fd


class Place:
    """Name a place where something is, or is to be: an open directory and a name in it; "." is the directory itself."""

    def __init__(self, directory: int, name: bytes, shown: str) -> None:
        self.directory = directory
        self.name = name
        self.shown = shown

    def kind(self) -> int:
        """Return the bits of the file's type, 0 if there is no file."""
        try:
            return stat.S_IFMT(os.stat(self.name, dir_fd=self.directory, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return 0

    def below(self, name: bytes) -> Place:
        """Return a place in this one, which is a directory. Its fd stays open until the command ends."""
        return Place(os.open(self.name, DIRECTORY, dir_fd=self.directory), name, f"{self.shown}/{os.fsdecode(name)}")


def find_in(root: Root, path: str, shown: str, *, follow: bool = True) -> Place:
    """Return a path of the container as a place. Raises RootlessError.

    follow: follow a link at its end, inside the root; otherwise the place is the link.
    """
    whole = normal(os.fsencode(path))
    try:
        if not follow:
            parent, _, name = whole.rpartition(b"/")
            link = Place(os.open(b".", DIRECTORY, dir_fd=root.directory(parent).fd), name or b".", shown)
            if link.kind() == stat.S_IFLNK:
                return link
        try:
            directory = root.directory(whole)
            return Place(os.open(b".", DIRECTORY, dir_fd=directory.fd), b".", shown)
        except NotADirectoryError:
            pass
        except FileNotFoundError:
            if path.endswith("/"):
                raise
        resolved = root.resolve(whole)
        parent, _, name = resolved.rpartition(b"/")
        return Place(os.open(b".", DIRECTORY, dir_fd=root.directory(parent).fd), name, shown)
    except OSError as error:
        raise RootlessError.from_os(error, "no such place in the container", shown) from None


def find_on_host(path: str, *, follow: bool = True) -> Place:
    """Return a path of the host as a place; as a link if it is one and `follow` is not set. Raises RootlessError."""
    try:
        is_link = not follow and os.path.islink(path)
        if os.path.isdir(path) and not is_link:
            return Place(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), b".", path)
        whole = os.path.abspath(path) if is_link else os.path.realpath(path)
        parent, name = os.path.split(whole)
        if path.endswith("/"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return Place(os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), os.fsencode(name), path)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot open", path) from None


def kernel_devices(pid: int) -> frozenset[int]:
    """Return the devices of the file systems in a process's root that the kernel fills, such as /proc, and of /dev.

    Raises OSError.
    """
    devices = set()
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        for fields in map(bytes.split, file):
            major, _, minor = fields[2].partition(b":")
            if fields[4] == b"/dev" or fields[fields.index(b"-") + 1] in _KERNELS:
                devices.add(os.makedev(int(major), int(minor)))
    return frozenset(devices)


def copy(
    source: Place,
    target: Place,
    name: str,
    *,
    contents: bool,
    into: bool = False,
    left_out: frozenset[int] = frozenset(),
) -> None:
    """Copy a file or a tree.

    into: whether the target is in a container; name: what it is called in a target that is a directory; contents: copy
    what is in the source directory, not itself (docker's `SRC/.`); left_out: devices of file systems of which only the
    mount point is copied, as an empty directory, unless the source lies in one of them. Raises RootlessError.
    """
    kind = source.kind()
    if not kind:
        raise RootlessError("no such file or directory", source.shown, errno.ENOENT)
    if target.kind() == stat.S_IFDIR and not (contents and kind == stat.S_IFDIR):
        target = target.below(os.fsencode(name))
    links = _Links(leave_out(source, left_out), INTO if into else _OUT)
    try:
        _copy(source, target, 0, links)
    finally:
        links.close()


def leave_out(source: Place, devices: frozenset[int]) -> frozenset[int]:
    """Return the devices to leave out of a copy: none if what is asked for lies on one of them. Raises OSError."""
    status = os.stat(source.name, dir_fd=source.directory, follow_symlinks=False)
    return frozenset() if status.st_dev in devices else devices


class _Links:
    """Remember the first copy of each file that has several names, by device and inode: its directory and name.

    left_out: devices whose directories are copied empty; mode: the bits of modes that copies keep; top: the copy
    itself, if it is a directory, by device and inode.
    """

    def __init__(self, left_out: frozenset[int], mode: int) -> None:
        self.left_out = left_out
        self.top = (0, 0)
        self.mode = mode
        self.first: dict[tuple[int, int], tuple[int, bytes]] = {}
        self.directories: dict[tuple[int, int], int] = {}

    def note(self, status: os.stat_result, target: Place) -> None:
        """Note a copy of a file."""
        key = _identity(os.fstat(target.directory))
        if key not in self.directories:
            self.directories[key] = os.dup(target.directory)
        self.first[_identity(status)] = self.directories[key], target.name

    def link(self, status: os.stat_result, target: Place) -> bool:
        """Make the target another name of the file's copy; return whether there is one."""
        first = self.first.get(_identity(status))
        if first is None:
            return False
        os.link(first[1], target.name, src_dir_fd=first[0], dst_dir_fd=target.directory, follow_symlinks=False)
        return True

    def close(self) -> None:
        """Close the directories."""
        for fd in self.directories.values():
            os.close(fd)


def _copy(source: Place, target: Place, depth: int, links: _Links) -> None:
    """Copy a file or a tree. Raises RootlessError, which names the file that could not be copied."""
    try:
        _copy_one(source, target, depth, links)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot copy", f"{source.shown} to {target.shown}") from None


def _copy_one(source: Place, target: Place, depth: int, links: _Links) -> None:
    status = os.stat(source.name, dir_fd=source.directory, follow_symlinks=False)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        _copy_directory(source, target, status, depth, links)
        return
    if kind not in COPIED:
        warn_of_kind(source.shown)
        return
    make_room(target)
    if kind == stat.S_IFIFO:
        os.mkfifo(target.name, stat.S_IMODE(status.st_mode), dir_fd=target.directory)
        return
    if kind == stat.S_IFLNK:
        os.symlink(os.readlink(source.name, dir_fd=source.directory), target.name, dir_fd=target.directory)
        return
    if status.st_nlink > 1:
        if links.link(status, target):
            return
        links.note(status, target)
    with open(open_file(source), "rb") as reader, create(target) as writer:
        shutil.copyfileobj(reader, writer, 1 << 18)
        writer.flush()
        os.fchmod(writer.fileno(), status.st_mode & links.mode)
        os.utime(writer.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def check_depth(depth: int, source: Place) -> None:
    """Refuse a tree that is too deep. Raises RootlessError."""
    if depth > DEPTH:
        raise RootlessError(f"more than {DEPTH} directories lie below each other", source.shown)


def warn_of_kind(shown: str) -> None:
    """Warn of a device or a socket, which is not copied."""
    log.warn(f"not copied, because it is neither a file, a directory nor a link: {printable(shown)}")


def make_room(target: Place) -> None:
    """Remove what a copy replaces. Raises OSError for a directory, RootlessError for a device such as /dev/null."""
    kind = target.kind()
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if kind and kind not in COPIED:
        raise RootlessError("the target is neither a file nor a directory", target.shown)
    if kind:
        os.unlink(target.name, dir_fd=target.directory)


@contextmanager
def create(target: Place) -> Iterator[IO[bytes]]:
    """Make a file that only its owner may use yet, and yield it to be written; after an error, remove it.

    Raises OSError.
    """
    fd = os.open(target.name, _NEW, 0o600, dir_fd=target.directory)
    try:
        with open(fd, "wb") as writer:
            yield writer
    except BaseException:
        with suppress(OSError):
            os.unlink(target.name, dir_fd=target.directory)
        raise


def open_file(source: Place) -> int:
    """Open a regular file: what is looked at is what was opened, because the container may exchange it."""
    fd = os.open(source.name, _READ, dir_fd=source.directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise RootlessError("the file was replaced while it was copied", source.shown, hint="copy it again")
    return fd


def _copy_directory(source: Place, target: Place, status: os.stat_result, depth: int, links: _Links) -> None:
    check_depth(depth, source)
    if not target.kind():
        os.mkdir(target.name, 0o700, dir_fd=target.directory)
        is_new = True
    else:
        is_new = False
    here = os.open(source.name, DIRECTORY, dir_fd=source.directory)
    there = os.open(target.name, DIRECTORY, dir_fd=target.directory)
    try:
        if not depth:
            links.top = _identity(os.fstat(there))
        if depth and _identity(os.fstat(here)) == links.top:
            raise RootlessError("a directory cannot be copied into itself", source.shown)
        for entry in map(os.fsencode, [] if status.st_dev in links.left_out else os.listdir(here)):
            inside, outside = (f"{place.shown}/{os.fsdecode(entry)}" for place in (source, target))
            _copy(Place(here, entry, inside), Place(there, entry, outside), depth + 1, links)
        if is_new:
            os.fchmod(there, status.st_mode & links.mode)
            os.utime(there, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(here)
        os.close(there)
