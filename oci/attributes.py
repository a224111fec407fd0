"""Set the extended attributes of unpacked files, and count those that cannot be set here (xattr(7))."""

from __future__ import annotations

import errno
import os

import attrs

from oci import owners as ids
from oci import tar
from oci.errors import printable
from oci.owners import Owners

OVERLAY_OPAQUE = (b"trusted.overlay.opaque", b"user.overlay.opaque")
# What setxattr(2) answers when this process may not set an attribute, or the file system does not support it.
_NO_XATTR = (errno.EPERM, errno.ENOTSUP, errno.EACCES)


@attrs.define
class Report:
    """Hold what the user is told after a conversion: counts, and the names of the first few devices."""

    members: int = 0
    devices: int = 0
    first_devices: list[str] = attrs.field(factory=list)
    absolute: int = 0
    lost_xattrs: dict[str, int] = attrs.field(factory=dict)


class Attributes:
    """Set attributes, and count in the report those that are lost."""

    def __init__(self, owners: Owners, report: Report) -> None:
        self._owners = owners
        self._report = report

    def set_all(self, fd: int, member: tar.Member) -> None:
        """Set a member's attributes; with owners in mode xattr, also the one that keeps its owner. Raises OSError."""
        if self._owners.mode == "xattr" and (member.uid or member.gid):
            self._set(fd, ids.XATTR, ids.encode(member.uid & 0xFFFFFFFF, member.gid & 0xFFFFFFFF))
        for name, value in member.xattrs.items():
            if name in OVERLAY_OPAQUE or name == b"security.selinux":
                continue  # of the machine that packed it
            if name == ids.XATTR and self._owners.mode == "xattr":
                continue
            self._set(fd, name, value)

    def set_capability(self, fd: int, member: tar.Member) -> None:
        """Set security.capability again, because a change of owner removes it (capabilities(7))."""
        value = member.xattrs.get(b"security.capability")
        if value is not None:
            self._set(fd, b"security.capability", value, again=True)

    def _set(self, fd: int, name: bytes, value: bytes, again: bool = False) -> None:
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            if error.errno not in _NO_XATTR:
                raise
            if not again:
                self.count_lost(name)

    def count_lost(self, name: bytes) -> None:
        """Count an attribute that could not be set."""
        key = printable(name)
        if len(self._report.lost_xattrs) < 20 or key in self._report.lost_xattrs:
            self._report.lost_xattrs[key] = self._report.lost_xattrs.get(key, 0) + 1

    @staticmethod
    def drop(fd: int) -> None:
        """Remove the attributes of a directory that a layer lists again: it gets the new member's attributes only."""
        try:
            for name in os.listxattr(fd):
                if name.startswith("user."):
                    os.removexattr(fd, name)
        except OSError as error:
            if error.errno not in _NO_XATTR:
                raise
