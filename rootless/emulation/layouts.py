"""Write the result of stat(2) as each architecture lays it out (asm/stat.h, asm/compat.h). Pure."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

_NS = 10**9
_X86_64 = struct.Struct("<3Q3I4xQ3q6q24x")
_AARCH64 = struct.Struct("<2Q4IQ8xqi4xq6q8x")
_I386 = struct.Struct("<2I4H4I6I8x")
_I386_64 = struct.Struct("<Q4x5IQ4xqIQ6IQ")
_OVERFLOW = 65534  # what a call with ids of 16 bits returns for a larger one: /proc/sys/fs/overflowuid


class Status:
    """The result of stat(2), with what is emulated in it."""

    __slots__ = ("gid", "mode", "rdev", "real", "uid")

    def __init__(self, real: os.stat_result, uid: int, gid: int, mode: int, rdev: int) -> None:
        self.real = real
        self.uid = uid
        self.gid = gid
        self.mode = mode
        self.rdev = rdev


def _times(real: os.stat_result) -> tuple[int, ...]:
    return *divmod(real.st_atime_ns, _NS), *divmod(real.st_mtime_ns, _NS), *divmod(real.st_ctime_ns, _NS)


def x86_64(status: Status) -> bytes:
    """Return struct stat of x86_64, which x32 has too."""
    st = status.real
    return _X86_64.pack(
        st.st_dev, st.st_ino, st.st_nlink, status.mode, status.uid, status.gid, status.rdev, st.st_size,
        st.st_blksize, st.st_blocks, *_times(st),
    )  # fmt: skip


def aarch64(status: Status) -> bytes:
    """Return struct stat of aarch64."""
    st = status.real
    return _AARCH64.pack(
        st.st_dev, st.st_ino, status.mode, st.st_nlink, status.uid, status.gid, status.rdev, st.st_size,
        st.st_blksize, st.st_blocks, *_times(st),
    )  # fmt: skip


def i386(status: Status) -> bytes:
    """Return struct compat_stat. Raises struct.error for what does not fit, which the kernel calls EOVERFLOW."""
    st = status.real
    return _I386.pack(
        st.st_dev, st.st_ino, status.mode, st.st_nlink, _low(status.uid), _low(status.gid), status.rdev, st.st_size,
        st.st_blksize, st.st_blocks, *_times(st),
    )  # fmt: skip


def i386_64(status: Status) -> bytes:
    """Return struct stat64 of i386."""
    st = status.real
    return _I386_64.pack(
        st.st_dev, st.st_ino & 0xFFFFFFFF, status.mode, st.st_nlink, status.uid, status.gid, status.rdev, st.st_size,
        st.st_blksize, st.st_blocks, *(part & 0xFFFFFFFF for part in _times(st)), st.st_ino,
    )  # fmt: skip


def _low(number: int) -> int:
    return number if number < 0xFFFF else _OVERFLOW


# struct statx (linux/stat.h): offsets of stx_uid, stx_gid; stx_mode; stx_rdev_major, stx_rdev_minor
_STATX_IDS, _STATX_MODE, _STATX_RDEV = 20, 28, 128


def patch_statx(buffer: bytes, status: Status) -> bytes:
    """Return struct statx with the emulated owner, mode and device."""
    patched = bytearray(buffer)
    struct.pack_into("<2I", patched, _STATX_IDS, status.uid, status.gid)
    struct.pack_into("<H", patched, _STATX_MODE, status.mode)
    if status.rdev:
        major, minor = split_device(status.rdev)
        struct.pack_into("<2I", patched, _STATX_RDEV, major, minor)
    return bytes(patched)


def split_device(rdev: int) -> tuple[int, int]:
    """Return (major, minor) of a device number as mknod(2) takes it (linux/kdev_t.h, new_decode_dev)."""
    return (rdev & 0xFFF00) >> 8, rdev & 0xFF | rdev >> 12 & 0xFFF00


def join_device(major: int, minor: int) -> int:
    """Return the device number of (major, minor), as stat(2) returns it (linux/kdev_t.h, new_encode_dev)."""
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12
