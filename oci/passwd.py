"""Look up user and group names in an image's own passwd and group. Nothing of the host is read."""

from __future__ import annotations

import os

import attrs

from oci.errors import OciError
from oci.ids import MAX_ID, is_id, is_number, number_of
from oci.root import Root

_LIMIT = 4 << 20  # bytes of passwd or group
_MAX_GROUPS = 65536  # NGROUPS_MAX of the kernel


@attrs.frozen
class User:
    """The values for process.user, and the home directory ("" if passwd does not list the user)."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = ""


def find_user(root: Root, wanted: str, owner: str = "image") -> User:
    """Return the user that `user[:group]` names, each by name or number (image-spec config.md, "User").

    A number is never looked up as a name (image-spec conversion.md, "User"), because a line `1000:x:0:0::/:/bin/sh` in
    the image's passwd would turn user 1000 into root (CVE-2016-3697). The group and the home of a number still come
    from passwd; a number that passwd does not list has group 0. If no group is named, the group is that of passwd, and
    the supplementary groups are those of etc/group. The group is one of them, because a set-group-ID program would
    otherwise take it from the process, and with it what the group is denied (CVE-2022-36109). owner: whose files an
    error names. Raises OciError for a name that the image does not have, and for a number that is not an id.
    """
    name, colon, group = wanted.partition(":")
    name = name or "0"
    passwd = [line for line in _read(root, b"etc/passwd") if len(line) >= 4]
    groups = [line for line in _read(root, b"etc/group") if len(line) >= 3]
    if is_number(name):
        uid = _read_id(name, f"the {owner}'s user")
        entry = next((line for line in passwd if is_number(line[2]) and _same(line[2], uid)), None)
    else:
        entry = next((line for line in passwd if line[0] == name), None)
        if entry is None:
            raise OciError(f"the {owner}'s etc/passwd has no user of that name", name)
        uid = _read_id(entry[2], f"etc/passwd: the uid of {entry[0]}")
    home = entry[5] if entry and len(entry) > 5 and entry[5].startswith("/") else ""
    if colon and group:
        gid = _find_group(groups, group, owner)
        return User(uid, gid, (gid,), home)
    gid = _read_id(entry[3], f"etc/passwd: the gid of {entry[0]}") if entry else 0
    login = entry[0] if entry else ""
    members = [line for line in groups if login and len(line) > 3 and login in line[3].split(",")]
    extra = {_read_id(line[2], "") for line in members if is_id(line[2])}  # broken lines are skipped
    return User(uid, gid, (gid, *sorted(extra - {gid})[: _MAX_GROUPS - 1]), home)


def find_group(root: Root, wanted: str, owner: str = "image") -> int:
    """Return the id of a group by name or number. Raises OciError."""
    return _find_group([line for line in _read(root, b"etc/group") if len(line) >= 3], wanted, owner)


def _find_group(groups: list[list[str]], group: str, owner: str) -> int:
    if is_number(group):
        return _read_id(group, f"the {owner}'s group")
    entry = next((line for line in groups if line[0] == group), None)
    if entry is None:
        raise OciError(f"the {owner}'s etc/group has no group of that name", group)
    return _read_id(entry[2], f"etc/group: the gid of {group}")


def _same(text: str, number: int) -> bool:
    return (text.lstrip("0") or "0") == str(number)


def _read_id(text: str, what: str) -> int:
    """Return an id as a number. Raises OciError, which says `what`, for text that is not an id."""
    if not is_id(text):
        raise OciError(f"{what} is not an id from 0 to {MAX_ID}", text)
    return number_of(text)


def _read(root: Root, path: bytes) -> list[list[str]]:
    fd = root.open_file(path)
    if fd is None:
        return []
    with open(fd, "rb") as file:
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise OciError(f"larger than {_LIMIT} bytes", os.fsdecode(path))
    # Only a newline ends a line (passwd(5)). str.splitlines would also split at characters that a comment may hold.
    return [line.split(":") for line in data.decode("utf-8", "surrogateescape").split("\n")]
