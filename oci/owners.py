"""Decide how the ids in an archive become ids on disk. There are three modes:

map: the real ids, written by root, or by root of a user namespace with the user's range; xattr: every file is the
user's, and the attribute that umoci reads keeps the ids; squash: every file is the user's, and the ids are lost.
"""

from __future__ import annotations

import attrs

from oci.errors import OciError
from oci.rootlesscontainers import DEVICE_XATTR as DEVICE_XATTR
from oci.rootlesscontainers import XATTR as XATTR
from oci.rootlesscontainers import decode as decode
from oci.rootlesscontainers import decode_device as decode_device
from oci.rootlesscontainers import encode as encode

NOBODY = 65534  # the kernel's overflow id, /proc/sys/kernel/overflowuid
_HIGHEST = 0xFFFFFFFE

IdMap = list[tuple[int, int, int]]  # (container id, host id, size), as user_namespaces(7) has them


@attrs.define
class Owners:
    """Decide how owners are written, and count those that did not fit.

    mode: map, xattr or squash; uids, gids: the maps that mode map writes through, [] for all ids; strict: refuse an id
    that is not mapped, instead of writing 65534; clamped: files that got 65534; highest: the highest id that was seen
    among those; alone: the user has no other id, and has not chosen this; others: the ids of other users in the image.
    """

    mode: str
    uids: IdMap = attrs.field(factory=list)
    gids: IdMap = attrs.field(factory=list)
    strict: bool = False
    clamped: int = 0
    highest: int = 0
    alone: bool = False
    others: set[int] = attrs.field(factory=set)
    _last: tuple[int, int] = (-1, -1)

    def owner_on_disk(self, uid: int, gid: int, where: object) -> tuple[int, int]:
        """Return the (uid, gid) to write for those of an archive. Raises OciError if `strict` and they do not fit."""
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
            if self.alone:
                self.others |= {uid, gid} - {0}
            self._last = fitted  # many files in a row have the same owner
        return fitted

    def way_out(self) -> str:
        """Return the hint how to keep the highest owner: a range of enough ids, or "" if no range can have so many.

        Container id N is the N-th of the range, and the kernel has no id above 2^32 - 2 (user_namespaces(7)).
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
