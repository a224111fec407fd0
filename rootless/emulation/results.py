"""Get the results of stat(2) and statx(2) for a file, with the owner and the type that are remembered of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless.emulation import layouts
from rootless.emulation.numbers import I386
from rootless.kernel import syscalls as sc

if TYPE_CHECKING:
    from typing import Any

    from rootless.emulation.layouts import Shown

_AT_FDCWD = sc.AT_FDCWD & 0xFFFFFFFF
_LARGEST_STAT, _STATX = 144, 256  # sizes of struct stat, which is smaller on aarch64, and struct statx


class Results:
    """What the kernel answers, changed in place. One buffer serves all calls, so use a result before the next one."""

    __slots__ = ("_fstatat", "_stat", "_statx", "_statx_call")

    def __init__(self) -> None:
        self._stat, _ = sc.pinned(bytes(_LARGEST_STAT))
        self._statx, _ = sc.pinned(bytes(_STATX))
        self._fstatat, self._statx_call = sc.fast_call("newfstatat"), sc.fast_call("statx")

    def stat(self, path: bytes, shown: Shown, flags: int, arch: int) -> Any:
        """Return struct stat of an architecture, or struct stat64 of i386. Raises OSError.

        flags: AT_SYMLINK_NOFOLLOW or 0.
        """
        if arch == I386:
            return layouts.i386_64(os.stat(path, follow_symlinks=not flags), shown)
        if self._fstatat(_AT_FDCWD, path, self._stat, flags) < 0:
            raise FileNotFoundError(path)
        layouts.patch_stat(self._stat, arch, shown)
        return self._stat

    @staticmethod
    def old_stat(path: bytes, shown: Shown, flags: int) -> bytes:
        """Return struct stat of i386, with ids of 16 bits. Raises OSError."""
        return layouts.i386(os.stat(path, follow_symlinks=not flags), shown)

    def statx(self, path: bytes, shown: Shown, flags: int, mask: int) -> Any:
        """Return struct statx. Raises OSError."""
        if self._statx_call(_AT_FDCWD, path, flags, mask, self._statx) < 0:
            raise FileNotFoundError(path)
        layouts.patch_statx(self._statx, shown)
        return self._statx
