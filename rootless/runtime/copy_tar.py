"""Copy files between a container and a tar stream, as `docker cp` does with `-`. The rules are those of copy.py.

In a container with one id the owners, and the devices, are those that root emulation records in attributes.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
from typing import TYPE_CHECKING

from oci import rootlesscontainers as attribute
from oci.root import Root, normal
from rootless.errors import RootlessError, printable
from rootless.runtime.copy import (
    DIRECTORY,
    INTO,
    Place,
    check_depth,
    create,
    leave_out,
    make_room,
    open_file,
    warn_of_kind,
)  # fmt: skip

if TYPE_CHECKING:
    from typing import IO

_FAR = 1 << 62  # seconds, which fit into the kernel's 64 bits
_IDS = range(0xFFFFFFFF)  # -1 stands for no id
_RECORDED = (stat.S_IFREG, stat.S_IFDIR)  # the files that can have attributes
_UNABLE = (errno.EINVAL, errno.EPERM, errno.EOVERFLOW, errno.EACCES, errno.ENOTSUP)  # no such id, or no attributes


def write_tar(
    source: Place, out: IO[bytes], name: str, left_out: frozenset[int] = frozenset(), *, recorded: bool = False
) -> None:
    """Write a file or a tree as a tar stream, under a name. Raises RootlessError.

    left_out: as for `copy`; recorded: the owners are those in attributes, where there are any.
    """
    if not source.kind():
        raise RootlessError("no such file or directory", source.shown, errno.ENOENT)
    try:
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            _Writer(archive, leave_out(source, left_out), recorded=recorded).add(source, name, 0)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot copy", source.shown) from None


class _Writer:
    """Write trees into an archive. A file with several names has its bytes once; the other names are links to it."""

    def __init__(self, archive: tarfile.TarFile, left_out: frozenset[int], *, recorded: bool) -> None:
        self.archive = archive
        self.left_out = left_out
        self.recorded = recorded
        self.first: dict[tuple[int, int], str] = {}

    def add(self, source: Place, name: str, depth: int) -> None:
        """Add a file, or a directory with all below it. Raises RootlessError, which names the file."""
        check_depth(depth, source)
        try:
            self._add(source, name, depth)
        except OSError as error:
            raise RootlessError.from_os(error, "cannot copy", source.shown) from None

    def _add(self, source: Place, name: str, depth: int) -> None:
        status = os.stat(source.name, dir_fd=source.directory, follow_symlinks=False)
        member = tarfile.TarInfo(name)  # no names of owners: the host's passwd knows nothing of the container's ids
        member.mode, member.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
        member.uid, member.gid = status.st_uid, status.st_gid
        if self.recorded and stat.S_IFMT(status.st_mode) in _RECORDED and _read_record(source, member):
            self.archive.addfile(member)
            return
        if stat.S_ISDIR(status.st_mode):
            member.type = tarfile.DIRTYPE
            self.archive.addfile(member)
            if status.st_dev not in self.left_out:
                self._add_entries(source, name, depth)
        elif stat.S_ISLNK(status.st_mode):
            target = os.readlink(source.name, dir_fd=source.directory)
            member.type, member.linkname = tarfile.SYMTYPE, os.fsdecode(target)
            self.archive.addfile(member)
        elif stat.S_ISFIFO(status.st_mode):
            member.type = tarfile.FIFOTYPE
            self.archive.addfile(member)
        elif stat.S_ISREG(status.st_mode):
            self._add_file(source, member)
        else:
            warn_of_kind(source.shown)

    def _add_entries(self, source: Place, name: str, depth: int) -> None:
        here = os.open(source.name, DIRECTORY, dir_fd=source.directory)
        try:
            for entry in sorted(map(os.fsencode, os.listdir(here))):
                below = Place(here, entry, f"{source.shown}/{os.fsdecode(entry)}")
                self.add(below, f"{name}/{os.fsdecode(entry)}", depth + 1)
        finally:
            os.close(here)

    def _add_file(self, source: Place, member: tarfile.TarInfo) -> None:
        with open(open_file(source), "rb") as reader:
            status = os.fstat(reader.fileno())
            key = status.st_dev, status.st_ino
            if status.st_nlink > 1 and key in self.first:
                member.type, member.linkname = tarfile.LNKTYPE, self.first[key]
                self.archive.addfile(member)
                return
            member.size = status.st_size
            self.archive.addfile(member, reader)
            if status.st_nlink > 1:
                self.first[key] = member.name


def _read_record(source: Place, member: tarfile.TarInfo) -> bool:
    """Give a member the owner that root emulation has recorded of a file; return whether it is a device's record."""
    path = _path(source)
    try:
        member.uid, member.gid = attribute.decode(os.getxattr(path, attribute.XATTR, follow_symlinks=False))
    except (OSError, ValueError):  # there is none, or a damaged one
        pass
    try:
        value = os.getxattr(path, attribute.DEVICE_XATTR, follow_symlinks=False)
        kind, member.devmajor, member.devminor = attribute.decode_device(value)
    except (OSError, ValueError):
        return False
    member.type = tarfile.CHRTYPE if kind == "c" else tarfile.BLKTYPE
    return True


def _path(place: Place) -> bytes:
    return b"/proc/self/fd/%d/%b" % (place.directory, place.name)


def read_tar(stream: IO[bytes], target: Place, *, owners: bool, recorded: bool = False) -> None:
    """Unpack a tar stream into a directory; nothing in it leads out of that. Raises RootlessError.

    owners: give each file the owner that the stream names, if that may be had; recorded: record it in an attribute.
    """
    if target.kind() != stat.S_IFDIR:
        raise RootlessError("a tar stream needs a directory", target.shown, errno.ENOTDIR)
    fd = os.open(target.name, DIRECTORY, dir_fd=target.directory)
    root = Root(fd)
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as archive:
            for member in archive:
                _unpack_member(root, archive, member, target, _Owners(real=owners, recorded=recorded))
    except tarfile.TarError as error:
        raise RootlessError(f"not a tar stream: {error}", "standard input") from None
    except OSError as error:
        raise RootlessError.from_os(error, "cannot read the tar stream", "standard input") from None
    finally:
        root.close()
        os.close(fd)


def _unpack_member(
    root: Root, archive: tarfile.TarFile, member: tarfile.TarInfo, target: Place, owners: _Owners
) -> None:
    """Unpack one member. Raises RootlessError, which names the member, and tarfile.TarError."""
    try:
        _unpack(root, archive, member, owners)
    except tarfile.TarError:
        raise
    except OSError as error:
        place = f"{target.shown}/{printable(member.name)}"
        raise RootlessError.from_os(error, "cannot unpack", place) from None


def _unpack(root: Root, archive: tarfile.TarFile, member: tarfile.TarInfo, owners: _Owners) -> None:
    path = _inside(member.name, member)
    if not path:
        return
    above, _, name = path.rpartition(b"/")
    parent = root.directory(above, create=True)  # this keeps its fd open
    place = Place(parent.fd, name, member.name)
    if member.isdir():
        if place.kind() != stat.S_IFDIR:
            os.mkdir(place.name, 0o700, dir_fd=place.directory)
            owners.give(place, member)
            made = os.open(place.name, DIRECTORY, dir_fd=place.directory)  # chmod(2) would follow a link in its place
            os.fchmod(made, member.mode & INTO)
            os.close(made)
        return
    source = archive.extractfile(member) if member.isfile() else None
    if source is None and not (member.issym() or member.islnk() or member.isfifo()):
        warn_of_kind(member.name)
        return
    if member.islnk():
        _link(root, place, _inside(member.linkname, member))
        return
    if place.kind():
        make_room(place)
        root.forget()
    if source is not None:
        with create(place) as writer:
            shutil.copyfileobj(source, writer, 1 << 18)
            writer.flush()
            owners.give(place, member)
            os.fchmod(writer.fileno(), member.mode & INTO)
            os.utime(writer.fileno(), ns=(_time(member), _time(member)))
        return
    if member.issym():
        os.symlink(member.linkname, place.name, dir_fd=place.directory)
    else:
        os.mkfifo(place.name, member.mode & INTO, dir_fd=place.directory)
    owners.give(place, member)


def _inside(name: str, member: tarfile.TarInfo) -> bytes:
    """Return a member's path below the directory. Raises RootlessError if it leads out of that."""
    path = normal(os.fsencode(name))
    if b".." in path.split(b"/"):
        raise RootlessError("a member of the tar stream leads out of the directory", printable(member.name))
    return path


def _link(root: Root, place: Place, first: bytes) -> None:
    """Make the place another name of a file that an earlier member was, or that is there."""
    above, _, name = first.rpartition(b"/")
    parent = root.directory(above)  # this keeps its fd open
    source = Place(parent.fd, name, place.shown)
    old, new = (
        os.stat(each.name, dir_fd=each.directory, follow_symlinks=False) if each.kind() else None
        for each in (source, place)
    )
    if old and new and os.path.samestat(old, new):
        return
    if new:
        make_room(place)
        root.forget()
    os.link(name, place.name, src_dir_fd=source.directory, dst_dir_fd=place.directory, follow_symlinks=False)


def _time(member: tarfile.TarInfo) -> int:
    """Return a member's time in nanoseconds. A stream may say any number; the kernel clamps it to the file system's."""
    if member.mtime != member.mtime:  # not a number
        return 0
    seconds = min(max(member.mtime, -_FAR), _FAR)
    return int(seconds // 1) * 10**9 + int(seconds % 1 * 10**9)


class _Owners:
    """Give new files the owners of their members: real ones, or ones that root emulation shows. Others are root's."""

    def __init__(self, *, real: bool, recorded: bool) -> None:
        self.real = real
        self.recorded = recorded

    def give(self, place: Place, member: tarfile.TarInfo) -> None:
        """Give a new file the member's owner, unless that cannot be. Raises OSError."""
        if not (member.uid or member.gid) or member.uid not in _IDS or member.gid not in _IDS:
            return
        try:
            if self.real:
                os.chown(place.name, member.uid, member.gid, dir_fd=place.directory, follow_symlinks=False)
            elif self.recorded and (member.isfile() or member.isdir()):  # others have no attributes: xattr(7)
                value = attribute.encode(member.uid, member.gid)
                os.setxattr(_path(place), attribute.XATTR, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
