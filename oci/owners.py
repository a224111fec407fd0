"""Owners of files: how the ids in an archive become ids on disk.

map: the real ids, written by a process that may (root, or root of a user namespace with the user's range);
xattr: everything is the user's, the ids are kept in the attribute that umoci reads; squash: everything is the user's.
"""

from __future__ import annotations

import attrs

from oci import varint
from oci.errors import OciError

NOBODY = 65534  # the kernel's overflow id, /proc/sys/kernel/overflowuid
_OWN = 0xFFFFFFFF
_HIGHEST = 0xFFFFFFFE
XATTR = b"user.rootlesscontainers"

IdMap = list[tuple[int, int, int]]  # (container id, host id, size), as user_namespaces(7) has them


@attrs.define
class Owners:
    """A way to own files, and the count of what did not fit.

    mode: map, xattr or squash; uids, gids: with map the ids that can be given, [] for all of them; strict: refuse ids
    beyond these instead of folding them to 65534.
    """

    mode: str
    uids: IdMap = attrs.field(factory=list)
    gids: IdMap = attrs.field(factory=list)
    strict: bool = False
    clamped: int = 0
    highest: int = 0
    _last: tuple[int, int] = (-1, -1)

    def owner_on_disk(self, uid: int, gid: int, where: object) -> tuple[int, int]:
        """The ids to write for the ids of an archive. Raises OciError with strict."""
        if (uid, gid) == self._last:
            return uid, gid
        fitted = self._one_on_disk(uid, self.uids), self._one_on_disk(gid, self.gids)
        if fitted != (uid, gid):
            self.clamped += 1
            self.highest = max(self.highest, uid, gid)
            if self.strict:
                way_out = self.way_out()
                hint = (f"{way_out} keeps it, " if way_out else "") + "--owners map gives it to another id"
                raise OciError(f"the owner {uid}:{gid} is beyond your range of ids", where, hint=hint)
        else:
            self._last = fitted  # many files in a row have the same owner
        return fitted

    def way_out(self) -> str:
        """Return what would keep the highest owner, "" where nothing does: a longer range, where one can be had.

        Container id N is the N-th of the range, and no id of the kernel is above 2^32 - 2 (user_namespaces(7)).
        """
        if self.highest > _HIGHEST:
            return ""
        first = max((host for _, host, size in (*self.uids, *self.gids) if size > 1), default=0)
        if self.highest > _HIGHEST - first:
            return "--owners xattr"
        return f"a range of {self.highest} ids or more in /etc/subuid and /etc/subgid"

    @staticmethod
    def _one_on_disk(number: int, id_map: IdMap) -> int:
        if not id_map:
            return number if number < 0xFFFFFFFF else NOBODY
        if _holds(id_map, number):
            return number
        return NOBODY if _holds(id_map, NOBODY) else max(first + size - 1 for first, _, size in id_map)


def _holds(id_map: IdMap, number: int) -> bool:
    return any(first <= number < first + size for first, _, size in id_map)


def encode(uid: int, gid: int) -> bytes:
    """The value of user.rootlesscontainers: the protobuf message {uint32 uid = 1; uint32 gid = 2}."""
    message = b""
    for field, number in ((b"\x08", uid), (b"\x10", gid)):
        if number:  # proto3 leaves a zero out
            message += field + varint.encode(number)
    return message


def decode(value: bytes) -> tuple[int, int]:
    """(uid, gid) of a user.rootlesscontainers value; unknown fields are refused with ValueError.

    umoci writes 2^32-1 for an id that is the user's own, which is root's inside.
    """
    ids = {1: 0, 2: 0}
    position = 0
    while position < len(value):
        key = value[position]
        if key not in (0x08, 0x10):
            raise ValueError("no rootlesscontainers message")
        number, end = varint.decode(value, position + 1)
        if end - position > 6:  # 32 bits are five bytes
            raise ValueError("no rootlesscontainers message")
        position = end
        ids[key >> 3] = 0 if number == _OWN else number & 0xFFFFFFFF
    return ids[1], ids[2]
