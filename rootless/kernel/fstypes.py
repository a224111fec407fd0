"""Name the file systems of paths, and those on which an overlay or a state does not work (overlayfs.rst)."""

from __future__ import annotations

import os

from rootless.kernel import mountinfo

REMOTE = ("9p", "afs", "ceph", "cifs", "fuse.sshfs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "virtiofs")
NO_UPPER = (*REMOTE, "overlay", "vfat", "exfat", "ecryptfs", "squashfs", "erofs", "iso9660")


def nearest(path: str) -> str:
    """Return the path itself or the nearest directory above it that exists."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def file_system(path: str) -> str:
    """Return the type of the file system at a path, or where it would be made; "unknown" if no mount shows it."""
    mount = _mount_of(path)
    return os.fsdecode(mount.fstype) if mount else "unknown"


def mount_point(path: str) -> str:
    """Return the place of the mount that a path is on."""
    mount = _mount_of(path)
    return os.fsdecode(mount.path) if mount else "/"


def _mount_of(path: str) -> mountinfo.Mount | None:
    place = os.fsencode(os.path.realpath(nearest(path)))
    with open("/proc/self/mountinfo", "rb") as file:
        mounts = mountinfo.parse(file.read())
    covering = [m for m in mounts if m.path == b"/" or place == m.path or place.startswith(m.path + b"/")]
    # Of several mounts at one place the last one covers the others.
    best = max(enumerate(covering), key=lambda entry: (len(entry[1].path), entry[0]), default=None)
    return best[1] if best else None
