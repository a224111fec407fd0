"""Compare a rootfs with the record of its conversion, and write the differences as a layer (image-spec layer.md)."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tarfile
from collections.abc import Callable
from typing import IO

import attrs

from oci import owners as ids
from oci.errors import OciError
from oci.hints import HINTS
from oci.owners import Owners
from oci.record import Entry
from oci.root import READ_DIRECTORY
from oci.times import pax_time

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFIFO: "p",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
}

_WHITEOUT = b".wh."

Entries = dict[bytes, Entry]


@attrs.define
class Changes:
    """Hold how a tree differs from its record.

    now: every entry of the tree as an image has it; added: paths that are new or differ, with the directories above
    them; removed: paths that are gone, without those below one that is gone; suspects: files that were touched since
    but have the size and time of the record, so that only the base's contents tell whether they changed.
    """

    now: Entries
    added: set[bytes]
    removed: list[bytes]
    suspects: list[bytes]


def find_changes(
    root_fd: int, base: Entries, owners: Owners, stamp: int, advance: Callable[[int], None] = lambda files: None
) -> Changes:
    """Compare the tree at `root_fd` with the record `base`, which was complete at `stamp` (ns, by the file system).

    owners: how the tree's owners were written; advance: called with the number of files that were looked at since.
    Raises OSError.
    """
    walk = _Walk(root_fd, base, owners, advance)
    walk.directory(root_fd, b"")
    now = walk.now
    added: set[bytes] = set()
    suspects: list[bytes] = []
    for path, entry in now.items():
        if _differs(path, entry, base.get(path)):
            added.add(path)
        elif path and base[path].type == entry.type == "f" and walk.changed_at.get(path, 0) >= stamp:
            suspects.append(path)
    removed = sorted(path for path in base if path not in now and _parent(path) in now)
    removed = [path for path in removed if now[_parent(path)].type == "d"]
    return Changes(now, added, removed, suspects)


def complete(changes: Changes) -> None:
    """Add to `added` all names of a file that is in it, and the directories above every change."""
    together: dict[int, list[bytes]] = {}
    for path, entry in changes.now.items():
        together.setdefault(id(entry), []).append(path)
    for path in list(changes.added):
        changes.added.update(together[id(changes.now[path])])
    for path in [*changes.added, *changes.removed]:
        while path:
            path = _parent(path)
            changes.added.add(path)


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _differs(path: bytes, now: Entry, then: Entry | None) -> bool:
    if then is None:
        # The record has no line for a root that no layer lists. It was 0755 and owned by 0:0.
        return bool(path or now.mode != 0o755 or now.uid or now.gid or now.xattrs)
    if then.type in "cb" and now.type == "f" and now.size == 0 and now.mode == 0:
        return False  # it is the empty file that stands for a device
    if now.type != then.type or (now.uid, now.gid) != (then.uid, then.gid):
        return True
    if now.type == "l":
        return now.link != then.link
    if now.mode != then.mode or _user(now.xattrs) != _user(then.xattrs):
        return True
    return now.type == "f" and (now.size, now.mtime) != (then.size, then.mtime)


def _user(xattrs: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the user.* attributes. Others may have been refused when the tree was written, so they prove nothing."""
    return {name: value for name, value in xattrs.items() if name.startswith(b"user.")}


class _Walk:
    """Read the tree as an image has it. Owners and devices come from the record if the disk cannot hold them."""

    def __init__(self, root_fd: int, base: Entries, owners: Owners, advance: Callable[[int], None]) -> None:
        self.now: Entries = {b"": self._entry(os.fstat(root_fd), b"", root_fd, b".", base, owners)}
        self.changed_at: dict[bytes, int] = {}
        self._base = base
        self._owners = owners
        self._advance = advance
        self._inodes: dict[tuple[int, int], Entry] = {}

    def directory(self, fd: int, path: bytes) -> None:
        names = sorted(map(os.fsencode, os.listdir(fd)))
        self._advance(len(names))
        for name in names:
            whole = path + b"/" + name if path else name
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
            self.changed_at[whole] = st.st_ctime_ns
            if stat.S_ISSOCK(st.st_mode):
                continue  # a socket: tar has no type for it, and it means nothing without its process
            key = (st.st_dev, st.st_ino)
            entry = self._inodes.get(key)
            if entry is None:
                entry = self._entry(st, whole, fd, name, self._base, self._owners)
                if st.st_nlink > 1 and entry.type != "d":
                    self._inodes[key] = entry
            self.now[whole] = entry
            if entry.type == "d":
                below = os.open(name, READ_DIRECTORY, dir_fd=fd)
                try:
                    self.directory(below, whole)
                finally:
                    os.close(below)

    @staticmethod
    def _entry(st: os.stat_result, path: bytes, fd: int, name: bytes, base: Entries, owners: Owners) -> Entry:
        kind = _KINDS[stat.S_IFMT(st.st_mode)]
        mode = 0o777 if kind == "l" else stat.S_IMODE(st.st_mode)
        entry = Entry(kind, mode, st.st_uid, st.st_gid, mtime=st.st_mtime_ns)
        if kind == "f":
            entry.size = st.st_size
        elif kind == "l":
            entry.link = os.readlink(name, dir_fd=fd)
        elif kind in "cb":
            entry.device = os.major(st.st_rdev), os.minor(st.st_rdev)
        if kind in "fd":
            entry.xattrs = _read_xattrs(name, fd, kind)
        then = base.get(path)
        kept = entry.xattrs.get(ids.XATTR)
        if owners.mode == "xattr" or kept != (then.xattrs.get(ids.XATTR) if then else None):
            entry.xattrs.pop(ids.XATTR, None)  # else it is the image's own attribute
        else:
            kept = None
        _take_device(entry)
        if kept is not None:
            entry.uid, entry.gid = ids.decode(kept)
        elif then is not None and (
            owners.mode != "map" or owners.owner_on_disk(then.uid, then.gid, path) == (st.st_uid, st.st_gid)
        ):
            entry.uid, entry.gid = then.uid, then.gid
        elif owners.mode != "map":
            entry.uid = entry.gid = 0
        if then is not None and then.type == "l" == kind:
            entry.mode = then.mode
        return entry


def _take_device(entry: Entry) -> None:
    """Make a device of an empty file that stands for one (rootless/emulation/records.py)."""
    value = entry.xattrs.pop(ids.DEVICE_XATTR, None)
    if value is None or entry.type != "f" or entry.size:
        return
    try:
        entry.type, *numbers = ids.decode_device(value)
    except ValueError:
        return
    entry.device = numbers[0], numbers[1]


def _read_xattrs(name: bytes, fd: int, kind: str) -> dict[bytes, bytes]:
    try:
        opened = os.open(name, READ_DIRECTORY if kind == "d" else _FILE, dir_fd=fd)
    except PermissionError:
        return {}  # its mode denies its owner reading; write_layer will fail with a hint if it has changed
    try:
        names = [os.fsencode(n) for n in os.listxattr(opened) if n.startswith(("user.", "security.capability"))]
        return {n: os.getxattr(opened, n) for n in names}
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return {}
    finally:
        os.close(opened)


def check_names(changes: Changes) -> None:
    """Refuse names that begin with `.wh.`: in a layer `.wh.NAME` removes NAME (image-spec layer.md, "Whiteouts").

    Raises OciError for the first such path.
    """
    for path in sorted([*changes.added, *changes.removed]):
        if any(part.startswith(_WHITEOUT) for part in path.split(b"/")):
            hint = "rename or remove it" if path in changes.added else "--flatten packs the tree as it is now"
            raise OciError("a layer cannot hold a name that begins with .wh.: it would remove a file", path, hint=hint)


def write_layer(root_fd: int, changes: Changes, out: IO[bytes]) -> None:
    """Write what was added and removed as a tar, sorted by name. Raises OSError and OciError."""
    members: list[tuple[bytes, bool]] = [(path, True) for path in changes.added]
    members += [(path, False) for path in changes.removed]
    first: dict[int, bytes] = {}
    with tarfile.open(
        fileobj=out, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        for path, is_there in sorted(members):
            if not is_there:
                parent, _, name = path.rpartition(b"/")
                info = tarfile.TarInfo(os.fsdecode(parent + b"/.wh." + name if parent else b".wh." + name))
                info.mode = 0o600
                tar.addfile(info)
                continue
            entry = changes.now[path]
            info = _info(path, entry)
            if id(entry) in first and entry.type != "d":
                info.type, info.linkname, info.size = tarfile.LNKTYPE, os.fsdecode(first[id(entry)]), 0
                info.pax_headers = {}
                tar.addfile(info)
                continue
            first[id(entry)] = path
            if entry.type == "f":
                with _open(root_fd, path) as file:
                    info.size = os.fstat(file.fileno()).st_size
                    tar.addfile(info, file)
            else:
                tar.addfile(info)


def _info(path: bytes, entry: Entry) -> tarfile.TarInfo:
    info = tarfile.TarInfo(os.fsdecode(path or b"."))
    info.mode, info.uid, info.gid = entry.mode, entry.uid, entry.gid
    info.type = {
        "f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "p": tarfile.FIFOTYPE,
        "c": tarfile.CHRTYPE, "b": tarfile.BLKTYPE,
    }[entry.type]  # fmt: skip
    mtime = entry.mtime or 0
    info.mtime = mtime // 1_000_000_000  # tarfile writes what does not fit its twelve digits as a pax header
    info.linkname = os.fsdecode(entry.link)
    info.devmajor, info.devminor = entry.device
    records = {"mtime": pax_time(mtime)} if mtime % 1_000_000_000 else {}
    for name, value in entry.xattrs.items():
        records["SCHILY.xattr." + os.fsdecode(name)] = value.decode("utf-8", "surrogateescape")
    info.pax_headers = records
    return info


def _open(root_fd: int, path: bytes) -> IO[bytes]:
    """Open a regular file of the tree. No link is followed, because the container may have written the tree."""
    fd = os.dup(root_fd)
    try:
        *parents, name = path.split(b"/")
        for parent in parents:
            following = os.open(parent, READ_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = following
        opened = os.open(name, _FILE, dir_fd=fd)
    except OSError as error:
        hint = HINTS["unreadable-file"].text if isinstance(error, PermissionError) else ""
        raise OciError.from_os(error, "cannot read", path, hint) from None
    finally:
        os.close(fd)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OciError("the file was replaced while it was read", path)
    return open(opened, "rb")


def digest_of(root_fd: int, path: bytes) -> str:
    """Return the SHA-256 of a file of the tree."""
    with _open(root_fd, path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def settle_suspects(
    root_fd: int,
    changes: Changes,
    base_digests: Callable[[set[bytes]], dict[bytes, str]],
    advance: Callable[[int], None],
) -> None:
    """Move the suspects whose contents differ from the base's, or that the base lacks, to `added`.

    advance: called with the size of each file that was read.
    """
    if not changes.suspects:
        return
    known = base_digests(set(changes.suspects))
    by_entry: dict[int, str] = {}
    for path in changes.suspects:
        entry = changes.now[path]
        if id(entry) not in by_entry:
            by_entry[id(entry)] = digest_of(root_fd, path)
            advance(entry.size)
        if known.get(path, "") != by_entry[id(entry)]:
            changes.added.add(path)
    changes.suspects.clear()


def whole_tree(changes: Changes, base: Entries) -> Changes:
    """Return everything as added. An empty file that stands for a device becomes the device again."""
    now = dict(changes.now)
    for path, entry in now.items():
        then = base.get(path)
        if then is not None and then.type in "cb" and entry.type == "f" and entry.size == 0 and entry.mode == 0:
            now[path] = then
    return Changes(now, set(now), [], [])


def size_of(changes: Changes) -> int:
    """Return the bytes of all files in a layer of these changes: docker's `Size`."""
    files = {id(entry): entry.size for entry in map(changes.now.__getitem__, changes.added) if entry.type == "f"}
    return sum(files.values())
