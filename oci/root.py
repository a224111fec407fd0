"""Resolve paths inside a root, component by component with directory fds, like RESOLVE_IN_ROOT of openat2(2).

Python has no openat2(2), and `oci` uses no ctypes. A symbolic link on the way is read and followed inside the root, and
`..` stops at the root. Nothing is looked up by a string that holds a slash, so a hostile tree cannot lead out.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from stat import S_ISREG

READ_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC  # flags of open(2)
MAX_DEPTH = 256  # directories below each other; deeper trees are refused
_MAX_LINKS = 40  # as the kernel, path_resolution(7)
_MAX_STEPS = 10_000  # components of one path, links included, because links may go down and up again without end
_CACHED = 64  # directories kept open
# Errnos of open(2) for a path that does not lead to a regular file: a socket gives ENXIO, a device may give ENODEV.
_NO_FILE = (
    errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENXIO, errno.ENODEV, errno.ENAMETOOLONG,
)  # fmt: skip
PATH_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Directory:
    """An open directory. fd: with O_PATH; path: the real path from the root, without links.

    The fd is closed when the object is freed, as with Python's files. So keep the object and not the number.
    """

    __slots__ = ("_is_ours", "fd", "path")

    def __init__(self, fd: int, path: bytes, *, is_ours: bool = True) -> None:
        self.fd = fd
        self.path = path
        self._is_ours = is_ours

    def __del__(self) -> None:
        if self._is_ours:
            os.close(self.fd)

    def join(self, name: bytes) -> bytes:
        """Return the path, from the root, of an entry of this directory."""
        return self.path + b"/" + name if self.path else name


class Root:
    """A directory that paths are resolved in.

    fd: the caller's, who closes it; on_created: called with the path of each directory that `directory` makes. The
    directories used last stay open until `close`. One that a caller still holds stays open longer.
    """

    def __init__(self, fd: int, on_created: Callable[[bytes], None] | None = None) -> None:
        self.fd = fd
        self._on_created = on_created
        self._cache: dict[bytes, Directory] = {b"": Directory(fd, b"", is_ours=False)}
        self.known = self._cache.get  # path -> its Directory if that is in the cache, else None

    def directory(self, path: bytes, create: bool = False) -> Directory:
        """Return the directory that `path` leads to. Links are followed inside the root.

        create: make missing directories, with mode 0755. Raises OSError: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG.
        """
        known = self._cache.get(path)
        if known is not None:
            return known
        ancestor, rest = path, b""
        while ancestor not in self._cache:
            ancestor, _, name = ancestor.rpartition(b"/")
            rest = name + b"/" + rest
        directory = self._walk(self._cache[ancestor], rest, create)
        if len(self._cache) > _CACHED:
            del self._cache[next(path for path in self._cache if path)]  # the one that was used longest ago
        self._cache[path] = directory
        return directory

    def forget(self) -> None:
        """Empty the cache. Call it after removing a directory or symbolic link, which a cached path may go through."""
        top = self._cache[b""]
        self._cache.clear()
        self._cache[b""] = top

    close = forget

    def open_file(self, path: bytes) -> int | None:
        """Open a regular file for reading; return its fd, or None if the path does not lead to one.

        Links are followed inside the root. Raises OSError if the answer is not known, such as EMFILE.
        """
        try:
            for _ in range(_MAX_LINKS):
                parent, _, name = path.rpartition(b"/")
                directory = self.directory(parent)
                try:
                    # O_NONBLOCK, because open(2) of a FIFO would wait for a writer.
                    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory.fd)
                except OSError as error:
                    if error.errno != errno.ELOOP:
                        raise
                    target = os.readlink(name, dir_fd=directory.fd)
                    path = normal(target if target.startswith(b"/") else directory.path + b"/" + target)
                    continue
                if S_ISREG(os.fstat(fd).st_mode):
                    return fd
                os.close(fd)
                break
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
        return None

    def resolve(self, path: bytes) -> bytes:
        """Return the real path, from the root, of a path that need not exist.

        Links are followed inside the root; missing components stay as they are. Raises OSError: ELOOP, or a failure to
        read a link.
        """
        done: list[bytes] = []
        todo, links = normal(path).split(b"/")[::-1], 0
        while todo:
            name = todo.pop()
            if name == b"..":
                del done[-1:]
                continue
            done.append(name)
            try:
                directory = self.directory(b"/".join(done[:-1]))
                target = os.readlink(name, dir_fd=directory.fd)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                    raise
                continue  # not a link, or missing
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(path))
            done = [] if target.startswith(b"/") else done[:-1]
            todo += [n for n in normal(target).split(b"/") if n][::-1]
        return b"/".join(done)

    def _walk(self, start: Directory, path: bytes, create: bool) -> Directory:
        names = [n for n in start.path.split(b"/") if n]
        todo = [n for n in path.split(b"/") if n and n != b"."][::-1]
        fd, links, steps = os.dup(start.fd), 0, 0
        here = len(names)  # how many of `names` lead to fd; -1 after `..`, when fd must be opened again
        try:
            while todo or here < 0:
                steps += 1
                if steps > _MAX_STEPS or links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                if todo and todo[-1] == b"..":
                    todo.pop()
                    del names[-1:]
                    here = -1
                    continue
                if here < 0:
                    fd = _swap(fd, self.fd)
                    for name in names:
                        fd = _swap(fd, fd, name)
                    steps += len(names)
                    here = len(names)
                    continue
                name = todo.pop()
                try:
                    fd = _swap(fd, fd, name)
                except NotADirectoryError:
                    target = _read_link(name, fd)
                    links += 1
                    if target.startswith(b"/"):
                        names, here = [], -1
                    todo += [n for n in target.split(b"/") if n and n != b"."][::-1]
                    continue
                except FileNotFoundError:
                    if not create:
                        raise
                    os.mkdir(name, 0o755, dir_fd=fd)
                    fd = _swap(fd, fd, name)
                    if self._on_created:
                        self._on_created(b"/".join([*names, name]))
                names.append(name)
                here = len(names)
                if here > MAX_DEPTH:
                    raise OSError(errno.ENAMETOOLONG, f"more than {MAX_DEPTH} directories deep")
        except BaseException:
            os.close(fd)
            raise
        return Directory(fd, b"/".join(names))


def _swap(fd: int, base: int, name: bytes | None = None) -> int:
    """Open `name` in `base` (or `base` itself) and close fd."""
    opened = os.dup(base) if name is None else os.open(name, PATH_DIRECTORY, dir_fd=base)
    os.close(fd)
    return opened


def _read_link(name: bytes, fd: int) -> bytes:
    try:
        return os.readlink(name, dir_fd=fd)
    except OSError as error:
        if error.errno == errno.EINVAL:  # neither a link nor a directory
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name) from None
        raise


def normal(path: bytes) -> bytes:
    """Return a path without empty parts and dots. `..` stays, because the component before it may be a link."""
    return b"/".join([n for n in path.split(b"/") if n and n != b"."])
