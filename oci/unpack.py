"""Apply one layer to a root: whiteouts first, then members; every path by directory fds, nothing by string.

Layers are hostile. A member's parents are opened one component at a time without following links; a link among them
is resolved by hand inside the root, so that nothing outside is ever read, written or removed.
"""

from __future__ import annotations

import errno
import os
import tarfile
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import IO

from oci.archive import read_tar
from oci.errors import OciError, printable

_WHITEOUT, _OPAQUE, _PLINK = ".wh.", ".wh..wh..opq", ".wh..wh.plnk"
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = 40
_CHUNK = 1 << 20
_NOBODY = 65534


class Tree:
    """A root that layers are applied to.

    mapped: the container ids that can be given to files, as ranges (first, size); None keeps every file the user's.
    What happened is counted: devices, folded (ids beyond the map) and highest (the largest id seen).
    """

    def __init__(self, root_fd: int, mapped: list[tuple[int, int]] | None, *, strict: bool = False) -> None:
        self.root_fd = root_fd
        self.mapped = mapped
        self.strict = strict
        self.devices = 0
        self.folded = 0
        self.highest = 0
        self._times: dict[str, int] = {}
        self._cached: tuple[str, int] = ("", -1)

    def apply(self, layer: IO[bytes], where: str) -> None:
        """Apply one layer, an uncompressed tar."""
        for member in read_tar(layer, where):
            self._whiteout(_clean(member.name, where), where)
        links = [m for m in (self._add(member, layer, where) for member in read_tar(layer, where)) if m is not None]
        if links:
            raise OciError("a hard link leads to a file that is not there", f"{where}: {printable(links[0])}")
        self._forget()
        parent = os.dup(self.root_fd)
        try:
            _remove(parent, _PLINK)
        finally:
            os.close(parent)

    def finish(self) -> None:
        """Set the directories' times, the deepest first."""
        self._forget()
        for name in sorted(self._times, reverse=True):
            try:
                parent = self.parent(name, create=False)
            except OSError:
                continue
            base = os.path.basename(name) or "."
            try:
                if S_ISDIR(os.stat(base, dir_fd=parent, follow_symlinks=False).st_mode):
                    ns = self._times[name]
                    os.utime(base, ns=(ns, ns), dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                pass
            finally:
                os.close(parent)

    def parent(self, name: str, *, create: bool) -> int:
        """An fd of the directory that `name` is in; missing ones are made 0755. Raises OSError."""
        path = os.path.dirname(name)
        if self._cached[1] >= 0 and self._cached[0] == path:
            return os.dup(self._cached[1])
        stack = [os.dup(self.root_fd)]
        try:
            pending = [p for p in path.split("/") if p][::-1]
            links = 0
            while pending:
                part = pending.pop()
                if part == "..":  # of a link's target: the root's parent is the root
                    if len(stack) > 1:
                        os.close(stack.pop())
                elif part not in (".", ""):
                    target = _step(stack, part, create)
                    if target is not None:
                        links += 1
                        if links > _LINKS:
                            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
                        if target.startswith("/"):
                            while len(stack) > 1:
                                os.close(stack.pop())
                        pending += [p for p in target.split("/") if p][::-1]
            found = stack.pop()
        finally:
            for fd in stack:
                os.close(fd)
        self._forget()
        self._cached = (path, os.dup(found))
        return found

    def _forget(self) -> None:
        if self._cached[1] >= 0:
            os.close(self._cached[1])
        self._cached = ("", -1)

    def _whiteout(self, name: str, where: str) -> None:
        base = os.path.basename(name)
        if not base.startswith(_WHITEOUT):
            return
        if base == _WHITEOUT or base in (".wh..", ".wh.."):
            raise OciError("a whiteout without a name", f"{where}: {printable(name)}")
        if base.startswith(".wh..wh.") and base != _OPAQUE:
            return
        try:
            parent = self.parent(name, create=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return
            raise
        self._forget()
        try:
            if base == _OPAQUE:
                fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
                try:
                    for entry in os.listdir(fd):
                        _remove(parent, entry)
                finally:
                    os.close(fd)
            else:
                _remove(parent, base[len(_WHITEOUT) :])
        finally:
            os.close(parent)

    def _add(self, member: tarfile.TarInfo, layer: IO[bytes], where: str) -> str | None:
        """Add one member. Returns the name of a hard link whose target is missing."""
        name = _clean(member.name, where)
        base = os.path.basename(name)
        inside_plink = name.split("/")[0] == _PLINK
        if base.startswith(_WHITEOUT) and not inside_plink:
            return None
        if not name:
            if not member.isdir():
                raise OciError("the root is no directory in this layer", where)
            self._attributes(member, self.root_fd, ".", where)
            return None
        try:
            parent = self.parent(name, create=True)
            try:
                return self._create(member, name, base, parent, layer, where)
            finally:
                os.close(parent)
        except OSError as error:
            raise OciError.from_os(error, "cannot write", f"{where}: {printable(name)}") from None

    def _create(
        self, member: tarfile.TarInfo, name: str, base: str, parent: int, layer: IO[bytes], where: str
    ) -> str | None:
        if member.isdir():
            if not _is_directory(parent, base):
                self._forget()
                _remove(parent, base)
                os.mkdir(base, 0o700, dir_fd=parent)
            self._times[name] = int(member.mtime) * 10**9
            self._attributes(member, parent, base, where)
            return None
        if member.islnk():
            return self._link(member, base, parent, where)
        self._forget()
        _remove(parent, base)
        if member.issym():
            if not member.linkname:
                raise OciError("a symbolic link without a target", f"{where}: {printable(name)}")
            os.symlink(member.linkname, base, dir_fd=parent)
        elif member.isfifo():
            os.mkfifo(base, 0o600, dir_fd=parent)
        elif member.ischr() or member.isblk():
            self.devices += 1
            member.mode = 0
            os.close(os.open(base, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=parent))
        else:
            self._file(member, base, parent, layer, where)
        self._attributes(member, parent, base, where)
        return None

    def _file(self, member: tarfile.TarInfo, base: str, parent: int, layer: IO[bytes], where: str) -> None:
        fd = os.open(base, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
        try:
            if member.sparse is not None:
                with tarfile.open(fileobj=layer, mode="r:") as tar:
                    source = tar.extractfile(member)
                    while source is not None and (chunk := source.read(_CHUNK)):
                        os.write(fd, chunk)
                    os.ftruncate(fd, member.size)
                return
            at = layer.tell()
            layer.seek(member.offset_data)
            left = member.size
            while left:
                chunk = layer.read(min(left, _CHUNK))
                if not chunk:
                    raise OciError("the layer is cut off", f"{where}: {printable(member.name)}")
                left -= os.write(fd, chunk)
            layer.seek(at)
        finally:
            os.close(fd)

    def _link(self, member: tarfile.TarInfo, base: str, parent: int, where: str) -> str | None:
        target = _clean(member.linkname, where)
        try:
            source = self.parent(target, create=False)
        except OSError:
            return target
        try:
            name = os.path.basename(target)
            try:
                found = os.stat(name, dir_fd=source, follow_symlinks=False)
            except FileNotFoundError:
                return target
            if S_ISDIR(found.st_mode):
                raise OciError("a hard link to a directory", f"{where}: {printable(member.name)}")
            same = _identity(parent, base)
            if same == (found.st_dev, found.st_ino):
                return None
            self._forget()
            _remove(parent, base)
            os.link(name, base, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)
        return None

    def _attributes(self, member: tarfile.TarInfo, parent: int, base: str, where: str) -> None:
        """Owner, then mode (a change of owner takes setuid away: chown(2)), xattrs, time."""
        if self.mapped is not None:
            uid, gid = self._owner(member.uid, where), self._owner(member.gid, where)
            os.chown(base, uid, gid, dir_fd=parent, follow_symlinks=False)
        if not member.issym():
            for key, value in member.pax_headers.items():
                if key.startswith("SCHILY.xattr.user."):
                    _set_xattr(parent, base, key[len("SCHILY.xattr.") :], value)
            os.chmod(base, member.mode & 0o7777, dir_fd=parent)
        if not member.isdir():
            ns = _nanoseconds(member)
            os.utime(base, ns=(ns, ns), dir_fd=parent, follow_symlinks=False)
        elif not base or base == ".":
            self._times[""] = int(member.mtime) * 10**9

    def _owner(self, number: int, where: str) -> int:
        if self.mapped is None or any(first <= number < first + size for first, size in self.mapped):
            return number
        self.highest = max(self.highest, number)
        if self.strict:
            raise OciError(f"the owner id {number} is beyond your id range", where, hint="leave --owners strict out")
        self.folded += 1
        return _NOBODY if any(f <= _NOBODY < f + s for f, s in self.mapped) else 0


def remove_tree(path: str) -> None:
    """Remove a whole tree; unwritable directories are made writable first (their owner may do that)."""
    parent, _, name = path.rstrip("/").rpartition("/")
    fd = os.open(parent or ("/" if path.startswith("/") else "."), _DIRECTORY & ~os.O_NOFOLLOW)
    try:
        _remove(fd, name)
    finally:
        os.close(fd)


def _step(stack: list[int], part: str, create: bool) -> str | None:
    """Go one component down; the target where it is a symbolic link."""
    try:
        stack.append(os.open(part, _DIRECTORY, dir_fd=stack[-1]))
        return None
    except FileNotFoundError:
        if not create:
            raise
    except NotADirectoryError:
        found = os.stat(part, dir_fd=stack[-1], follow_symlinks=False)
        if S_ISLNK(found.st_mode):
            return os.readlink(part, dir_fd=stack[-1])
        if not create:
            raise
        os.unlink(part, dir_fd=stack[-1])
    os.mkdir(part, 0o755, dir_fd=stack[-1])
    stack.append(os.open(part, _DIRECTORY, dir_fd=stack[-1]))
    return None


def _clean(name: str, where: str) -> str:
    """A member's name as a relative path. Raises OciError for `..` and NUL."""
    parts = [p for p in name.split("/") if p not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise OciError("a member name leads out of the root", f"{where}: {printable(name)}")
    return "/".join(parts)


def _is_directory(parent: int, base: str) -> bool:
    try:
        return S_ISDIR(os.stat(base, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _identity(parent: int, base: str) -> tuple[int, int] | None:
    try:
        found = os.stat(base, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _remove(parent: int, name: str) -> None:
    """Remove one entry and all below it, by fds."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError) as error:
        if not _is_directory(parent, name):
            raise error from None
    os.chmod(name, 0o700, dir_fd=parent)
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        for entry in os.listdir(fd):
            _remove(fd, entry)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


def _set_xattr(parent: int, base: str, key: str, value: str) -> None:
    fd = os.open(base, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    try:
        if S_ISREG(os.fstat(fd).st_mode) or S_ISDIR(os.fstat(fd).st_mode):
            os.setxattr(fd, key, value.encode("utf-8", "surrogateescape"))
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
    finally:
        os.close(fd)


def _nanoseconds(member: tarfile.TarInfo) -> int:
    text = member.pax_headers.get("mtime", "")
    whole, _, fraction = text.partition(".")
    try:
        return int(whole) * 10**9 + int(fraction[:9].ljust(9, "0")) if whole else int(member.mtime) * 10**9
    except ValueError:
        return int(member.mtime) * 10**9
