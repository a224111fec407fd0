"""Look up users and groups in the passwd and group files of a container."""

from __future__ import annotations

import os

from oci.errors import OciError
from oci.passwd import find_user
from oci.root import Root
from rootless.errors import RootlessError
from rootless.plan.settings import UserIds


def look_up(rootfs: str, text: str) -> UserIds:
    """Return the user that USER[:GROUP] names in a root file system, by the rules of docker (image-spec, config.md).

    For a number, passwd gives the group and the home directory. Raises RootlessError for an unknown name.
    """
    try:
        fd = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot open the rootfs", rootfs) from None
    root = Root(fd)
    try:
        user = find_user(root, text)
    except OciError as error:
        raise RootlessError(error.what, f"--user {text}", hint="a user of the container, or a number") from None
    finally:
        root.close()
        os.close(fd)
    return UserIds(user.uid, user.gid, list(user.groups), user.home)
