"""Word mounts that the kernel refuses with an errno that does not say why."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from rootless.errors import RootlessError, advice, printable
from rootless.kernel import syscalls as sc

if TYPE_CHECKING:
    from rootless.steps.builder import RootBuilder
    from rootless.steps.mounts import Mount


def raise_mismatch(root: RootBuilder, mount: Mount) -> None:
    """Raise a RootlessError if a file is to be mounted on a directory, or the other way round (mount(2)).

    Return if that is not what the kernel refused. A file among the target's parents counts, too.
    """
    target = printable(mount.target)
    parts = mount.target.strip("/").split("/")
    for count in range(1, len(parts)):
        parent = "/" + "/".join(parts[:count])
        if _kind(root, parent) == "a file":
            what = f"cannot mount on {target}: {printable(parent)} is a file, not a directory"
            raise RootlessError(what, mount.pointer, errno.ENOTDIR)
    there = _kind(root, mount.target)
    if mount.fstype != "bind":
        if there == "a file":
            what = f"a file system needs a directory, and the destination {target} is a file"
            raise RootlessError(what, mount.pointer, errno.ENOTDIR)
        return
    try:
        given = "a directory" if stat.S_ISDIR(os.stat(mount.source).st_mode) else "a file"
    except OSError:
        return
    if there and there != given:
        what = f"source {printable(mount.source)} is {given}, destination {target} is {there}"
        number = errno.ENOTDIR if there == "a file" else errno.EISDIR
        raise RootlessError(what, mount.pointer, number)


def _kind(root: RootBuilder, path: str) -> str:
    """Return `a file` or `a directory` for a path of the container, "" if there is none."""
    try:
        fd = sc.open_in_root(root.fd, path)
    except OSError:
        return ""
    try:
        return "a directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "a file"
    finally:
        os.close(fd)


def refused_file_system(error: OSError, mount: Mount) -> Exception:
    """Return the error for a file system that mount(2) refused; the OSError itself if its errno says enough."""
    source, fstype = printable(mount.source or "none"), printable(mount.fstype)
    what = f"cannot mount {fstype} {source} on {printable(mount.target)}"
    if error.errno == errno.EPERM:
        if _needs_device(mount.fstype) or mount.source.startswith("/dev/"):
            return RootlessError(
                f"{what}: only root may mount block devices", mount.pointer, errno.EPERM, advice("block-device")
            )
        return RootlessError(
            f"{what}: only root may mount this file system", mount.pointer, errno.EPERM, advice("not-in-userns")
        )
    if error.errno == errno.ENOTBLK:
        return RootlessError(f"{what}: the source is not a block device", mount.pointer, errno.ENOTBLK)
    if error.errno == errno.ENODEV:
        return RootlessError(f"{what}: the kernel does not know the file system", mount.pointer, errno.ENODEV)
    if error.errno == errno.ENOTDIR:
        return error  # raise_mismatch looks at the target
    if mount.fstype == "overlay":
        return _refused_overlay(error, mount, what)
    return RootlessError(what, mount.pointer, error.errno or 0)


def _refused_overlay(error: OSError, mount: Mount, what: str) -> RootlessError:
    """Say whether the upper directory lies where the kernel takes none (overlayfs.rst, "Upper and Lower")."""
    from rootless.kernel.fstypes import NO_UPPER, file_system

    hint = "its lowerdir, upperdir and workdir have to exist"
    upper = next((option[9:] for option in mount.options.data if option.startswith("upperdir=")), "")
    place = upper.replace("\\", "")  # overlay's escapes of colons and commas
    if upper and (kind := file_system(place)) in NO_UPPER:
        what = f"{what}: {printable(place)} is on {kind}, which cannot hold an overlay's changes"
        hint = "put upperdir and workdir on another file system"
        if mount.target == "/" and "/rootless/upper/" in place:  # runtime/upper.py has made it
            what, hint = f"{what} (--ephemeral=tmpfs keeps them in memory)", advice("cache-elsewhere")
    return RootlessError(what, mount.pointer, error.errno or 0, hint)


def _needs_device(fstype: str) -> bool:
    """Return whether a file system lies on a block device (proc_filesystems(5)); False if the kernel lacks it."""
    try:
        with open("/proc/filesystems") as file:
            return f"\t{fstype}" in file.read().splitlines()
    except OSError:
        return False
