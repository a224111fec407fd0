"""Make raw system calls, under the kernel's own names, with its constants and structs.

This is the only module that uses ctypes (and `_ctypes`, its core). Every failure is an OSError whose text begins with
the call's name and whose `filename` is the path, if there is one. Paths are bytes or str.

Functions are looked up in the process itself (`CDLL(None)`). No library is loaded by a path, so none can come from a
container's file system. Calls are made with the GIL held (PyDLL), because `clone3` returns twice and the child must own
the lock that its parent owned.
"""

from __future__ import annotations

import _ctypes
import errno
import struct

from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    Path = str | bytes

# --- linux/sched.h
CLONE_NEWTIME = 0x00000080
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

# --- linux/mount.h
MS_RDONLY = 1
MS_SYNCHRONOUS = 16
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_I_VERSION = 1 << 23
MS_LAZYTIME = 1 << 25

MNT_DETACH = 2

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x00000004
MOVE_MOUNT_T_EMPTY_PATH = 0x00000040
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6

MOUNT_ATTR_RDONLY = 0x00000001
MOUNT_ATTR_NOSUID = 0x00000002
MOUNT_ATTR_NODEV = 0x00000004
MOUNT_ATTR_NOEXEC = 0x00000008
MOUNT_ATTR__ATIME = 0x00000070
MOUNT_ATTR_RELATIME = 0x00000000
MOUNT_ATTR_NOATIME = 0x00000010
MOUNT_ATTR_STRICTATIME = 0x00000020
MOUNT_ATTR_NODIRATIME = 0x00000080
MOUNT_ATTR_IDMAP = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

# --- asm-generic/mman.h
_PROT_READ = 1
_MAP_PRIVATE = 2

# --- linux/fcntl.h, linux/openat2.h
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

# --- linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

# --- linux/seccomp.h
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 1
SECCOMP_FILTER_FLAG_LOG = 2
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 32

# --- linux/keyctl.h
KEYCTL_JOIN_SESSION_KEYRING = 1
KEYCTL_SETPERM = 5

# --- linux/magic.h
PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572

# --- asm-generic/ioctls.h
TIOCGWINSZ = 0x5413
TIOCSWINSZ = 0x5414
TIOCGPTPEER = 0x5441
TIOCSPTLCK = 0x40045431
TIOCSCTTY = 0x540E

# asm/unistd.h. From 424 on the numbers are the same on every architecture.
_NUMBERS = {
    "x86_64": {
        "setgroups": 116, "capget": 125, "capset": 126, "personality": 135, "pivot_root": 155, "prctl": 157,
        "mount": 165, "umount2": 166, "sethostname": 170, "setdomainname": 171, "set_mempolicy": 238,
        "keyctl": 250, "ioprio_set": 251, "unshare": 272, "setns": 308, "sched_setattr": 314, "seccomp": 317,
        "bpf": 321, "setresuid": 117, "setresgid": 119, "fstatfs": 138, "prlimit64": 302,
        "process_vm_readv": 310, "statx": 332, "newfstatat": 262, "socket": 41, "ioctl": 16,
    },
    "aarch64": {
        "setgroups": 159, "capget": 90, "capset": 91, "personality": 92, "pivot_root": 41, "prctl": 167,
        "mount": 40, "umount2": 39, "sethostname": 161, "setdomainname": 162, "set_mempolicy": 237,
        "keyctl": 219, "ioprio_set": 30, "unshare": 97, "setns": 268, "sched_setattr": 274, "seccomp": 277,
        "bpf": 280, "setresuid": 147, "setresgid": 149, "fstatfs": 44, "prlimit64": 261,
        "process_vm_readv": 270, "statx": 291, "newfstatat": 79, "socket": 198, "ioctl": 29,
    },
}  # fmt: skip
_COMMON = {
    "pidfd_send_signal": 424, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437, "mount_setattr": 442,
}  # fmt: skip

MACHINE = os.uname().machine
_NR = {**_NUMBERS.get(MACHINE, {}), **_COMMON}


# `_ctypes` is used directly, because `ctypes` is Python code that takes a millisecond to import.


class _Char(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


class _Int(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "i"


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Function(_ctypes.CFuncPtr):
    """A C function of the process itself, called with the GIL held, as those of ctypes.PyDLL are."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Long


class _QuickFunction(_ctypes.CFuncPtr):
    """A C function like those of _Function, but errno is lost."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI
    _restype_ = _Long


class _Callback(_ctypes.CFuncPtr):
    """A Python function without arguments and result that C code can call."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI
    _restype_ = None
    _argtypes_ = ()


_INT_LIMIT = 1 << 31  # _ctypes passes an int as a C int, which the calling convention extends to 64 bits
_ITSELF: Any = None  # dlopen(3): the process itself
_syscall: Callable[..., int] = _Function(_ctypes.dlsym(_ctypes.dlopen(_ITSELF, 0), "syscall"))


def _buffer(data: bytes | int) -> Any:
    """Return memory with these bytes, or with that many zeros. Its `.raw` reads it."""
    array: Any = (_Char * (data if isinstance(data, int) else len(data)))()
    if not isinstance(data, int):
        array.raw = data
    return array


def syscall(name: str, *args: Any, path: Path | None = None) -> int:
    """Make one raw system call. Integers are passed as 64 bits, bytes as `const char *`, None as NULL.

    Raises OSError (errno, "name: reason", path); ENOSYS if the call has no number in this machine's table.
    """
    number = _NR.get(name)
    if number is None:
        raise OSError(errno.ENOSYS, f"{name}: no number known for {MACHINE}")
    for value in args:
        if type(value) is int and not -_INT_LIMIT <= value < _INT_LIMIT:
            args = tuple(_Long(a) if type(a) is int else a for a in args)
            break
    result: int = _syscall(number, *args)
    if result == -1:
        fail(name, path)
    return result


def fail(name: str, path: Path | None = None) -> NoReturn:
    """Raise the OSError for the call that has just failed."""
    number = _ctypes.get_errno()
    raise OSError(number, f"{name}: {os.strerror(number)}", path)


def number_of(name: str) -> int:
    """Return a system call's number on this machine, -1 for one that has none in the table."""
    return _NR.get(name, -1)


def pass_through(call: Callable[..., int]) -> tuple[Callable[..., int], Callable[[], int]]:
    """Have `call` make every call of this module. Return what has made them so far, and what returns its errno."""
    global _syscall
    before, _syscall = _syscall, call
    return before, _ctypes.get_errno


def map_file(fd: int, size: int) -> Callable[[int, int], bytes]:
    """Map a file for reading (mmap(2)); return what reads it: (begin, length in bytes) -> bytes.

    The kernel reads a page when it is needed first. The module `mmap` would do the same, but it is a library to load.
    Raises OSError.
    """
    address: Any = _Function(_ctypes.dlsym(_ctypes.dlopen(_ITSELF, 0), "mmap"))(
        None, size, _PROT_READ, _MAP_PRIVATE, fd, 0
    )
    if address == -1:
        fail("mmap")

    def read(begin: int, length: int) -> bytes:
        # It uses nothing that startup/codecache.py may have to read first: no function, and no class but these two.
        memory: Any = (_Long * (length // 8 + 1))()
        copy = _Function(_ctypes.dlsym(_ctypes.dlopen(_ITSELF, 0), "memcpy"))
        copy(memory, _Long(address + begin), _Long(length))
        return bytes(memory)[:length]

    return read


# --- processes


def clone3(flags: int, *, exit_signal: int = 17, cgroup_fd: int = -1) -> tuple[int, int]:
    """Call clone3(2) as a fork. Return (pid, pidfd), and in the child (0, -1).

    The child has a copy of this thread only. It must neither run atexit handlers nor flush stdio, so it ends by
    os._exit or execve. The pidfd is close-on-exec. cgroup_fd: the cgroup v2 directory in which the child starts.
    """
    pidfd = _Int(-1)
    if cgroup_fd >= 0:
        flags |= CLONE_INTO_CGROUP
    # struct clone_args (linux/sched.h), 88 bytes: flags, pidfd, child_tid, parent_tid, exit_signal, stack,
    # stack_size, tls, set_tid, set_tid_size, cgroup
    pointer = _ctypes.addressof(pidfd)
    args = struct.pack("11Q", flags | CLONE_PIDFD, pointer, 0, 0, exit_signal, 0, 0, 0, 0, 0, max(cgroup_fd, 0))
    pid = syscall("clone3", args, len(args))
    return (pid, pidfd.value) if pid else (0, -1)


def unshare(flags: int) -> None:
    """Call unshare(2)."""
    syscall("unshare", flags)


def setns(fd: int, nstype: int = 0) -> None:
    """Call setns(2). nstype: a CLONE_NEW* flag, or several of them if fd is a pidfd."""
    syscall("setns", fd, nstype)


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """Call prctl(2) with integer arguments of 32 bits."""
    result = _syscall(_NR["prctl"], option, arg2, arg3, arg4, arg5)
    return result if result >= 0 else fail("prctl")


def name_process(name: bytes) -> None:
    """Set the name that ps(1) and /proc/PID/comm show, up to 15 bytes, until execve. A failure does not matter."""
    try:
        syscall("prctl", PR_SET_NAME, name)
    except OSError:
        pass


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """Call close_range(2). Both ends are included."""
    syscall("close_range", first, last, flags)


CLOSE_RANGE_CLOEXEC = 4


def prlimit(resource: int, new: tuple[int, int] | None = None, pid: int = 0) -> tuple[int, int]:
    """Call prlimit(2): set (soft, hard) if given, and return the old ones. 2**64-1 is unlimited; pid: 0 for this one.

    The module `resource` does not do, because it hides errno and takes no limits from 2**63 on.
    """
    old = _buffer(16)
    syscall("prlimit64", pid, resource, struct.pack("2Q", *new) if new else None, old)
    soft, hard = struct.unpack("2Q", old.raw)
    return soft, hard


# --- ids and capabilities

_CAPABILITY_VERSION_3 = 0x20080522


def setresuid(uid: int) -> None:
    """Set all three user ids of this thread.

    The call is raw, because glibc's wrapper signals all threads it knows, and clone3 has not copied them (nptl(7)).
    """
    syscall("setresuid", uid, uid, uid)


def setresgid(gid: int) -> None:
    """Set all three group ids of this thread. The call is raw for the same reason."""
    syscall("setresgid", gid, gid, gid)


def setgroups(gids: list[int]) -> None:
    """Set the supplementary groups of this thread (setgroups(2)). The call is raw for the same reason."""
    array = struct.pack(f"{len(gids)}I", *gids)
    syscall("setgroups", len(gids), array if gids else None)


def capget(pid: int = 0) -> tuple[int, int, int]:
    """Return the (effective, permitted, inheritable) sets as bit masks (capget(2))."""
    data = _buffer(24)
    syscall("capget", struct.pack("Ii", _CAPABILITY_VERSION_3, pid), data)
    e0, p0, i0, e1, p1, i1 = struct.unpack("6I", data.raw)
    return e0 | e1 << 32, p0 | p1 << 32, i0 | i1 << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Call capset(2) for this thread. The sets are bit masks."""
    low = 0xFFFFFFFF
    sets = (effective, permitted, inheritable)
    data = struct.pack("6I", *(each & low for each in sets), *(each >> 32 for each in sets))
    syscall("capset", struct.pack("Ii", _CAPABILITY_VERSION_3, 0), data)


def drop_from_bounding_set(capabilities: list[int]) -> None:
    """Call PR_CAPBSET_DROP(2const) for each of these numbers, without what `syscall` checks, because they are many."""
    call, number = _syscall, _NR["prctl"]
    for capability in capabilities:
        if call(number, PR_CAPBSET_DROP, capability):
            fail("prctl")


# --- names


def sethostname(name: str) -> None:
    """Set the host name of this UTS namespace (sethostname(2))."""
    data = os.fsencode(name)
    syscall("sethostname", data, len(data))


def setdomainname(name: str) -> None:
    """Set the NIS domain name of this UTS namespace (setdomainname(2))."""
    data = os.fsencode(name)
    syscall("setdomainname", data, len(data))


# --- paths


def openat2(dir_fd: int, path: Path, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """Call openat2(2); return a close-on-exec fd. After EAGAIN (a rename raced with `..`) try again, up to 64 times."""
    raw = os.fsencode(path)
    how = struct.pack("3Q", flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(64):
        fd = _syscall(_COMMON["openat2"], dir_fd, raw, how, 24)  # as `syscall` does, because it is made so often
        if fd >= 0:
            return fd
        if _ctypes.get_errno() != errno.EAGAIN:
            break
    return fail("openat2", path)


def open_in_root(root_fd: int, path: Path, flags: int = os.O_PATH, *, mode: int = 0) -> int:
    """Open a path as the container sees it: links stay inside root_fd, and magic links fail (RESOLVE_IN_ROOT)."""
    return openat2(root_fd, path, flags, mode=mode, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def find_in_root(root_fd: int, path: Path, flags: int = os.O_PATH) -> int:
    """Open a container's path in the same way; -1 where it leads to nothing that may be seen.

    Raises OSError for any other failure (EMFILE, ENOMEM), because that one does not say what is there.
    """
    try:
        return open_in_root(root_fd, path, flags)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG, errno.EXDEV):
            raise
        return -1


def fstatfs_type(fd: int) -> int:
    """Return the magic number of the fd's file system (statfs(2)), which shows a faked /proc or cgroup."""
    buffer: Any = (_Long * 32)()  # struct statfs has at most 120 bytes
    if _syscall(_NR["fstatfs"], fd, buffer) < 0:
        fail("fstatfs")
    return int(buffer[0]) & 0xFFFFFFFF


# --- mounts


def mount(source: Path | None, target: Path, fstype: str | None, flags: int, data: str | None = None) -> None:
    """Call mount(2), for what the new mount API cannot do (rootless/steps/file_systems.py)."""
    names = [None if each is None else os.fsencode(each) for each in (source, target, fstype, data)]
    syscall("mount", *names[:3], flags, names[3], path=target)


def umount2(target: Path, flags: int = 0) -> None:
    """Call umount2(2)."""
    syscall("umount2", os.fsencode(target), flags, path=target)


def pivot_root(new_root: Path, put_old: Path) -> None:
    """Call pivot_root(2)."""
    syscall("pivot_root", os.fsencode(new_root), os.fsencode(put_old), path=new_root)


def open_tree(dir_fd: int, path: Path, flags: int) -> int:
    """Call open_tree(2); return a close-on-exec fd."""
    tree = _syscall(_COMMON["open_tree"], dir_fd, os.fsencode(path), flags | OPEN_TREE_CLOEXEC)
    return tree if tree >= 0 else fail("open_tree", path)


def move_mount(from_fd: int, to_fd: int) -> None:
    """Call move_mount(2) from one fd onto another, without any path."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    if _syscall(_COMMON["move_mount"], from_fd, b"", to_fd, b"", flags) < 0:
        fail("move_mount")


def fsopen(fstype: str) -> int:
    """Call fsopen(2); return a close-on-exec fd."""
    fs_fd = _syscall(_COMMON["fsopen"], os.fsencode(fstype), FSOPEN_CLOEXEC)
    return fs_fd if fs_fd >= 0 else fail("fsopen", fstype)


def fsconfig(fs_fd: int, command: int, key: str | None = None, value: str | None = None) -> None:
    """Call fsconfig(2), for flags, strings and the create command."""
    raw_key = None if key is None else os.fsencode(key)
    if _syscall(_COMMON["fsconfig"], fs_fd, command, raw_key, None if value is None else os.fsencode(value), 0) < 0:
        fail("fsconfig", key)


def fsmount(fs_fd: int, attributes: int = 0) -> int:
    """Call fsmount(2); return the fd of a detached mount. attributes: MOUNT_ATTR_*."""
    tree = _syscall(_COMMON["fsmount"], fs_fd, FSMOUNT_CLOEXEC, attributes)
    return tree if tree >= 0 else fail("fsmount")


def mount_setattr(
    fd: int, *, attr_set: int = 0, attr_clr: int = 0, propagation: int = 0, userns_fd: int = 0, recursive: bool = False
) -> None:
    """Call mount_setattr(2) on the mount whose root is fd."""
    attributes = struct.pack("4Q", attr_set, attr_clr, propagation, userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    if _syscall(_COMMON["mount_setattr"], fd, b"", flags, attributes, 32) < 0:
        fail("mount_setattr")


# --- keys, seccomp


def keyctl(operation: int, *args: Any) -> int:
    """Call keyctl(2)."""
    return syscall("keyctl", operation, *args)


def join_session_keyring(name: str) -> int:
    """Join a session keyring of that name; return its serial number (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING)."""
    return keyctl(KEYCTL_JOIN_SESSION_KEYRING, os.fsencode(name))


def seccomp_load(program: bytes, flags: int = 0) -> int:
    """Load a BPF program, an array of struct sock_filter, as a filter (seccomp(2)).

    Return 0, or the listener's fd if flags have SECCOMP_FILTER_FLAG_NEW_LISTENER.
    """
    buffer = _buffer(program)
    sock_fprog = struct.pack("HxxxxxxQ", len(program) // 8, _ctypes.addressof(buffer))
    return syscall("seccomp", SECCOMP_SET_MODE_FILTER, flags, sock_fprog)


def fast_call(name: str) -> Callable[..., int]:
    """Return a function for a system call that is made very often.

    It takes bytes, buffers, what `number` makes, and ints of 32 bits, of which negative ones are slow. A sixth argument
    must be a `number`, because ctypes writes half of an int to the stack. It returns -1 after a failure, without errno:
    make the call again by `syscall` to get it. Raises OSError if the call has no number here.
    """
    value = _NR.get(name)
    if value is None:
        raise OSError(errno.ENOSYS, f"{name}: no number known for {MACHINE}")
    from functools import partial

    return partial(_QuickFunction(address_of("syscall")), value)


def number(value: int) -> Any:
    """Return a number of 64 bits as an argument for `fast_call`, which ctypes need not convert."""
    return _Long(value)


def number_at(address: int) -> Any:
    """Return a number of 64 bits in memory; its `.value` reads and writes it."""
    return _Long.from_address(address)


def address_of(name: str) -> int:
    """Return the address of a function of the C library. Raises OSError if there is none of that name."""
    return int(_ctypes.dlsym(_ctypes.dlopen(_ITSELF, 0), name))


def c_function(name: str | int) -> Callable[..., int]:
    """Return a function, by its name in the C library or its address. It takes what `syscall` takes. Raises OSError."""
    return _Function(name if isinstance(name, int) else address_of(name))


def callback(function: Callable[[], None]) -> tuple[Any, int]:
    """Return (object, address) of a function that C code can call. Keep the object as long as needed."""
    entry = _Callback(function)
    return entry, int(number_at(_ctypes.addressof(entry)).value)


def pinned(data: bytes) -> tuple[Any, int]:
    """Return (object, address) of a copy of the bytes, for a pointer in a struct. Keep the object as long as needed."""
    buffer = _buffer(data)
    return buffer, _ctypes.addressof(buffer)


def load_library(name: str, functions: dict[str, tuple[Any, list[Any]]]) -> dict[str, Callable[..., Any]]:
    """Open a shared library by its soname; return {name: function}.

    functions: {name: (type of the result, [types of the arguments])}, with names of ctypes such as "c_int". Raises
    OSError if the library or one of the functions is missing.
    """
    import ctypes

    library = ctypes.CDLL(name, use_errno=True)
    entries: dict[str, Callable[..., Any]] = {}
    for function, (result, arguments) in functions.items():
        try:
            entry = getattr(library, function)
        except AttributeError:
            raise OSError(errno.ENOSYS, f"{name} lacks {function}", name) from None
        entry.restype = getattr(ctypes, result) if result else None
        entry.argtypes = [getattr(ctypes, argument) for argument in arguments]
        entries[function] = entry
    return entries


def write_memory(address: int, data: bytes) -> None:
    """Copy bytes to an address in this process's memory (memcpy(3)). It imports nothing."""
    c_function("memcpy")(_Long(address), data, _Long(len(data)))


def read_memory(address: int, size: int) -> bytes:
    """Return a copy of memory that a library's function returned a pointer to."""
    import ctypes

    return ctypes.string_at(address, size)
