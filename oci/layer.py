"""Apply layers to a directory: files, links, owners, times, whiteouts (image-spec layer.md). It is the unpacker.

Layers are hostile. `oci.root` resolves every path, directory fd by directory fd. The last part of a name is only ever
created, linked or unlinked relative to such an fd, and never followed. Nothing that exists is opened for writing, and
no FIFO or device is opened at all.
"""

from __future__ import annotations

import os
import re
from stat import S_IFBLK, S_IFCHR, S_ISDIR

from oci import tar
from oci.attributes import OVERLAY_OPAQUE, Attributes, Report
from oci.errors import OciError, printable
from oci.owners import Owners
from oci.reader import SharedSource
from oci.record import Entry, Recorder
from oci.root import READ_DIRECTORY, Directory, Root, normal
from oci.times import time_limits
from oci.whiteouts import NO_DIRECTORY, WHITEOUT, LowerLayers

MAX_FILES = 4_000_000  # default of --max-files: members of all layers together
_AUFS, _OPAQUE, _PLINKS = b".wh..wh.", b".wh..wh..opq", b".wh..wh.plnk"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Matches a leading slash, and a dot at the begin of any component: paths to normalise, hidden files and whiteouts.
_needs_normalising = re.compile(rb"(?:^|/)[./]").search
_PORTABLE_MTIME_NS = (1 << 31) * 1_000_000_000  # every file system keeps times from 0 to this


class Tree:
    """A root file system that layers are applied to, the lowest first, until `finish`.

    root_fd: an empty directory; aside_fd: a directory beside it, for files that AUFS kept out of the tree; owners: how
    ids are written; record: where each entry gets a line. The process must have umask 0.
    """

    def __init__(
        self, root_fd: int, aside_fd: int, owners: Owners, record: Recorder, *, max_files: int = MAX_FILES,
        devices: bool = False,
    ) -> None:  # fmt: skip
        self.report = Report()
        self.root = Root(root_fd, self._on_created)
        self._aside_fd = aside_fd
        self._plinks: dict[bytes, tar.Member | bytes] = {}  # name in aside_fd -> its member, then its first hard link
        self._owners = owners
        self._record = record
        self._max_files = max_files
        self._real_devices = devices
        self._own = (os.geteuid(), os.getegid())
        self._where = ""
        # Modes and times that directories get in `finish`: until then they must be writable to their owner, and each
        # new entry changes their times.
        self._pending: dict[bytes, tuple[int, int]] = {}  # real path -> (mode, mtime in ns)
        self._lower = LowerLayers(self.root, owners, record, self._pending)
        self._attributes = Attributes(owners, self.report)
        self._times: tuple[int, int] | None = None  # time_limits of the file system, asked for when first needed
        self._layers = 0

    def apply(self, source: SharedSource, where: str) -> None:
        """Apply one layer; `where` is its name for messages. Raises OciError, after which the tree is unusable."""
        self._where = where
        self._lower.begin_layer(is_lowest=not self._layers)
        self._layers += 1
        for member in tar.members(source, where):
            self.report.members += 1
            if self.report.members > self._max_files:
                raise OciError(f"more than {self._max_files} members", where, hint="--max-files sets the limit")
            try:
                self._add(source, member)
            except OSError as error:
                raise OciError.from_os(error, "cannot unpack", self._at(member.name)) from None
        for name in self._plinks:
            os.unlink(name, dir_fd=self._aside_fd)
        self._plinks.clear()

    def adopt(self, entries: dict[bytes, Entry], layers: int) -> None:
        """Continue with a tree from the cache, which holds that many layers and whose record is `entries`."""
        self._layers = layers
        for path, entry in entries.items():
            if entry.type != tar.DIRECTORY:
                continue
            if entry.mtime is not None:
                self._pending[path] = (entry.mode, entry.mtime)
            if entry.mode & 0o700 != 0o700:
                parent, _, name = path.rpartition(b"/")
                directory = self.root.directory(parent)
                os.chmod(name or b".", entry.mode | 0o700, dir_fd=directory.fd)

    def finish(self) -> None:
        """Set modes and times of directories, the deepest first. Raises OciError."""
        path = b""
        try:
            for path in sorted(self._pending, reverse=True):
                mode, mtime = self._pending[path]
                parent, _, name = path.rpartition(b"/")
                directory = self.root.directory(parent)
                fd = os.open(name or b".", READ_DIRECTORY, dir_fd=directory.fd)
                try:
                    if mode >= 0:
                        os.fchmod(fd, mode)
                    os.utime(fd, ns=(mtime, mtime))
                finally:
                    os.close(fd)
        except OSError as error:
            raise OciError.from_os(error, "cannot unpack", path) from None

    def _at(self, name: bytes) -> str:
        return f"{self._where}: {printable(name)}"

    def _add(self, source: SharedSource, member: tar.Member) -> None:
        if self._lower.is_stale:
            self.root.forget()
            self._lower.is_stale = False
        if not 0 <= member.mtime < _PORTABLE_MTIME_NS:
            member.mtime = self._clamp_time(member.mtime)
        path = member.name
        parent, _, base = path.rpartition(b"/")
        directory = self.root.known(parent)  # a path in the cache is in its normal form, so skip normalising it
        if directory is None or base.startswith(b"."):
            if _needs_normalising(path):
                path = self._clean(path)
                parent, _, base = path.rpartition(b"/")
                if WHITEOUT in path and self._special(source, member, path, parent, base):
                    return
            directory = self._parent(parent)
        fd, real = directory.fd, directory.path
        if not base:
            self._add_root(member, fd)
            return
        whole = real + b"/" + base if real else base
        if member.type == tar.CHARACTER and member.device == (0, 0):
            self._lower.white_out(parent, base)  # overlayfs's form of a whiteout is a device 0:0
            return
        self._lower.note(whole, real)
        if member.type == tar.FILE:
            self._add_file(source, member, fd, whole, base)
        elif member.type == tar.DIRECTORY:
            self._add_directory(member, fd, whole, base)
        elif member.type == tar.HARDLINK:
            self._add_hard_link(member, fd, whole, base)
        else:
            self._add_other(member, fd, whole, base)

    def _clamp_time(self, mtime: int) -> int:
        """Return the time (ns) that the file system will keep, so that the record says what is on the disk."""
        if self._times is None:
            self._times = time_limits(self._aside_fd)
        earliest, latest = self._times
        return min(max(mtime, earliest), latest)

    def _parent(self, path: bytes) -> Directory:
        """Return the directory that an entry goes into, after making its missing parts.

        A file, FIFO or dangling link of a lower layer that stands in the way is removed. Docker stores each layer in a
        tree of its own, so such a layer is valid there.
        """
        if self._lower.exist:
            try:
                return self.root.directory(path)
            except OSError as error:
                if error.errno not in NO_DIRECTORY:
                    raise
            self._lower.clear_way(path)
        return self.root.directory(path, create=True)

    def _clean(self, name: bytes) -> bytes:
        """Return a path without empty parts, dots or a leading slash. Raises OciError for `..`."""
        if name.startswith(b"/"):
            self.report.absolute += 1
        if _needs_normalising(name):
            name = normal(name)
            if b".." in name.split(b"/"):
                raise OciError("a member name with ..", self._at(name))
        return name

    def _special(self, source: SharedSource, member: tar.Member, path: bytes, parent: bytes, base: bytes) -> bool:
        """Apply a whiteout, or skip a file of AUFS's own; return False if the member is neither.

        Docker's layers have both, because its first driver was AUFS (image-spec layer.md, "Whiteouts").
        """
        parts = path.split(b"/")
        if any(part.startswith(_AUFS) for part in parts[:-1]):
            if parts[0] == _PLINKS and len(parts) == 2 and member.type == tar.FILE:
                self._keep_aside(source, member, base)
            return True
        if any(part.startswith(WHITEOUT) for part in parts[:-1]) and not self._lower.is_below_directory(parts[:-1]):
            raise OciError("a member below a whiteout", self._at(path))
        if not base.startswith(WHITEOUT):
            return False
        if base == _OPAQUE:
            self._lower.clear_lower(parent)
        elif not base.startswith(_AUFS):
            name = base[len(WHITEOUT) :]
            if name in (b"", b".", b".."):
                raise OciError("a whiteout that names no file", self._at(path))
            self._lower.white_out(parent, name)
            if member.type == tar.DIRECTORY:
                self._lower.named_whiteouts.add(path)
        return True

    def _on_created(self, path: bytes) -> None:
        """Record a parent directory that the archive does not list: mode 0755, owned by 0:0, without a time."""
        parent, _, _ = path.rpartition(b"/")
        self._record.add(path, tar.DIRECTORY, 0o755, 0, 0, 0, None)
        self._lower.note_directory(path, parent)

    def _add_root(self, member: tar.Member, fd: int) -> None:
        if member.type != tar.DIRECTORY:
            raise OciError("the root is not a directory in this layer", self._at(member.name))
        self._describe_directory(member, fd, b"", b".", fresh=False)

    def _add_directory(self, member: tar.Member, fd: int, path: bytes, base: bytes) -> None:
        fresh = True
        try:
            os.mkdir(base, member.mode & 0o777 | 0o700, dir_fd=fd)
        except FileExistsError:
            fresh = not S_ISDIR(os.stat(base, dir_fd=fd, follow_symlinks=False).st_mode)
            if fresh:
                self._lower.remove(fd, path.rpartition(b"/")[0], base, keep_upper=False)
                os.mkdir(base, member.mode & 0o777 | 0o700, dir_fd=fd)
        if fresh:
            self._lower.note_directory(path, path.rpartition(b"/")[0])
        self._describe_directory(member, fd, path, base, fresh=fresh)

    def _describe_directory(self, member: tar.Member, fd: int, path: bytes, base: bytes, *, fresh: bool) -> None:
        exact = fresh and member.mode & 0o7700 == 0o700
        self._pending[path] = (-1 if exact else member.mode, member.mtime)
        opaque = any(member.xattrs.get(name) == b"y" for name in OVERLAY_OPAQUE)
        if opaque and path:
            self._lower.clear_lower(path)
        owner = self._owners.owner_on_disk(member.uid, member.gid, self._where)
        if not fresh or member.xattrs or self._owners.mode == "xattr":
            own = os.open(base, READ_DIRECTORY, dir_fd=fd)
            try:
                if not fresh:
                    os.fchmod(own, member.mode & 0o777 | 0o700)
                    self._attributes.drop(own)
                self._attributes.set_all(own, member)
            finally:
                os.close(own)
        if self._owners.mode == "map" and (not fresh or owner != self._own):
            os.chown(base, *owner, dir_fd=fd, follow_symlinks=False)
        self._note(path, member)

    def _add_file(self, source: SharedSource, member: tar.Member, fd: int, path: bytes, base: bytes) -> None:
        owner = self._owners.owner_on_disk(member.uid, member.gid, self._where)
        kept = self._owners.mode == "xattr" and (member.uid or member.gid)
        chown = owner != self._own and self._owners.mode == "map"
        # chown(2) and write(2) clear setuid and setgid, and setxattr(2) needs a mode that lets the owner write. Such
        # files are written here, and get their mode last.
        later = bool(kept or chown or member.xattrs or member.mode & 0o7000)
        mode = 0o600 if later else member.mode
        try:
            file = os.open(base, _NEW, mode, dir_fd=fd)
        except FileExistsError:
            self._lower.remove(fd, path.rpartition(b"/")[0], base, keep_upper=False)
            file = os.open(base, _NEW, mode, dir_fd=fd)
        if member.stored and not later and member.sparse is None:
            self._hand_over(source, member, file)
        else:
            try:
                self._write(source, member, file)
                if later:
                    self._describe_file(member, file, owner if chown else None)
                os.utime(file, ns=(member.mtime, member.mtime))
            finally:
                os.close(file)
        if member.xattrs:
            self._note(path, member)
        else:
            self._record.add(path, tar.FILE, member.mode, member.uid, member.gid, member.size, member.mtime)

    def _hand_over(self, source: SharedSource, member: tar.Member, file: int) -> None:
        if not source.hand_over(member.stored, file, member.mtime):
            os.close(file)
            raise OciError("truncated in the middle of a file", self._at(member.name))

    def _describe_file(self, member: tar.Member, file: int, owner: tuple[int, int] | None) -> None:
        """Set attributes, then the owner (None for our own), then the mode, which chown(2) may change."""
        self._attributes.set_all(file, member)
        if owner:
            os.fchown(file, *owner)
            self._attributes.set_capability(file, member)
        os.fchmod(file, member.mode)

    def _write(self, source: SharedSource, member: tar.Member, file: int) -> None:
        if member.sparse is not None:
            self._write_sparse(source, member, file)
            return
        left = member.stored
        for piece in source.pieces(left):
            written = os.write(file, piece)
            left -= len(piece)
            while written < len(piece):
                written += os.write(file, piece[written:])
        if left:
            raise OciError("truncated in the middle of a file", self._at(member.name))

    def _write_sparse(self, source: SharedSource, member: tar.Member, file: int) -> None:
        seen = 0
        for offset, piece in tar.contents(source, member):
            seen += len(piece)
            while piece:
                written = os.pwrite(file, piece, offset)
                piece, offset = piece[written:], offset + written
        if seen != member.stored:
            raise OciError("truncated in the middle of a file", self._at(member.name))
        os.ftruncate(file, member.size)

    def _add_hard_link(self, member: tar.Member, fd: int, path: bytes, base: bytes) -> None:
        target = self._clean(member.link)
        parent, _, name = target.rpartition(b"/")
        if parent == _PLINKS and name in self._plinks:
            directory = Directory(self._aside_fd, b"", is_ours=False)
        else:
            try:
                directory = self.root.directory(parent)
            except (FileNotFoundError, NotADirectoryError):
                raise OciError("a hard link to a file that does not exist", self._at(member.name)) from None
            if name in (b"", b"."):
                raise OciError("a hard link to a directory", self._at(member.name))
        source, whole = directory.fd, directory.join(name)
        try:
            os.link(name, base, src_dir_fd=source, dst_dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            raise OciError("a hard link to a file that does not exist", self._at(member.name)) from None
        except FileExistsError:
            if self._same(source, name, fd, base):
                return
            self._lower.remove(fd, path.rpartition(b"/")[0], base, keep_upper=False)
            os.link(name, base, src_dir_fd=source, dst_dir_fd=fd, follow_symlinks=False)
        except PermissionError as error:
            if S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
                raise OciError("a hard link to a directory", self._at(member.name)) from None
            raise error from None
        if source == self._aside_fd:
            kept = self._plinks[name]
            if isinstance(kept, tar.Member):
                self._plinks[name] = path
                self._note(path, kept)
                return
            whole = kept
        self._record.extra(path, Entry(tar.HARDLINK, link=whole))

    def _same(self, source: int, name: bytes, fd: int, base: bytes) -> bool:
        """Return whether both names are the same file, so that the link is there already. Raises OciError."""
        one, two = (os.stat(n, dir_fd=d, follow_symlinks=False) for n, d in ((name, source), (base, fd)))
        if S_ISDIR(one.st_mode):
            raise OciError("a hard link to a directory", f"{self._where}: {printable(base)}")
        return (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)

    def _keep_aside(self, source: SharedSource, member: tar.Member, base: bytes) -> None:
        """Write a file of .wh..wh.plnk, where AUFS kept files with hard links. Only the links get into the tree."""
        if base not in self._plinks:
            self._plinks[base] = member
            self._add_file(source, member, self._aside_fd, _PLINKS + b"/" + base, base)
            self._record.remove(_PLINKS + b"/" + base)

    def _add_other(self, member: tar.Member, fd: int, path: bytes, base: bytes) -> None:
        """Make a symbolic link, FIFO or device."""
        try:
            exact = self._create_other(member, fd, base)
        except FileExistsError:
            self._lower.remove(fd, path.rpartition(b"/")[0], base, keep_upper=False)
            exact = self._create_other(member, fd, base)
        owner = self._owners.owner_on_disk(member.uid, member.gid, self._where)
        if self._owners.mode == "map" and owner != self._own:
            os.chown(base, *owner, dir_fd=fd, follow_symlinks=False)
        if exact and member.type != tar.SYMLINK and member.mode & 0o7000:
            os.chmod(base, member.mode, dir_fd=fd)  # chmod follows links, but only we can write to the directory
        mtime = member.mtime
        os.utime(base, ns=(mtime, mtime), dir_fd=fd, follow_symlinks=False)
        for name in member.xattrs:
            self._attributes.count_lost(name)
        self._note(path, member)

    def _create_other(self, member: tar.Member, fd: int, base: bytes) -> bool:
        """Make the entry; return False if an empty file stands for a device that cannot be made here."""
        if member.type == tar.SYMLINK:
            if not member.link:
                raise OciError("a symbolic link without a target", self._at(member.name))
            os.symlink(member.link, base, dir_fd=fd)
            return True
        if member.type == tar.FIFO:
            os.mkfifo(base, member.mode & 0o777, dir_fd=fd)
            return True
        if self._real_devices:
            kind = S_IFCHR if member.type == tar.CHARACTER else S_IFBLK
            major, minor = member.device
            if major < 1 << 12 and minor < 1 << 20:  # the kernel's dev_t
                try:
                    os.mknod(base, kind | member.mode & 0o777, os.makedev(major, minor), dir_fd=fd)
                    return True
                except PermissionError:
                    pass
        os.close(os.open(base, _NEW, 0, dir_fd=fd))
        self.report.devices += 1
        if len(self.report.first_devices) < 3:
            self.report.first_devices.append(printable(member.name))
        return False

    def _note(self, path: bytes, member: tar.Member) -> None:
        """Write an entry's line of the record."""
        mtime = member.mtime
        kind = member.type
        if kind in (tar.FILE, tar.DIRECTORY) and not member.xattrs:
            self._record.add(path, kind, member.mode, member.uid, member.gid, member.size, mtime)
            return
        device = member.device if member.type in (tar.CHARACTER, tar.BLOCK_DEVICE) else (0, 0)
        link = member.link if member.type == tar.SYMLINK else b""
        self._record.extra(
            path, Entry(kind, member.mode, member.uid, member.gid, member.size, mtime, link, device, member.xattrs)
        )
