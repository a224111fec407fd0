"""Paths inside a root, resolved component by component with directory fds: what RESOLVE_IN_ROOT of openat2(2) does,
with the standard library alone.

A symbolic link on the way is read and followed inside the root; `..` stops at the root; nothing is looked up by a
string that holds a slash, so a hostile tree can lead nowhere else.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from stat import S_ISREG

MAX_DEPTH = 256  # directories below each other; deeper trees are refused
_MAX_LINKS = 40  # as the kernel, path_resolution(7)
_MAX_STEPS = 10_000  # a bound for links that go down and up again without end
_CACHED = 64
_OPEN = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Root:
    """A directory that paths are resolved in. `fd` stays the caller's; what is cached is closed by `close`."""

    def __init__(self, fd: int, made: Callable[[bytes], None] | None = None) -> None:
        self.fd = fd
        self._made = made  # told of each directory that `directory` made, by its path
        self._cache: dict[bytes, tuple[int, bytes]] = {b"": (fd, b"")}
        self.known = self._cache.get  # what `directory` gave lately for a path, or None

    def directory(self, path: bytes, create: bool = False) -> tuple[int, bytes]:
        """(fd, real path from the root) of the directory `path`; the fd is good until two other calls were made.

        With `create` missing directories are made, 0755. Raises OSError: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG.
        """
        found = self._cache.get(path)
        if found is not None:
            return found
        ancestor, rest = path, b""
        while ancestor not in self._cache:
            ancestor, _, name = ancestor.rpartition(b"/")
            rest = name + b"/" + rest
        fd, real = self._cache[ancestor]
        found = self._walk(fd, real, rest, create)
        self._remember(path, found)
        return found

    def forget(self) -> None:
        """Close what is cached: to be called when a directory or symbolic link was taken away."""
        for path, (fd, _) in list(self._cache.items()):
            if path:
                del self._cache[path]
                os.close(fd)

    close = forget

    def open_file(self, path: bytes) -> int | None:
        """A regular file opened for reading, links followed inside the root; None where there is none."""
        for _ in range(_MAX_LINKS):
            parent, _, name = path.rpartition(b"/")
            try:
                directory, real = self.directory(parent)
                # O_NONBLOCK: a fifo put in the place of the file must not stop us, open(2)
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    return None
                target = os.readlink(name, dir_fd=directory)
                path = normal(target if target.startswith(b"/") else real + b"/" + target)
                continue
            if S_ISREG(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
            return None
        return None

    def resolve(self, path: bytes) -> bytes:
        """Return the real path from the root of what need not exist: links are followed, what is missing is kept.

        Raises OSError: ELOOP, and what stands against reading.
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
                target = os.readlink(name, dir_fd=self.directory(b"/".join(done[:-1]))[0])
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                    raise
                continue  # no link, or nothing at all
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(path))
            done = [] if target.startswith(b"/") else done[:-1]
            todo += [n for n in normal(target).split(b"/") if n][::-1]
        return b"/".join(done)

    def _walk(self, start: int, real: bytes, path: bytes, create: bool) -> tuple[int, bytes]:
        names = [n for n in real.split(b"/") if n]
        todo = [n for n in path.split(b"/") if n and n != b"."][::-1]
        fd, links, steps = os.dup(start), 0, 0
        here = len(names)  # how many of `names` fd stands for; -1: it has to be opened again, after `..`
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
                    if self._made:
                        self._made(b"/".join([*names, name]))
                names.append(name)
                here = len(names)
                if here > MAX_DEPTH:
                    raise OSError(errno.ENAMETOOLONG, f"more than {MAX_DEPTH} directories deep")
        except BaseException:
            os.close(fd)
            raise
        return fd, b"/".join(names)

    def _remember(self, path: bytes, found: tuple[int, bytes]) -> None:
        if len(self._cache) > _CACHED:
            oldest = next(p for p in self._cache if p)
            os.close(self._cache.pop(oldest)[0])
        self._cache[path] = found


def _swap(fd: int, base: int, name: bytes | None = None) -> int:
    """Open `name` in `base` (or `base` itself) and close fd."""
    opened = os.dup(base) if name is None else os.open(name, _OPEN, dir_fd=base)
    os.close(fd)
    return opened


def _read_link(name: bytes, fd: int) -> bytes:
    try:
        return os.readlink(name, dir_fd=fd)
    except OSError as error:
        if error.errno == errno.EINVAL:  # no link: something else that is no directory
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name) from None
        raise


def normal(path: bytes) -> bytes:
    """A path from the root without empty parts and dots; `..` is kept, as a link may stand before it."""
    return b"/".join([n for n in path.split(b"/") if n and n != b"."])
