"""Record the system calls that set a container up, and make the same calls for the next one without Python.

Containers of one plan are set up by the same calls. So a worker (api/workers.py) has Python set the first one up, and
records what Python asks the kernel for. For the next ones a few instructions (repeat.S) make the recorded calls in
their order. Python would take as long as the kernel, because each container finds the processor's caches full of the
last one's work.

Nothing is decided anew, so every answer has to be the recorded one: the result or the errno of each call, and each
value that Python has looked at in what the kernel wrote, such as a field of struct stat. Only a descriptor may have
another number. At the first other answer the calls end. The container's process has to end then, and Python sets
another one up. So a container is what Python would have made of it.

A recording holds only calls that this module knows. If a set-up makes any other, Python sets up every container.
"""

from __future__ import annotations

import builtins
import posix
from struct import pack

from rootless.kernel import syscalls as sc
from rootless.kernel.files import make_program, seal
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_CODE = bytes.fromhex(
    "535541544889fb4989f44c39e30f838a000000488b034885c078568b6b38488b7b08d1ed7303488b3f488b7310d1ed73"
    "03488b36488b5318d1ed7303488b124c8b5320d1ed73034d8b124c8b4328d1ed73034d8b004c8b4b30d1ed73034d8b09"
    "0f0548894348d1ed731d4885c07830eb1c488b4b08488b09488b531048ffc075154889c84821d0483b434075124883c3"
    "50e974ffffff483b0a7404ebf031db4889d8415c5d5bc3"
)  # repeat.S, whose comment says what an entry holds
_ENTRY, _RESULT = 80, 72  # bytes of an entry, and where it holds the result
_SAME, _OTHER = -1, -2  # in place of a system call's number
_NO_ERROR = 1 << 6
_MOST = 3  # recordings that may turn out not to be repeatable, before no other is made
_PROT_READ_EXEC, _MAP_PRIVATE = 5, 2

# The calls of kernel/syscalls.py that are known: which arguments are descriptors, and whether they return one.
_CALLS = {
    "mount": ((), False), "umount2": ((), False), "pivot_root": ((), False), "open_tree": ((0,), True),
    "move_mount": ((0, 2), False), "fsopen": ((), True), "fsconfig": ((0,), False), "fsmount": ((0,), True),
    "mount_setattr": ((0,), False), "openat2": ((0,), True), "sethostname": ((), False), "setdomainname": ((), False),
    "socket": ((), True), "ioctl": ((0,), False), "setresuid": ((), False), "setresgid": ((), False),
    "prctl": ((), False), "unshare": ((), False), "fstatfs": ((0,), False), "prlimit64": ((), False),
    "capget": ((), False), "capset": ((), False),
}  # fmt: skip
# Numbers of x86-64 of the calls that the functions of `os` make (asm/unistd_64.h).
_NR = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "chdir": 80, "fchdir": 81, "umask": 95, "fcntl": 72, "setsid": 112,
    "openat": 257, "mkdirat": 258, "newfstatat": 262, "symlinkat": 266, "readlinkat": 267,
    "fchmodat": 268, "setxattr": 188, "removexattr": 197,
}  # fmt: skip
_PURE = ("fsdecode", "fsencode", "fspath", "major", "makedev", "minor", "strerror")  # they ask the kernel nothing
_STAT_SIZE = 144
# Where struct stat of x86-64 has a field (asm/stat.h), and the bits that count of the eight bytes there.
_STAT = {
    "st_dev": (0, 2**64 - 1), "st_ino": (8, 2**64 - 1), "st_mode": (24, 2**32 - 1), "st_uid": (28, 2**32 - 1),
    "st_gid": (32, 2**32 - 1), "st_rdev": (40, 2**64 - 1),
}  # fmt: skip
_USERNS_FD = 24  # where struct mount_attr has a descriptor (mount_setattr(2))
_READ_MAX = 16384  # bytes of a file that are compared
_PADDING = 8  # bytes after what the kernel writes, because a comparison reads eight
_F_DUPFD_CLOEXEC = 1030  # linux/fcntl.h
_F_TYPE = 0, 2**32 - 1  # in struct statfs


class Differs(Exception):
    """The kernel has given another answer than the recorded one."""


class Recording:
    """The calls of one part of a set-up, as soon as it was done once.

    code: the address of repeat.S in memory (`load_code`); shared: descriptors that are the same for all containers.
    """

    def __init__(self, code: int, shared: list[int]) -> None:
        self._repeat = sc.c_function(code)
        self._shared = shared
        self._left = _MOST
        self._complete = False
        self._result: Any = None  # of the function whose calls were recorded
        self._memory: list[Any] = []  # keeps what the two addresses point to
        self._first = self._end = 0

    def run(self, function: Callable[[], Any]) -> Any:
        """Call the function and record its system calls, or make those that were recorded; return what it returned.

        Raises what the function raises, and then nothing is recorded. Raises Differs if the kernel gives another
        answer. Only a part of the calls was made then, and this process has to end.
        """
        if self._complete:
            if self._repeat(sc.number(self._first), sc.number(self._end)):
                self._complete = False
                raise Differs
        elif self._left:
            self._record(function)
        else:
            return function()
        return self._result

    def _record(self, function: Callable[[], Any]) -> None:
        calls = _Calls(self._shared)
        self._result = calls.record(function)
        self._left -= 1
        if calls.unknown:
            self._left = 0
            return
        data, data_address = sc.pinned(b"".join(calls.data))
        entries, self._first = sc.pinned(bytes(_ENTRY * len(calls.entries)))
        self._end = self._first + _ENTRY * len(calls.entries)
        sc.write_memory(self._first, b"".join(each.packed(data_address, self._first) for each in calls.entries))
        self._memory = [data, entries]
        self._complete = True


class _Data(int):
    """The offset of bytes among a recording's data."""


class _Result(int):
    """The index of an entry whose result is meant, because that is a descriptor."""


class _Entry:
    """One call, or one comparison, as repeat.S takes it. wanted: None for any result that is no error."""

    __slots__ = ("arguments", "number", "wanted")

    def __init__(self, number: int, arguments: list[int], wanted: int | None) -> None:
        self.number = number
        self.arguments = arguments
        self.wanted = wanted

    def packed(self, data: int, first: int) -> bytes:
        """Return the bytes of the entry. data, first: the addresses of the data and of the first entry."""
        flags = _NO_ERROR if self.wanted is None else 0
        values = [0] * 6
        for place, argument in enumerate(self.arguments):
            if type(argument) is _Data:
                values[place] = data + argument
            elif type(argument) is _Result:
                values[place] = first + _ENTRY * argument + _RESULT
                flags |= 1 << place
            else:
                values[place] = argument & 2**64 - 1
        return pack("<q6QQqq", self.number, *values, flags, self.wanted or 0, 0)


class _Calls:
    """Record calls. unknown: the name of a call that cannot be recorded, "" if there was none."""

    def __init__(self, shared: list[int]) -> None:
        self.entries: list[_Entry] = []
        self.data: list[bytes] = []
        self.unknown = ""
        self._size = 0  # of the data
        self._shared = [sc.AT_FDCWD, *shared]
        self._fds: dict[int, int] = {}  # descriptors that are open, and the index of the entry that has opened each
        self._names = {sc.number_of(name): name for name in _CALLS}
        self._call: Callable[..., int]
        self._errno: Callable[[], int]

    def record(self, function: Callable[[], Any]) -> Any:
        """Call a function while all of `os` and of kernel/syscalls.py is watched; return what it returned.

        What is read through `open`, such as a file of /sys that names a device, cannot be recorded.
        """
        functions, watched, plain_open = vars(os), _Os(self), builtins.open
        kept = functions.copy()
        self._call, self._errno = sc.pass_through(self._made)
        try:
            for name, value in kept.items():
                if callable(value) and not isinstance(value, type) and name not in _PURE:
                    functions[name] = getattr(watched, name, None) or self._watch_unknown(name, value)
            functions["path"] = _Path(self, kept["path"])
            builtins.open = self._watch_unknown("open", plain_open)
            return function()
        finally:
            builtins.open = plain_open
            functions.update(kept)
            sc.pass_through(self._call)

    def _watch_unknown(self, name: str, function: Any) -> Any:
        def call(*args: Any, **keywords: Any) -> Any:
            self.unknown = name
            return function(*args, **keywords)

        return call

    # --- entries

    def add(self, number: int, arguments: list[int], wanted: int | None) -> None:
        self.entries.append(_Entry(number, arguments, wanted))

    def put(self, data: bytes) -> _Data:
        """Keep bytes for the calls; return where they are."""
        offset = _Data(self._size)
        self.data.append(data)
        self._size += len(data)
        return offset

    def text(self, text: Any) -> _Data:
        """Keep a path or another string for the calls; return where it is."""
        if isinstance(text, int):
            self.unknown = "a descriptor in place of a path"
            return _Data(0)
        raw: bytes = os.fsencode(text)
        if b"/fdinfo" in raw:
            self.unknown = "a path with a descriptor"
        for part in raw.split(b"/fd/")[1:]:
            self._want_number(int(part[: len(part) - len(part.lstrip(b"0123456789"))] or -1))
        return self.put(raw + b"\0")

    def _want_number(self, fd: int) -> None:
        """Record that a descriptor has to have its number again, because a path such as /proc/self/fd/7 names it."""
        if fd in self._fds:
            self.entries[self._fds[fd]].wanted = fd
        elif fd not in self._shared:
            self.unknown = "a path with a descriptor"

    def fd(self, fd: int | None) -> int:
        """Return a descriptor as an argument; None stands for the working directory."""
        if fd is None:
            return sc.AT_FDCWD
        if fd in self._fds:
            return _Result(self._fds[fd])
        if fd not in self._shared:
            self.unknown = "a descriptor that others may not have"
        return fd

    def opened(self, fd: int) -> None:
        """Remember that the last entry has opened a descriptor."""
        self._fds[fd] = len(self.entries) - 1

    def closed(self, fd: int) -> None:
        """Forget a descriptor, whose number the next one may have."""
        self._fds.pop(fd, None)

    def guard_bytes(self, data: _Data, raw: bytes) -> None:
        """Record that bytes in memory have to be the same."""
        for place in range(0, len(raw), 8):
            part = raw[place : place + 8]
            self.guard(data, (place, 256 ** len(part) - 1), int.from_bytes(part, "little"))

    def guard(self, data: _Data, place: tuple[int, int], value: int) -> None:
        """Record that a number in memory has to be the same. place: its offset from `data`, and the bits that count."""
        offset, bits = place
        number = value & bits
        self.add(_SAME, [_Data(data + offset), bits], number - 2**64 if number >> 63 else number)

    def guard_other(self, data: _Data, other: _Data) -> None:
        """Record that two numbers in memory have to differ."""
        self.add(_OTHER, [data, other], 0)

    # --- calls of kernel/syscalls.py

    def _made(self, number: int, *args: Any) -> int:
        """Make a call in the place of kernel/syscalls.py, and record it."""
        result = self._call(number, *args)
        name = self._names.get(number, "")
        if not name:
            self.unknown = f"system call {number}"
            return result
        descriptors, opens = _CALLS[name]
        arguments: list[int] = []
        written: list[tuple[_Data, Any]] = []
        for place, each in enumerate(args):
            if place in descriptors:
                arguments.append(self.fd(each))
            elif isinstance(each, (int, type(None))):
                arguments.append(each or 0)
            elif isinstance(each, bytes):
                arguments.append(self.text(each))
            elif hasattr(each, "value") and not hasattr(each, "raw"):  # a number of 64 bits (syscalls.number)
                arguments.append(each.value)
            else:  # memory, which the kernel writes to
                data = self.put(bytes(len(bytes(each)) + _PADDING))
                arguments.append(data)
                written.append((data, each))
        if result < 0:
            self.add(number, arguments, -self._errno())
        elif opens:
            self.add(number, arguments, None)
            self.opened(result)
        else:
            self.add(number, arguments, result)
            if name == "mount_setattr" and any(args[3][_USERNS_FD:]):
                self.unknown = "a mapped mount"
            for data, memory in written:
                if name == "fstatfs":
                    self.guard(data, _F_TYPE, memory[0])
                else:
                    self.guard_bytes(data, bytes(memory))
        return result


class _Os:
    """The functions of `os` that are known. Each makes one system call, and records it."""

    def __init__(self, calls: _Calls) -> None:
        self._calls = calls

    def _record(self, name: str, arguments: list[int], function: Callable[[], Any], *, varies: bool = False) -> Any:
        """Call a function that makes one system call, and record that. Raises its OSError.

        varies: whether its result is another one each time, as a descriptor's number is.
        """
        try:
            result = function()
        except OSError as error:
            self._calls.add(_NR[name], arguments, -(error.errno or 0))
            raise
        self._calls.add(_NR[name], arguments, None if varies else result or 0)
        return result

    def _ask(self, name: str, before: list[int], after: list[int], function: Callable[[], Any]) -> _Status:
        """Record a call that fills a struct stat. before, after: its arguments on both sides of the struct."""
        data = self._calls.put(bytes(_STAT_SIZE))
        found: list[Any] = []
        self._record(name, [*before, data, *after], lambda: found.append(function()))
        return _Status(self._calls, data, found[0])

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        calls = self._calls
        arguments = [calls.fd(dir_fd), calls.text(path), flags | os.O_CLOEXEC, mode]
        fd: int = self._record("openat", arguments, lambda: posix.open(path, flags, mode, dir_fd=dir_fd), varies=True)
        calls.opened(fd)
        return fd

    def close(self, fd: int) -> None:
        self._record("close", [self._calls.fd(fd)], lambda: posix.close(fd))
        self._calls.closed(fd)

    def fstat(self, fd: int) -> _Status:
        return self._ask("fstat", [self._calls.fd(fd)], [], lambda: posix.fstat(fd))

    def stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> _Status:
        calls = self._calls
        return self._ask(
            "newfstatat", [calls.fd(dir_fd), calls.text(path)], [0 if follow_symlinks else sc.AT_SYMLINK_NOFOLLOW],
            lambda: posix.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks),
        )  # fmt: skip

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        arguments = [self._calls.fd(dir_fd), self._calls.text(path), mode]
        self._record("mkdirat", arguments, lambda: posix.mkdir(path, mode, dir_fd=dir_fd))

    def symlink(self, target: Any, path: Any, *, dir_fd: int | None = None) -> None:
        calls = self._calls
        arguments = [calls.put(os.fsencode(target) + b"\0"), calls.fd(dir_fd), calls.text(path)]
        self._record("symlinkat", arguments, lambda: posix.symlink(target, path, dir_fd=dir_fd))

    def chmod(self, path: Any, mode: int, *, dir_fd: int | None = None) -> None:
        arguments = [self._calls.fd(dir_fd), self._calls.text(path), mode]
        self._record("fchmodat", arguments, lambda: posix.chmod(path, mode, dir_fd=dir_fd))

    def setxattr(self, path: Any, name: str, value: bytes) -> None:
        calls = self._calls
        arguments = [calls.text(path), calls.text(name), calls.put(value), len(value), 0]
        self._record("setxattr", arguments, lambda: posix.setxattr(path, name, value))

    def removexattr(self, path: Any, name: str) -> None:
        arguments: list[int] = [self._calls.text(path), self._calls.text(name)]
        self._record("removexattr", arguments, lambda: posix.removexattr(path, name))

    def fchdir(self, fd: int) -> None:
        self._record("fchdir", [self._calls.fd(fd)], lambda: posix.fchdir(fd))

    def chdir(self, path: Any) -> None:
        self._record("chdir", [self._calls.text(path)], lambda: posix.chdir(path))

    def umask(self, mask: int) -> Any:
        return self._record("umask", [mask], lambda: posix.umask(mask))

    def setsid(self) -> None:
        self._record("setsid", [], posix.setsid, varies=True)

    def readlink(self, path: Any, *, dir_fd: int | None = None) -> Any:
        before = [self._calls.fd(dir_fd), self._calls.text(path)]
        return self._read("readlinkat", before, lambda: posix.readlink(path, dir_fd=dir_fd))

    def read(self, fd: int, size: int) -> Any:
        content = self._read("read", [self._calls.fd(fd)], lambda: posix.read(fd, size))
        if len(content) == size or len(content) > _READ_MAX:
            self._calls.unknown = "a long file"
        return content

    def _read(self, name: str, before: list[int], function: Callable[[], Any]) -> Any:
        """Record a call that reads all of something. It has to find the same again, and the same end."""
        try:
            content = function()
        except OSError as error:
            self._calls.add(_NR[name], [*before, self._calls.put(bytes(1)), 1], -(error.errno or 0))
            raise
        raw = os.fsencode(content)
        data = self._calls.put(bytes(len(raw) + 1 + _PADDING))
        self._calls.add(_NR[name], [*before, data, len(raw) + 1], len(raw))
        self._calls.guard_bytes(data, raw)
        return content

    def dup(self, fd: int) -> int:
        arguments = [self._calls.fd(fd), _F_DUPFD_CLOEXEC, 0]
        copy: int = self._record("fcntl", arguments, lambda: posix.dup(fd), varies=True)
        self._calls.opened(copy)
        return copy

    def write(self, fd: int, data: bytes) -> Any:
        arguments = [self._calls.fd(fd), self._calls.put(data), len(data)]
        return self._record("write", arguments, lambda: posix.write(fd, data))


class _Status:
    """What fstat(2) or stat(2) returned. The recording compares each field that is looked at."""

    def __init__(self, calls: _Calls, data: _Data, status: Any) -> None:
        self._calls = calls
        self._data = data
        self._status = status

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._status, name)
        if name == "st_dev":
            return _Device(self._calls, self._data, value)
        if name in _STAT:
            self._calls.guard(self._data, _STAT[name], value)
        else:
            self._calls.unknown = name
        return value


class _Device:
    """The device of a file. A new file system's is another one each time, and remains another one than the root's."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, calls: _Calls, data: _Data, value: int) -> None:
        self._calls = calls
        self._data = data
        self._value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Device):
            return int(self) == other
        if self._value == other._value:
            return int(self) == int(other)
        self._calls.guard_other(self._data, other._data)
        return False

    def __index__(self) -> int:
        self._calls.guard(self._data, _STAT["st_dev"], self._value)
        return self._value


class _Path:
    """`os.path` while calls are recorded. What asks the kernel cannot be recorded."""

    def __init__(self, calls: _Calls, path: Any) -> None:
        self._calls = calls
        self._path = path

    def __getattr__(self, name: str) -> Any:
        if name not in ("basename", "dirname", "isabs", "join", "normpath", "split"):
            self._calls.unknown = f"os.path.{name}"
        return getattr(self._path, name)


def load_code() -> int:
    """Return the address of the instructions of repeat.S in memory that may be executed. Raises OSError."""
    fd = make_program("rootless-repeat")
    try:
        os.write(fd, _CODE)
        seal(fd)
        address = sc.c_function("mmap")(None, len(_CODE), _PROT_READ_EXEC, _MAP_PRIVATE, fd, sc.number(0))
    finally:
        os.close(fd)
    if address == -1:
        sc.fail("mmap")
    return address
