"""User and group names, looked up in an image's own passwd and group: nothing of the host is read."""

from __future__ import annotations

import os

import attrs

from oci.errors import OciError, printable
from oci.root import Root

_LIMIT = 4 << 20  # bytes of passwd or group
_MAX_GROUPS = 65536  # NGROUPS_MAX of the kernel
_MAX_ID = 0xFFFFFFFE


@attrs.frozen
class User:
    """What process.user is to be, and the home directory ("" where passwd does not know the user)."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = ""


def find_user(root: Root, wanted: str) -> User:
    """The user that `user[:group]` names, each by name or number (image-spec config.md, "User").

    Without a group it is the one of passwd, and the user's supplementary groups are taken from group. A number that
    passwd does not know has group 0. Raises OciError for a name that the image does not know.
    """
    name, colon, group = wanted.partition(":")
    name = name or "0"
    passwd = [line for line in _read(root, b"etc/passwd") if len(line) >= 4]
    groups = [line for line in _read(root, b"etc/group") if len(line) >= 3]
    entry = next((line for line in passwd if line[0] == name), None)
    if entry is None and _id(name) is not None:
        entry = next((line for line in passwd if _id(line[2]) == _id(name)), None)
    uid = _id(entry[2]) if entry else _id(name)
    if uid is None:
        raise OciError("the image has no user of that name", name, hint="its etc/passwd was looked at")
    gid = (_id(entry[3]) if entry else 0) or 0
    home = entry[5] if entry and len(entry) > 5 and entry[5].startswith("/") else ""
    if colon and group:
        return User(uid, _find_group(groups, group), (), home)
    login = entry[0] if entry else ""
    found = {_id(line[2]) for line in groups if login and len(line) > 3 and login in line[3].split(",")}
    extra = sorted(number for number in found if number is not None and number != gid)[:_MAX_GROUPS]
    return User(uid, gid, tuple(extra), home)


def _find_group(groups: list[list[str]], group: str) -> int:
    entry = next((line for line in groups if line[0] == group), None)
    number = _id(entry[2]) if entry else _id(group)
    if number is None:
        raise OciError("the image has no group of that name", printable(group), hint="its etc/group was looked at")
    return number


def _id(text: str) -> int | None:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 11 else None
    return number if number is not None and number <= _MAX_ID else None


def _read(root: Root, path: bytes) -> list[list[str]]:
    fd = root.open_file(path)
    if fd is None:
        return []
    with open(fd, "rb") as file:
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise OciError(f"larger than {_LIMIT} bytes", os.fsdecode(path))
    return [line.split(":") for line in data.decode("utf-8", "surrogateescape").splitlines()]
