"""User and group names, looked up in an image's own passwd and group: nothing of the host is read."""

from __future__ import annotations

import os
from stat import S_ISREG

from oci.errors import OciError, printable
from oci.unpack import Tree

_LIMIT = 4 << 20


def find_user(root_fd: int, user: str) -> tuple[int, int, list[int]]:
    """(uid, gid, supplementary gids) of `user[:group]`, by name or number: image-spec config.md, "User".

    Raises OciError for a name that the image does not know.
    """
    name, _, group = user.partition(":")
    passwd = [line.split(":") for line in _read(root_fd, "etc/passwd") if line.count(":") >= 3]
    groups = [line.split(":") for line in _read(root_fd, "etc/group") if line.count(":") >= 2]
    entry = next((e for e in passwd if e[0] == name), None) if name else None
    if entry is None and name.isdigit():
        entry = next((e for e in passwd if e[2] == name), None)
    if entry is not None and entry[2].isdigit() and entry[3].isdigit():
        uid, gid, login = int(entry[2]), int(entry[3]), entry[0]
    elif not name or name.isdigit():
        uid, gid, login = int(name or 0), 0, ""
    else:
        raise OciError("the image's User is not in its passwd", printable(user))
    if group:
        return uid, _find_group(groups, group, user), []
    members = [int(g[2]) for g in groups if len(g) > 3 and login and login in g[3].split(",") and g[2].isdigit()]
    return uid, gid, [g for g in members if g != gid]


def _find_group(groups: list[list[str]], name: str, user: str) -> int:
    found = next((g for g in groups if g[0] == name), None)
    if found is not None and found[2].isdigit():
        return int(found[2])
    if name.isdigit():
        return int(name)
    raise OciError("the image's User names a group that is not in its group file", printable(user))


def _read(root_fd: int, name: str) -> list[str]:
    """The lines of a file of the image; a link is followed inside the root, twice at most."""
    tree = Tree(root_fd, None)
    for _ in range(3):
        try:
            parent = tree.parent(name, create=False)
        except OSError:
            return []
        try:
            base = os.path.basename(name)
            try:
                target = os.readlink(base, dir_fd=parent)
            except OSError:
                target = ""
            if target:
                name = target.lstrip("/") if target.startswith("/") else f"{os.path.dirname(name)}/{target}"
                continue
            fd = os.open(base, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        except OSError:
            return []
        finally:
            os.close(parent)
        with open(fd, "rb", buffering=0) as file:
            if not S_ISREG(os.fstat(fd).st_mode):
                return []
            return (file.read(_LIMIT) or b"").decode("utf-8", "surrogateescape").split("\n")
    return []
