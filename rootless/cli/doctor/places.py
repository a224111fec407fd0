"""Check the directories that containers use: the state's, the cache's and the bundle's, and their file systems."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from oci.private import fault
from rootless.cli.doctor.line import LIMITED, MISSING, OK, Line
from rootless.errors import RootlessError, errno_text
from rootless.kernel import mountinfo
from rootless.kernel.hints import ROOT, Hint, hint
from rootless.runtime.caches import cache_directory
from rootless.runtime.state import open_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.kernel.host import Host

_LITTLE = 16 << 20  # bytes; the smallest images need as much
_REMOTE = ("9p", "afs", "ceph", "cifs", "fuse.sshfs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "virtiofs")
_NO_UPPER = (*_REMOTE, "overlay", "vfat", "exfat", "ecryptfs", "squashfs", "erofs", "iso9660")


def runtime_directory(host: Host) -> Iterator[Line]:
    """Check XDG_RUNTIME_DIR, which holds the states of an ordinary user's containers (file-hierarchy(7))."""
    if host.is_root_on_host:
        yield Line("runtime-directory", OK, "root keeps states in /run/rootless")
        return
    path = os.environ.get("XDG_RUNTIME_DIR", "")
    problem = ""
    if not path:
        problem = "XDG_RUNTIME_DIR is not set"
    elif not path.startswith("/"):
        problem = f"XDG_RUNTIME_DIR is not an absolute path: {path}"
    else:
        try:
            owner = os.stat(path).st_uid
            if owner != host.uid:
                problem = f"XDG_RUNTIME_DIR belongs to uid {owner}: {path}"
        except OSError as error:
            problem = f"XDG_RUNTIME_DIR: {path}: {errno_text(error.errno or errno.EIO)}"
    if problem:
        cost = "states are not removed at log-out, and systemd cannot be asked for a scope"
        yield Line("runtime-directory", LIMITED, problem, cost, hint("no-session"))
    else:
        yield Line("runtime-directory", OK, path)


def state_root(root: str) -> Iterator[Line]:
    """Check that the state root can be used, by opening it as every command does."""
    try:
        fd = open_root(root)
    except RootlessError as error:
        shown = RootlessError(error.what, error.where, error.errno).message()
        yield Line("state", MISSING, shown, "no container can be created", Hint(error.hint))
        return
    if fd >= 0:
        os.close(fd)
    existing = nearest(root)
    if not os.access(existing, os.W_OK | os.X_OK):
        detail = f"cannot make the state directory: {root}: {errno_text(errno.EACCES)}"
        yield Line("state", MISSING, detail, "no container can be created", hint("state-elsewhere"))
        return
    yield from _remote("state", root, "locks and sockets may not work")


def _remote(name: str, path: str, cost: str) -> Iterator[Line]:
    kind = file_system(path)
    if kind in _REMOTE:
        yield Line(name, LIMITED, f"{path} is on {kind}", cost, hint("state-elsewhere"))
    else:
        yield Line(name, OK, f"{path} on {kind}")


def cache(_host: Host) -> Iterator[Line]:
    """Check the cache of images and of throw-away roots: private, executable, and fit as an overlay's upper layer."""
    path = os.path.dirname(cache_directory("images"))
    elsewhere = hint("cache-elsewhere")
    existing = nearest(path)
    cost = "`run IMAGE` and --ephemeral on disk do not work"
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Line("cache", LIMITED, f"{path}: {errno_text(errno.EACCES)}", cost, elsewhere)
        return
    if existing == path and (reason := fault(os.stat(path))):
        yield Line("cache", LIMITED, f"the cache is not used: {path}: {reason}", cost, elsewhere)
        return
    kind, flags = file_system(path), os.statvfs(existing).f_flag
    if flags & os.ST_NOEXEC:
        yield Line("cache", LIMITED, f"{path} is mounted noexec", "programs of images do not start", elsewhere)
    elif kind in _NO_UPPER:
        cost = "a throw-away root needs memory: --ephemeral=tmpfs"
        yield Line("cache", LIMITED, f"{path} is on {kind}, which cannot hold an overlay's changes", cost, elsewhere)
    else:
        yield Line("cache", OK, f"{path} on {kind}")
    free = os.statvfs(existing)
    if free.f_bavail * free.f_frsize < _LITTLE or (free.f_files and not free.f_favail):
        detail = f"{path}: {free.f_bavail * free.f_frsize >> 20} MiB and {free.f_favail} files are free"
        yield Line("cache-space", LIMITED, detail, "images are not unpacked", hint("cache-full"))
    yield attributes("cache-attributes", existing)
    if flags & os.ST_NOSUID:
        cost = "set-user-ID programs of images give no privileges"
        yield Line("cache-nosuid", LIMITED, f"{path} is mounted nosuid", cost, elsewhere)


def attributes(name: str, path: str) -> Line:
    """Check that files can have extended attributes of users (xattr(7)), by asking for one that is not there."""
    try:
        os.getxattr(path, "user.rootless.doctor")
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            kind = file_system(path)
            cost = "owners of files are in a bundle's record only, and an overlay without privileges cannot hide files"
            mend = hint("no-attributes")
            return Line(name, LIMITED, f"{kind} at {path} has no attributes of users", cost, mend)
        if error.errno != errno.ENODATA:
            return Line(name, LIMITED, f"{path}: {errno_text(error.errno or errno.EIO)}", "owners may not be kept")
    return Line(name, OK, f"{path} keeps attributes of users")


def bundle(path: str) -> Iterator[Line]:
    """Check the file system of a bundle: whether programs can be executed there, set-user-ID, and over a network."""
    flags, kind = os.statvfs(path).f_flag, file_system(path)
    if flags & os.ST_NOEXEC:
        mend = Hint(hint("noexec", path=path).text, f"mount -o remount,exec the file system of {path}", ROOT)
        yield Line("bundle", MISSING, f"{path} is on a file system that is mounted noexec", "no program starts", mend)
    elif kind in _REMOTE:
        cost = "files of subordinate ids cannot be made there, and containers start slower"
        yield Line("bundle", LIMITED, f"{path} is on {kind}", cost)
    else:
        yield Line("bundle", OK, f"{path} on {kind}")
    if flags & os.ST_NOSUID:
        cost = "set-user-ID programs of the bundle give no privileges"
        yield Line("bundle-nosuid", LIMITED, f"{path} is mounted nosuid", cost)
    yield attributes("bundle-attributes", path)


def nearest(path: str) -> str:
    """Return the path itself or the nearest directory above it that exists."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def file_system(path: str) -> str:
    """Return the type of the file system at a path, or where it would be made; "unknown" if no mount shows it."""
    place = os.fsencode(os.path.realpath(nearest(path)))
    with open("/proc/self/mountinfo", "rb") as file:
        mounts = mountinfo.parse(file.read())
    covering = [m for m in mounts if m.path == b"/" or place == m.path or place.startswith(m.path + b"/")]
    # Of several mounts at one place the last one covers the others.
    best = max(enumerate(covering), key=lambda entry: (len(entry[1].path), entry[0]), default=None)
    return os.fsdecode(best[1].fstype) if best else "unknown"
