"""Follow the rules of credentials(7) for emulated ids: what set*id calls change, and when they fail. Pure."""

from __future__ import annotations

from errno import EINVAL, EPERM
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Ids = tuple[int, int, int, int]  # real, effective, saved, file system

KEEP = 0xFFFFFFFF  # the -1 of setreuid(2), setresuid(2) and chown(2)


class Refused(Exception):
    """The errno with which an emulated call fails."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Identity:
    """The ids of a process. It is never changed; processes that have the same ids share one.

    groups: the supplementary groups, None for those that the kernel knows.
    """

    __slots__ = ("gids", "groups", "uids")

    def __init__(self, uids: Ids, gids: Ids, groups: tuple[int, ...] | None = None) -> None:
        self.uids = uids
        self.gids = gids
        self.groups = groups

    @property
    def is_root(self) -> bool:
        """Return whether the process may take any id: its effective user is root."""
        return self.uids[1] == 0

    def key(self) -> tuple[Ids, Ids, tuple[int, ...] | None]:
        """Return what makes two identities the same."""
        return self.uids, self.gids, self.groups

    def with_uids(self, uids: Ids) -> Identity:
        """Return this identity with other user ids."""
        return Identity(uids, self.gids, self.groups)

    def with_gids(self, gids: Ids) -> Identity:
        """Return this identity with other group ids."""
        return Identity(self.uids, gids, self.groups)


def set_one(old: Ids, new: int, *, is_root: bool) -> Ids:
    """Return the ids after setuid(2) or setgid(2). Raises Refused."""
    if new == KEEP:
        raise Refused(EINVAL)
    real, _, saved, _ = old
    if is_root:
        return new, new, new, new
    if new in (real, saved):
        return real, new, saved, new
    raise Refused(EPERM)


def set_two(old: Ids, real: int, effective: int, *, is_root: bool) -> Ids:
    """Return the ids after setreuid(2) or setregid(2). Raises Refused."""
    if not is_root and (real not in (KEEP, old[0], old[1]) or effective not in (KEEP, *old[:3])):
        raise Refused(EPERM)
    new_effective = old[1] if effective == KEEP else effective
    saves = real != KEEP or effective not in (KEEP, old[0])
    return old[0] if real == KEEP else real, new_effective, new_effective if saves else old[2], new_effective


def set_three(old: Ids, real: int, effective: int, saved: int, *, is_root: bool) -> Ids:
    """Return the ids after setresuid(2) or setresgid(2). Raises Refused."""
    wanted = real, effective, saved
    if not is_root and any(new not in (KEEP, *old[:3]) for new in wanted):
        raise Refused(EPERM)
    real, effective, saved = (before if new == KEEP else new for new, before in zip(wanted, old, strict=False))
    return real, effective, saved, effective


def set_file_system(old: Ids, new: int, *, is_root: bool) -> Ids:
    """Return the ids after setfsuid(2) or setfsgid(2), which never fail."""
    return (*old[:3], new) if new != KEEP and (is_root or new in old) else old


def check_chown(identity: Identity, owner: tuple[int, int], uid: int, gid: int) -> None:
    """Refuse a change of owner as chown(2) does for a user who is not root. owner: the present (uid, gid)."""
    if identity.is_root:
        return
    is_mine = identity.uids[3] == owner[0]
    keeps_uid = uid in (KEEP, owner[0])
    groups = (identity.gids[3], *(identity.groups or ()))
    if not (is_mine and keeps_uid and (gid in (KEEP, owner[1]) or gid in groups)):
        raise Refused(EPERM)
