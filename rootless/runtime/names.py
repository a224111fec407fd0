"""Look up users and groups in the passwd and group files of a container."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from oci.errors import OciError
from oci.passwd import find_group, find_user
from oci.root import Root
from rootless.errors import RootlessError
from rootless.plan.change import UserIds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.runtime.bundle import Bundle


def rootfs_of(bundle: Bundle) -> str:
    """Return the root file system that a config names. The compiler of the plan refuses a wrong one later."""
    if bundle.directory == "/":  # the host's own system (plan/host_system.py)
        return "/"
    root = bundle.spec.get("root")
    path = root.get("path") if isinstance(root, dict) else None
    return os.path.join(bundle.directory, path) if isinstance(path, str) else bundle.directory


def look_up(rootfs: str, text: str) -> UserIds:
    """Return the user that USER[:GROUP] names in a root file system, by the rules of docker (image-spec, config.md).

    For a number, passwd gives the group and the home directory. Raises RootlessError for an unknown name.
    """
    with _open_root(rootfs) as root:
        try:
            user = find_user(root, text, _owner(rootfs))
        except OciError as error:
            hint = f"a user of the {_owner(rootfs)}, or a number"
            raise RootlessError(error.what, f"--user {text}", hint=hint) from None
    return UserIds(user.uid, user.gid, list(user.groups), user.home)


def look_up_groups(rootfs: str, groups: list[str]) -> list[str]:
    """Return groups with the numbers of their names; numbers and keep-groups stay. Raises RootlessError."""
    numbers = []
    for text in groups:
        if text == "keep-groups" or text.isdigit():
            numbers.append(text)
            continue
        with _open_root(rootfs) as root:
            try:
                numbers.append(str(find_group(root, text, _owner(rootfs))))
            except OciError as error:
                hint = f"a group of the {_owner(rootfs)}, a number, or keep-groups"
                raise RootlessError(error.what, f"--group-add {text}", hint=hint) from None
    return numbers


def _owner(rootfs: str) -> str:
    """Return whose passwd and group a root file system holds, for errors. `run --host` has no other root than /."""
    return "host" if rootfs == "/" else "container"


@contextmanager
def _open_root(rootfs: str) -> Iterator[Root]:
    try:
        fd = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot open the rootfs", rootfs) from None
    root = Root(fd)
    try:
        yield root
    finally:
        root.close()
        os.close(fd)
