"""Check the directories that containers use: the state's, the cache's and the bundle's, and their file systems."""

from __future__ import annotations

import errno
import os
import shlex
from typing import TYPE_CHECKING

from oci.private import fault
from rootless.cli.doctor.line import LIMITED, MISSING, OK, Line
from rootless.errors import RootlessError, errno_text
from rootless.kernel.fstypes import NO_UPPER, REMOTE, file_system, mount_point, nearest
from rootless.kernel.hints import ROOT, Hint, hint, hint_of
from rootless.runtime.caches import cache_directory
from rootless.runtime.state import open_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.kernel.host import Host

NOEXEC = "is mounted noexec"
_LITTLE = 16 << 20  # bytes; the smallest images need as much


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
        yield Line("state", MISSING, shown, "no container can be created", hint_of(error.hint))
        return
    if fd >= 0:
        os.close(fd)
    existing = nearest(root)
    if number := _not_writable(existing):
        detail = f"cannot make the state directory: {root}: {errno_text(number)}"
        yield Line("state", MISSING, detail, "no container can be created", hint("state-elsewhere"))
        return
    yield from _remote("state", root, "locks and sockets may not work")


def _remote(name: str, path: str, cost: str) -> Iterator[Line]:
    kind = file_system(path)
    if kind in REMOTE:
        yield Line(name, LIMITED, f"{path} is on {kind}", cost, hint("state-elsewhere"))
    else:
        yield Line(name, OK, f"{path} on {kind}")


def cache(_host: Host) -> Iterator[Line]:
    """Check the cache of images and of throw-away roots: private, executable, and fit as an overlay's upper layer."""
    path = os.path.dirname(cache_directory("images"))
    elsewhere = hint("cache-elsewhere")
    existing = nearest(path)
    cost = "`run IMAGE` and --ephemeral on disk do not work"
    if number := _not_writable(existing):
        yield Line("cache", LIMITED, f"{path}: {errno_text(number)}", cost, elsewhere)
        return
    if existing == path and (reason := fault(os.stat(path))):
        yield Line("cache", LIMITED, f"the cache is not used: {path}: {reason}", cost, elsewhere)
        return
    kind, flags = file_system(path), os.statvfs(existing).f_flag
    if flags & os.ST_NOEXEC:
        cost = "another user's bundle, which `run` copies there, does not start"  # an overlay is not noexec itself
        yield Line("cache", LIMITED, f"{path} {NOEXEC}", cost, elsewhere)
    elif kind in NO_UPPER:
        cost = "`run IMAGE` and --ephemeral need memory for the changes: --ephemeral=tmpfs"
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
        mend = Hint(hint("noexec", path=path).text, f"mount -o remount,exec {shlex.quote(mount_point(path))}", ROOT)
        yield Line("bundle", MISSING, f"{path} is on a file system that is mounted noexec", "no program starts", mend)
    elif kind in REMOTE:
        cost = "files of subordinate ids cannot be made there, and containers start slower"
        yield Line("bundle", LIMITED, f"{path} is on {kind}", cost)
    else:
        yield Line("bundle", OK, f"{path} on {kind}")
    if flags & os.ST_NOSUID:
        cost = "set-user-ID programs of the bundle give no privileges"
        yield Line("bundle-nosuid", LIMITED, f"{path} is mounted nosuid", cost)
    yield attributes("bundle-attributes", path)


def _not_writable(directory: str) -> int:
    """Return the errno that making a file in a directory would give, 0 for none."""
    if os.access(directory, os.W_OK | os.X_OK):
        return 0
    return errno.EROFS if os.statvfs(directory).f_flag & os.ST_RDONLY else errno.EACCES
