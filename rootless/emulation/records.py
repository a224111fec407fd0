"""Remember the owners and the types that programs gave to files: in extended attributes, which `pack` reads.

A symbolic link, a socket or a device has no user.* attributes (xattr(7)), and some file systems have none at all. The
owners of such files are kept in memory, until the supervisor ends. Paths are the supervisor's own: they begin with "/",
the container's root, or lead through its working directory, which is /proc/PID of the process that is served.
"""

from __future__ import annotations

import os
from errno import EACCES, ENODATA, ENOTSUP, EPERM, ESRCH
from stat import S_IFBLK, S_IFCHR, S_IFMT, S_IMODE, S_ISDIR, S_ISLNK, S_ISREG
from typing import TYPE_CHECKING

from oci import rootlesscontainers as attribute
from rootless.emulation.layouts import Shown, join_device, split_device

if TYPE_CHECKING:
    Owner = tuple[int, int]

_OWNER, _DEVICE = os.fsdecode(attribute.XATTR), os.fsdecode(attribute.DEVICE_XATTR)
_UNABLE = (EPERM, EACCES, ENOTSUP)  # what setxattr(2) answers where it cannot work
_SET_ID = 0o6000
_MOST = 1 << 16  # files whose owner is kept in memory


class Records:
    """What is remembered of files. Every method raises the OSError that the program should get."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], tuple[int, str, Owner]] = {}  # (device, inode): (type, link's target, owner)
        self._values: dict[Owner, bytes] = {}
        self._owners: dict[bytes, Shown] = {}  # what attributes mean

    def set_owner(self, path: bytes, st: os.stat_result, owner: Owner, *, follow: bool) -> None:
        """Remember a file's owner. st: its real status."""
        is_real = owner == (st.st_uid, st.st_gid)
        if not (S_ISREG(st.st_mode) or S_ISDIR(st.st_mode)):
            self._keep(path, st, None if is_real else owner)
            return
        try:
            if is_real:
                os.removexattr(path, _OWNER, follow_symlinks=follow)
            else:
                os.setxattr(path, _OWNER, self._encode(owner), follow_symlinks=follow)
        except OSError as error:
            if error.errno in _UNABLE:
                self._keep(path, st, None if is_real else owner)
            elif error.errno != ENODATA:
                raise
        if st.st_mode & _SET_ID and S_ISREG(st.st_mode):
            os.chown(path, -1, -1, follow_symlinks=follow)  # any change of owner removes these bits: chown(2)

    def set_quickly(self, path: bytes, owner: Owner) -> bool:
        """Remember the owner of a file that is open; return whether that worked. `set_owner` does what this leaves out.

        It does not look whether the file has a set-user-ID bit, because programs set that after the owner.
        """
        try:
            os.setxattr(path, _OWNER, self._values.get(owner) or self._encode(owner))
        except OSError:
            return False
        return True

    def has_owner(self, path: bytes, *, follow: bool) -> bool:
        """Return whether a file may have another owner than the real one.

        To ask takes less time than to remove an attribute that is not there. Raises ProcessLookupError below /proc/PID
        of a process that has ended.
        """
        try:
            return bool(self._kept) or _OWNER in os.listxattr(path, follow_symlinks=follow)
        except ProcessLookupError:
            raise
        except OSError:
            return False  # no attributes, or the kernel says what is wrong

    def forget_owner(self, path: bytes, *, follow: bool) -> None:
        """Forget a file's owner, so that the real one is shown."""
        try:
            os.removexattr(path, _OWNER, follow_symlinks=follow)
        except OSError as error:
            if error.errno != ENODATA and self._kept:
                try:
                    st = os.stat(path, follow_symlinks=follow)
                except OSError:
                    return  # the kernel says what is wrong
                self._keep(path, st, None)

    def _encode(self, owner: Owner) -> bytes:
        value = self._values.get(owner)
        if value is None:
            if len(self._values) > _MOST:
                self._values.clear()
            value = self._values[owner] = attribute.encode(*owner)
        return value

    def _decode(self, value: bytes) -> Shown:
        """Return what an attribute means. Raises ValueError."""
        if len(self._owners) > _MOST:
            self._owners.clear()
        shown = self._owners[value] = Shown(*attribute.decode(value))
        return shown

    def _keep(self, path: bytes, st: os.stat_result, owner: Owner | None) -> None:
        key = st.st_dev, st.st_ino
        if owner is None:
            self._kept.pop(key, None)
            return
        if len(self._kept) >= _MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = S_IFMT(st.st_mode), _target(path, st), owner

    def owner(self, path: bytes, st: os.stat_result, *, follow: bool) -> Owner:
        """Return a file's owner: the remembered one, else the real one."""
        try:
            return attribute.decode(os.getxattr(path, _OWNER, follow_symlinks=follow))
        except (OSError, ValueError):
            return self._find_kept(path, st) or (st.st_uid, st.st_gid)

    def _find_kept(self, path: bytes, st: os.stat_result) -> Owner | None:
        """Return the owner that is kept in memory, if the inode is still the same file: numbers are used again."""
        kept = self._kept.get((st.st_dev, st.st_ino))
        if kept and kept[0] == S_IFMT(st.st_mode) and kept[1] == _target(path, st):
            return kept[2]
        return None

    def shown(self, path: bytes, flags: int) -> Shown | None:
        """Return what stat(2) shows of a file in place of the kernel's answer; None if that is right, or an error.

        Raises ProcessLookupError below /proc/PID of a process that has ended. flags: AT_SYMLINK_NOFOLLOW or 0, because
        Python passes a keyword more slowly.
        """
        try:
            names = os.listxattr(path, follow_symlinks=False) if flags else os.listxattr(path)
            if names and _DEVICE in names:
                return self._device(path, follow=not flags)
            if names and _OWNER in names:
                value = os.getxattr(path, _OWNER, follow_symlinks=not flags)
                return self._owners.get(value) or self._decode(value)
        except ValueError:
            pass  # a damaged attribute
        except OSError as error:
            if error.errno == ESRCH:
                raise
            if error.errno != ENOTSUP:
                return None
        if not self._kept:
            return None
        owner = self._find_kept(path, os.stat(path, follow_symlinks=not flags))
        return Shown(*owner) if owner else None

    def _device(self, path: bytes, *, follow: bool) -> Shown:
        kind, major, minor = attribute.decode_device(os.getxattr(path, _DEVICE, follow_symlinks=follow))
        owner = self.owner(path, os.stat(path, follow_symlinks=follow), follow=follow)
        return Shown(*owner, S_IFCHR if kind == "c" else S_IFBLK, join_device(major, minor))

    @staticmethod
    def make_device(path: bytes, mode: int, rdev: int) -> None:
        """Make an empty file that stands for a device node. mode: with the type, and without the umask's bits."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            kind = "c" if S_IFMT(mode) == S_IFCHR else "b"
            os.setxattr(fd, _DEVICE, attribute.encode_device(kind, *split_device(rdev)))
            os.fchmod(fd, S_IMODE(mode))
        except OSError:
            os.unlink(path)
            raise
        finally:
            os.close(fd)


def _target(path: bytes, st: os.stat_result) -> str:
    if not S_ISLNK(st.st_mode):
        return ""
    try:
        return os.fsdecode(os.readlink(path))
    except OSError:  # the path is fd/N of a descriptor that was opened for the link itself (O_PATH | O_NOFOLLOW)
        return ""
