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
import tarfile
from typing import TYPE_CHECKING

from oci.root import Root
from rootless import log
from rootless.errors import RootlessError, printable

if TYPE_CHECKING:
    from typing import IO

    from rootless.runtime.container import Container

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o777  # no set-user-ID and set-group-ID bits: the owner is another one afterwards
_DEPTH = 256


def open_root(container: Container) -> int:
    """Open a container's root: as the container sees it while it runs, else its rootfs. Raises RootlessError."""
    if container.alive():
        path = f"/proc/{container.pid}/root"
    elif container.directory.noted("upper"):
        hint = "copy before it ends, or run it with --save-changes"
        raise RootlessError(
            "the container has ended, and its throw-away root with it", container.container_id, hint=hint
        )
    else:
        path = str(container.state.get("rootfs", ""))
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot open the container's root", path) from None


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
        return Place(os.open(self.name, _DIRECTORY, dir_fd=self.directory), name, f"{self.shown}/{os.fsdecode(name)}")


def find_in(root: Root, path: str, shown: str) -> Place:
    """Return a path of the container as a place; a link at its end is followed inside. Raises RootlessError."""
    names = [part for part in os.fsencode(path).split(b"/") if part not in (b"", b".")]
    whole = b"/".join(names)
    try:
        try:
            directory = root.directory(whole)
            return Place(os.open(b".", _DIRECTORY, dir_fd=directory.fd), b".", shown)
        except NotADirectoryError:
            pass
        except FileNotFoundError:
            if path.endswith("/"):
                raise
        resolved = root.resolve(whole)
        parent, _, name = resolved.rpartition(b"/")
        return Place(os.open(b".", _DIRECTORY, dir_fd=root.directory(parent).fd), name, shown)
    except OSError as error:
        raise RootlessError.from_os(error, "no such place in the container", shown) from None


def find_on_host(path: str) -> Place:
    """Return a path of the host as a place. Raises RootlessError."""
    try:
        if os.path.isdir(path):
            return Place(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), b".", path)
        whole = os.path.realpath(path)
        parent, name = os.path.split(whole)
        if path.endswith("/"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return Place(os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), os.fsencode(name), path)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot open", path) from None


def copy(source: Place, target: Place, name: str, *, contents: bool) -> None:
    """Copy a file or a tree.

    name: what it is called in a target that is a directory; contents: copy what is in the source directory, not itself
    (docker's `SRC/.`). Raises RootlessError.
    """
    kind = source.kind()
    if not kind:
        raise RootlessError("no such file or directory", source.shown, errno.ENOENT)
    if target.kind() == stat.S_IFDIR and not (contents and kind == stat.S_IFDIR):
        target = target.below(os.fsencode(name))
    links = _Links()
    try:
        _copy(source, target, 0, links)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot copy", f"{source.shown} to {target.shown}") from None
    finally:
        links.close()


class _Links:
    """Remember the first copy of each file that has several names, by device and inode: its directory and name."""

    def __init__(self) -> None:
        self.first: dict[tuple[int, int], tuple[int, bytes]] = {}
        self.directories: dict[tuple[int, int], int] = {}

    def note(self, status: os.stat_result, target: Place) -> None:
        """Note a copy of a file."""
        status = os.fstat(target.directory)
        key = status.st_dev, status.st_ino
        if key not in self.directories:
            self.directories[key] = os.dup(target.directory)
        self.first[status.st_dev, status.st_ino] = self.directories[key], target.name

    def link(self, status: os.stat_result, target: Place) -> bool:
        """Make the target another name of the file's copy; return whether there is one."""
        first = self.first.get((status.st_dev, status.st_ino))
        if first is None:
            return False
        os.link(first[1], target.name, src_dir_fd=first[0], dst_dir_fd=target.directory, follow_symlinks=False)
        return True

    def close(self) -> None:
        """Close the directories."""
        for fd in self.directories.values():
            os.close(fd)


def _copy(source: Place, target: Place, depth: int, links: _Links) -> None:
    status = os.stat(source.name, dir_fd=source.directory, follow_symlinks=False)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        _copy_directory(source, target, status, depth, links)
        return
    if kind not in (stat.S_IFREG, stat.S_IFLNK):
        log.warn(f"not copied, because it is neither a file, a directory nor a link: {printable(source.shown)}")
        return
    if target.kind() == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if target.kind():
        os.unlink(target.name, dir_fd=target.directory)
    if kind == stat.S_IFLNK:
        os.symlink(os.readlink(source.name, dir_fd=source.directory), target.name, dir_fd=target.directory)
        return
    if status.st_nlink > 1:
        if links.link(status, target):
            return
        links.note(status, target)
    with open(_open_file(source), "rb") as reader, _create(target) as writer:
        shutil.copyfileobj(reader, writer, 1 << 18)
        writer.flush()
        os.fchmod(writer.fileno(), status.st_mode & _MODE)
        os.utime(writer.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))


def _create(target: Place) -> IO[bytes]:
    return open(os.open(target.name, _NEW, 0o600, dir_fd=target.directory), "wb")


def _open_file(source: Place) -> int:
    """Open a regular file: what is looked at is what was opened, because the container may exchange it."""
    fd = os.open(source.name, _READ, dir_fd=source.directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EAGAIN, "it has changed meanwhile")
    return fd


def _copy_directory(source: Place, target: Place, status: os.stat_result, depth: int, links: _Links) -> None:
    if depth > _DEPTH:
        raise OSError(errno.ELOOP, "too deep")
    if not target.kind():
        os.mkdir(target.name, 0o700, dir_fd=target.directory)
        is_new = True
    else:
        is_new = False
    here = os.open(source.name, _DIRECTORY, dir_fd=source.directory)
    there = os.open(target.name, _DIRECTORY, dir_fd=target.directory)
    try:
        for entry in map(os.fsencode, os.listdir(here)):
            inside, outside = (f"{place.shown}/{os.fsdecode(entry)}" for place in (source, target))
            _copy(Place(here, entry, inside), Place(there, entry, outside), depth + 1, links)
        if is_new:
            os.fchmod(there, status.st_mode & _MODE)
            os.utime(there, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(here)
        os.close(there)


# ------------------------------------------------------------------------------------------- tar streams


def write_tar(source: Place, out: IO[bytes], name: str) -> None:
    """Write a file or a tree as a tar stream, under a name. Raises RootlessError."""
    if not source.kind():
        raise RootlessError("no such file or directory", source.shown, errno.ENOENT)
    try:
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            _add(archive, source, name, 0)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot copy", source.shown) from None


def _add(archive: tarfile.TarFile, source: Place, name: str, depth: int) -> None:
    if depth > _DEPTH:
        raise OSError(errno.ELOOP, "too deep")
    status = os.stat(source.name, dir_fd=source.directory, follow_symlinks=False)
    member = tarfile.TarInfo(name)  # no names of owners: the host's passwd knows nothing of the container's ids
    member.mode, member.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    member.uid, member.gid = status.st_uid, status.st_gid
    if stat.S_ISDIR(status.st_mode):
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
        here = os.open(source.name, _DIRECTORY, dir_fd=source.directory)
        try:
            for entry in sorted(map(os.fsencode, os.listdir(here))):
                below = Place(here, entry, f"{source.shown}/{os.fsdecode(entry)}")
                _add(archive, below, f"{name}/{os.fsdecode(entry)}", depth + 1)
        finally:
            os.close(here)
    elif stat.S_ISLNK(status.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.fsdecode(os.readlink(source.name, dir_fd=source.directory))
        archive.addfile(member)
    elif stat.S_ISREG(status.st_mode):
        with open(_open_file(source), "rb") as reader:
            member.size = os.fstat(reader.fileno()).st_size
            archive.addfile(member, reader)
    else:
        log.warn(f"not copied, because it is neither a file, a directory nor a link: {printable(source.shown)}")


def read_tar(stream: IO[bytes], target: Place) -> None:
    """Unpack a tar stream into a directory; nothing in it leads out of that. Raises RootlessError."""
    if target.kind() != stat.S_IFDIR:
        raise RootlessError("a tar stream needs a directory", target.shown, errno.ENOTDIR)
    fd = os.open(target.name, _DIRECTORY, dir_fd=target.directory)
    root = Root(fd)
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as archive:
            for member in archive:
                _unpack(root, archive, member)
    except tarfile.TarError as error:
        raise RootlessError(f"not a tar stream: {error}", "standard input") from None
    except OSError as error:
        raise RootlessError.from_os(error, "cannot unpack", target.shown) from None
    finally:
        root.close()
        os.close(fd)


def _unpack(root: Root, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    parts = [part for part in os.fsencode(member.name).split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise OSError(errno.EXDEV, "a member leads out of the directory", member.name)
    if not parts:
        return
    parent = root.directory(b"/".join(parts[:-1]), create=True)
    place = Place(parent.fd, parts[-1], member.name)
    if member.isdir():
        if place.kind() != stat.S_IFDIR:
            os.mkdir(place.name, member.mode & _MODE, dir_fd=place.directory)
        return
    source = archive.extractfile(member) if member.isfile() else None
    if source is None and not member.issym():
        log.warn(f"not copied, because it is neither a file, a directory nor a link: {printable(member.name)}")
        return
    if place.kind():
        os.unlink(place.name, dir_fd=place.directory)
        root.forget()
    if source is None:
        os.symlink(member.linkname, place.name, dir_fd=place.directory)
        return
    with _create(place) as writer:
        shutil.copyfileobj(source, writer, 1 << 18)
        writer.flush()
        os.fchmod(writer.fileno(), member.mode & _MODE)
        os.utime(writer.fileno(), (member.mtime, member.mtime))
