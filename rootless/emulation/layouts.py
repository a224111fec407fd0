"""Change the result of stat(2) and statx(2), as each architecture lays it out (asm/stat.h, asm/compat.h). Pure."""

from __future__ import annotations

import struct
from stat import S_IMODE
from typing import TYPE_CHECKING

from rootless.emulation.numbers import AARCH64, X86_64

if TYPE_CHECKING:
    import os
    from typing import Any

_NS = 10**9
_I386 = struct.Struct("<2I4H4I6I8x")
_I386_64 = struct.Struct("<Q4x5IQ4xqIQ6IQ")
_OVERFLOW = 65534  # what a call with ids of 16 bits returns for a larger one: /proc/sys/fs/overflowuid


class Shown:
    """What stat(2) shows of a file in place of the kernel's answer. kind: S_IFCHR or S_IFBLK of a device, else 0."""

    __slots__ = ("gid", "kind", "rdev", "uid")

    def __init__(self, uid: int, gid: int, kind: int = 0, rdev: int = 0) -> None:
        self.uid = uid
        self.gid = gid
        self.kind = kind
        self.rdev = rdev


_two_ids = struct.Struct("<2I").pack_into
# struct stat: offsets of st_uid (st_gid follows), st_mode, st_rdev. x32 has that of x86_64.
_STAT = {X86_64: (28, 24, 40), AARCH64: (24, 16, 32)}
# struct statx (linux/stat.h): offsets of stx_uid, stx_mode, stx_rdev_major
_STATX_IDS, _STATX_MODE, _STATX_RDEV = 20, 28, 128


def patch_stat(buffer: Any, arch: int, shown: Shown) -> None:
    """Change struct stat of x86_64 or aarch64 in a writable buffer. arch: AUDIT_ARCH_* (linux/audit.h)."""
    ids, mode_at, device_at = _STAT[arch]
    _two_ids(buffer, ids, shown.uid, shown.gid)
    if shown.kind:
        (mode,) = struct.unpack_from("<I", buffer, mode_at)
        struct.pack_into("<I", buffer, mode_at, shown.kind | S_IMODE(mode))
        struct.pack_into("<Q", buffer, device_at, shown.rdev)


def patch_statx(buffer: Any, shown: Shown) -> None:
    """Change struct statx in a writable buffer."""
    _two_ids(buffer, _STATX_IDS, shown.uid, shown.gid)
    if shown.kind:
        (mode,) = struct.unpack_from("<H", buffer, _STATX_MODE)
        struct.pack_into("<H", buffer, _STATX_MODE, shown.kind | S_IMODE(mode))
        _two_ids(buffer, _STATX_RDEV, *split_device(shown.rdev))


def i386(st: os.stat_result, shown: Shown) -> bytes:
    """Return struct compat_stat. Raises struct.error for what does not fit, which the kernel calls EOVERFLOW."""
    return _I386.pack(
        st.st_dev, st.st_ino, _mode(st, shown), st.st_nlink, _low(shown.uid), _low(shown.gid), _device(st, shown),
        st.st_size, st.st_blksize, st.st_blocks, *_times(st),
    )  # fmt: skip


def i386_64(st: os.stat_result, shown: Shown) -> bytes:
    """Return struct stat64 of i386."""
    return _I386_64.pack(
        st.st_dev, st.st_ino & 0xFFFFFFFF, _mode(st, shown), st.st_nlink, shown.uid, shown.gid, _device(st, shown),
        st.st_size, st.st_blksize, st.st_blocks, *(part & 0xFFFFFFFF for part in _times(st)), st.st_ino,
    )  # fmt: skip


def _times(st: os.stat_result) -> tuple[int, ...]:
    return *divmod(st.st_atime_ns, _NS), *divmod(st.st_mtime_ns, _NS), *divmod(st.st_ctime_ns, _NS)


def _mode(st: os.stat_result, shown: Shown) -> int:
    return shown.kind | S_IMODE(st.st_mode) if shown.kind else st.st_mode


def _device(st: os.stat_result, shown: Shown) -> int:
    return shown.rdev if shown.kind else st.st_rdev


def _low(number: int) -> int:
    return number if number < 0xFFFF else _OVERFLOW


def split_device(rdev: int) -> tuple[int, int]:
    """Return (major, minor) of a device number as mknod(2) takes it (linux/kdev_t.h, new_decode_dev)."""
    return (rdev & 0xFFF00) >> 8, rdev & 0xFF | rdev >> 12 & 0xFFF00


def join_device(major: int, minor: int) -> int:
    """Return the device number of (major, minor), as stat(2) returns it (linux/kdev_t.h, new_encode_dev)."""
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12
