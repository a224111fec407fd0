"""`user`, `group` and `extra_groups` as numbers: names are those of the container's own passwd and group files."""

from __future__ import annotations

import errno

from oci.ids import MAX_ID, is_id, is_number, number_of
from rootless.errors import RootlessError, printable
from rootless.kernel import syscalls as sc
from rootless.plan.change import UserIds
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
    """Return (uid, gid, home). gid is None if the passwd file does not list the user.

    A number is never looked up as a name: a line `1000:x:0:0::/:/bin/sh` would make user 1000 root (CVE-2016-3697).
    """
    name, passwd = str(user), _lines(rootfs, "etc/passwd", 7)
    if is_number(name):
        uid = _read_id("user", name)
        entry = next((line for line in passwd if is_id(line[2]) and number_of(line[2]) == uid), None)
    else:
        entry = next((line for line in passwd if line[0] == name), None)
        if entry is None:
            raise _unknown("user", user, "passwd")
        uid = _read_id("user", entry[2])
    if entry is None:
        return uid, None, ""
    return uid, _read_id("group", entry[3]), entry[5]


def _find_group(group: int | str, rootfs: str) -> int:
    name = str(group)
    if is_number(name):
        return _read_id("group", name)
    entry = next((line for line in _lines(rootfs, "etc/group", 4) if line[0] == name), None)
    if entry is None:
        raise _unknown("group", group, "group")
    return _read_id("group", entry[2])


def _read_id(kind: str, text: str) -> int:
    if not is_id(text):
        raise RootlessError(f"the {kind} {printable(repr(text))} is not an id from 0 to {MAX_ID}")
    return number_of(text)


def _lines(rootfs: str, path: str, count: int) -> list[list[str]]:
    """Return the fields of each line, [] if the file cannot be read.

    It is opened inside the root, whatever links it has. Raises OSError if descriptors or memory are
    short, because the ids of the file may be others than config.json's.
    """
    try:
        root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = sc.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
        finally:
            os.close(root)
        with open(fd, "rb", buffering=0) as file:
            text = (file.read(_LIMIT) or b"").decode("utf-8", "surrogateescape")
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return []
    return [fields for line in text.split("\n") if len(fields := line.split(":")) >= count]


def _unknown(kind: str, name: object, file: str) -> RootlessError:
    what = f"unknown {kind} {printable(repr(name))}"
    return RootlessError(what, f"/etc/{file}", errno.ENOENT, hint="a number needs no name in the container")
