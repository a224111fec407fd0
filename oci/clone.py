"""Copy trees by directory fds: with reflinks if the file system has them, else by copies inside the kernel."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from oci.root import READ_DIRECTORY, Root

_FICLONE = 0x40049409  # linux/fs.h
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_CLONE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS)
_NO_XATTR = (errno.ENOTSUP, errno.EPERM)


def clone_tree(source_fd: int, target_fd: int, skip: frozenset[bytes] = frozenset()) -> int:
    """Make an empty directory a copy of another: owners, modes, times, attributes, hard links.

    skip: names at the top that are left out. Nobody else may write to either tree meanwhile. Return the bytes of the
    files. Raises OSError.
    """
    clone = _Clone(target_fd)
    try:
        size = clone.directory(source_fd, target_fd, skip=skip)
        _describe(source_fd, target_fd, os.fstat(source_fd))
        return size
    finally:
        clone.root.close()


class _Clone:
    def __init__(self, target_fd: int) -> None:
        self.root = Root(target_fd)
        self._can_share = True
        self._first: dict[tuple[int, int], tuple[bytes, bytes]] = {}  # a hard link's first copy: directory and name

    def directory(self, source: int, target: int, path: bytes = b"", skip: frozenset[bytes] = frozenset()) -> int:
        size = 0
        for name in map(os.fsencode, os.listdir(source)):
            if name in skip:
                continue
            st = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(st.st_mode):
                size += self._directory(name, st, source, target, path + b"/" + name if path else name)
                continue
            key = (st.st_dev, st.st_ino)
            if key in self._first:
                directory, first = self._first[key]
                holder = self.root.directory(directory)
                os.link(first, name, src_dir_fd=holder.fd, dst_dir_fd=target, follow_symlinks=False)
                continue
            size += self._entry(name, st, source, target)
            if st.st_nlink > 1:
                self._first[key] = (path, name)
        return size

    def _directory(self, name: bytes, st: os.stat_result, source: int, target: int, path: bytes) -> int:
        os.mkdir(name, 0o700, dir_fd=target)
        below = _open(name, READ_DIRECTORY, st, source)
        copy = os.open(name, READ_DIRECTORY, dir_fd=target)
        try:
            size = self.directory(below, copy, path)
            _describe(below, copy, st)
            if st.st_mode & 0o500 != 0o500 and os.fstat(below).st_mode != st.st_mode:
                os.fchmod(below, stat.S_IMODE(st.st_mode))
        finally:
            os.close(below)
            os.close(copy)
        return size

    def _entry(self, name: bytes, st: os.stat_result, source: int, target: int) -> int:
        if stat.S_ISREG(st.st_mode):
            old = _open(name, _READ, st, source)
            try:
                new = os.open(name, _NEW, 0o600, dir_fd=target)
                try:
                    self._contents(old, new, st.st_size)
                    _describe(old, new, st)
                finally:
                    os.close(new)
            finally:
                os.close(old)
            return st.st_blocks * 512
        if stat.S_ISLNK(st.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        elif stat.S_ISFIFO(st.st_mode):
            os.mkfifo(name, stat.S_IMODE(st.st_mode), dir_fd=target)
        elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            os.mknod(name, st.st_mode, st.st_rdev, dir_fd=target)
        else:
            return 0
        if (st.st_uid, st.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(name, st.st_uid, st.st_gid, dir_fd=target, follow_symlinks=False)
        os.utime(name, ns=(st.st_mtime_ns, st.st_mtime_ns), dir_fd=target, follow_symlinks=False)
        return 0

    def _contents(self, old: int, new: int, size: int) -> None:
        if self._can_share and size:
            try:
                fcntl.ioctl(new, _FICLONE, old)
                return
            except OSError as error:
                if error.errno not in _NO_CLONE:
                    raise
                self._can_share = False
        os.ftruncate(new, size)
        offset = 0
        while offset < size:
            try:
                offset = os.lseek(old, offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # the rest of the file is a hole: lseek(2)
                    return
                raise
            end = os.lseek(old, offset, os.SEEK_HOLE)
            offset = _copy_range(old, new, offset, end)


def _open(name: bytes, flags: int, st: os.stat_result, source: int) -> int:
    """Open for reading. A mode that denies it to its owner, which is this user, is changed for a moment."""
    try:
        return os.open(name, flags, dir_fd=source)
    except PermissionError:
        os.chmod(name, stat.S_IMODE(st.st_mode) | 0o500, dir_fd=source)
        fd = os.open(name, flags, dir_fd=source)
        if not stat.S_ISDIR(st.st_mode):  # a directory must stay open to its owner until all in it was read
            os.fchmod(fd, stat.S_IMODE(st.st_mode))
        return fd


def _copy_range(old: int, new: int, offset: int, end: int) -> int:
    while offset < end:
        try:
            copied = os.copy_file_range(old, new, end - offset, offset, offset)
        except OSError as error:
            if error.errno not in _NO_CLONE:
                raise
            copied = os.pwrite(new, os.pread(old, min(end - offset, 1 << 20), offset), offset)
        if not copied:
            return end
        offset += copied
    return offset


def _describe(old: int, new: int, st: os.stat_result) -> None:
    """Set owner, attributes, mode and times, in the order in which none undoes another (chown(2), utimensat(2))."""
    if (st.st_uid, st.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(new, st.st_uid, st.st_gid)
    try:
        for name in os.listxattr(old):
            if name.startswith(("user.", "security.capability", "system.posix_acl")):
                os.setxattr(new, name, os.getxattr(old, name))
    except OSError as error:
        if error.errno not in _NO_XATTR:
            raise
    os.fchmod(new, stat.S_IMODE(st.st_mode))
    os.utime(new, ns=(st.st_mtime_ns, st.st_mtime_ns))
