"""`user`, `group` and `extra_groups` as numbers: names are those of the container's own passwd and group files."""

from __future__ import annotations

import errno

from rootless.errors import RootlessError, printable
from rootless.kernel import syscalls as sc
from rootless.plan.settings import UserIds
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LIMIT = 1 << 20  # bytes of a passwd or group file that are read


def find_user(current: dict[str, Any], asked: dict[str, Any], rootfs: str) -> UserIds:
    """Return the ids that were asked for; what was not stays as config.json has it. Raises RootlessError."""
    uid, gid = int(current.get("uid", 0)), int(current.get("gid", 0))
    groups = list(current.get("additionalGids") or [])
    home = ""
    user, group = asked.get("user"), asked.get("group")
    if user is not None:
        uid, own_gid, home = _find_user(user, rootfs)
        gid = own_gid if own_gid is not None and group is None else gid
        groups = []
    if group is not None:
        gid = _find_group(group, rootfs)
    if asked.get("groups") is not None:
        groups = [_find_group(each, rootfs) for each in asked["groups"]]
    return UserIds(uid, gid, groups, home)


def _find_user(user: int | str, rootfs: str) -> tuple[int, int | None, str]:
    """Return (uid, gid or None where nobody says, home)."""
    for fields in _lines(rootfs, "etc/passwd", 7):
        if (fields[0] == user or fields[2] == str(user)) and fields[2].isdigit() and fields[3].isdigit():
            return int(fields[2]), int(fields[3]), fields[5]
    if type(user) is int or (type(user) is str and user.isdecimal()):
        return int(user), None, ""
    raise _unknown("user", user, "passwd")


def _find_group(group: int | str, rootfs: str) -> int:
    if type(group) is int or (type(group) is str and group.isdecimal()):
        return int(group)
    for fields in _lines(rootfs, "etc/group", 4):
        if fields[0] == group and fields[2].isdigit():
            return int(fields[2])
    raise _unknown("group", group, "group")


def _lines(rootfs: str, path: str, count: int) -> list[list[str]]:
    """Return the fields of each line; the file is opened inside the root, whatever links it has."""
    try:
        root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = sc.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
        finally:
            os.close(root)
        with open(fd, "rb", buffering=0) as file:
            text = (file.read(_LIMIT) or b"").decode("utf-8", "surrogateescape")
    except OSError:
        return []
    return [fields for line in text.split("\n") if len(fields := line.split(":")) >= count]


def _unknown(kind: str, name: object, file: str) -> RootlessError:
    what = f"unknown {kind} {printable(repr(name))}"
    return RootlessError(what, f"/etc/{file}", errno.ENOENT, hint="a number needs no name in the container")
