"""Make every system call that root emulation answers, inside a container: `python3 emulated_calls.py`.

It prints a line for each check: its name and `ok`, or what was different.
"""

import ctypes
import mmap
import os
import platform
import resource
import stat
import struct
import subprocess
import sys
import threading

LIBC = ctypes.CDLL(None, use_errno=True)
PLACE = sys.argv[1]
MACHINE = platform.machine()
NUMBERS = {
    "x86_64": {"chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260, "stat": 4, "lstat": 6, "fstat": 5,
               "newfstatat": 262, "statx": 332, "mknod": 133, "mknodat": 259, "setfsuid": 122, "capset": 126},
    "aarch64": {"fchown": 55, "fchownat": 54, "fstat": 80, "newfstatat": 79, "statx": 291, "mknodat": 33,
                "setfsuid": 151, "capset": 91},
}.get(MACHINE, {})  # fmt: skip
OFFSETS = {"x86_64": (24, 28), "aarch64": (16, 24)}.get(MACHINE, (0, 0))  # of st_mode and st_uid
AT_FDCWD = -100
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def equal(found, wanted):
    assert found == wanted, f"{found!r}, not {wanted!r}"


def call(name, *args):
    number = ctypes.c_long(NUMBERS[name])
    result = LIBC.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return -ctypes.get_errno() if result == -1 else result


def new(name, kind="file"):
    path = os.path.join(PLACE, name)
    if kind == "file":
        with open(path, "w") as file:
            file.write("text")
    elif kind == "directory":
        os.mkdir(path)
    else:
        os.symlink("target", path)
    return path


def owner(path, **options):
    st = os.stat(path, **options)
    return st.st_uid, st.st_gid


def in_child(function):
    """Return what the function returns in a child process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(writer, repr(function()).encode())
        except BaseException as error:
            os.write(writer, repr(f"{type(error).__name__}: {error}").encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return eval(text)


@check
def chown_and_stat():
    path = new("a")
    os.chown(path, 33, 44)
    equal(owner(path), (33, 44))
    os.chown(path, -1, 45)
    equal(owner(path), (33, 45))
    os.chown(path, 34, -1)
    equal(owner(path), (34, 45))
    os.chown(path, 0, 0)
    equal(owner(path), (0, 0))
    equal(os.listxattr(path), [])
    equal(os.stat(path).st_size, 4)


@check
def a_descriptor():
    with open(new("b"), "r+") as file:
        os.fchown(file.fileno(), 1, 2)
        st = os.fstat(file.fileno())
        equal((st.st_uid, st.st_gid), (1, 2))
    with open(os.path.join(PLACE, "b")) as file:
        equal(owner(file.fileno()), (1, 2))
        equal(owner(f"/proc/self/fd/{file.fileno()}"), (1, 2))


@check
def a_path_without_write_permission():
    path = new("readonly")
    os.chmod(path, 0)
    os.chown(path, 5, 6)
    equal(owner(path), (5, 6))


@check
def relative_paths():
    directory = new("below", "directory")
    os.chdir(directory)
    new("below/c")
    os.chown("c", 7, 8)
    equal(owner("c"), (7, 8))
    equal(owner("../below/./c"), (7, 8))
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    os.chown("c", 9, 10, dir_fd=fd)
    equal(owner("c", dir_fd=fd), (9, 10))
    os.chown(directory, 11, 12)
    equal(owner(directory), (11, 12))
    equal(owner(fd), (11, 12))
    os.chdir("/")


@check
def links():
    link = new("link", "link")
    new("target")
    os.lchown(link, 3, 4)
    equal(owner(link, follow_symlinks=False), (3, 4))
    equal(owner(link), (0, 0))
    os.chown(link, 5, 6)
    equal(owner(link, follow_symlinks=False), (3, 4))
    equal(owner(os.path.join(PLACE, "target")), (5, 6))
    buffer = ctypes.create_string_buffer(256)
    for flags, wanted in ((0, (5, 6)), (0x800, (5, 6)), (0x100, (3, 4)), (0x900, (3, 4))):  # 0x800: AT_NO_AUTOMOUNT
        equal(call("newfstatat", AT_FDCWD, link.encode(), buffer, flags), 0)
        equal(struct.unpack_from("2I", buffer.raw, OFFSETS[1]), wanted)
        equal(call("statx", AT_FDCWD, link.encode(), flags, 0x7FF, buffer), 0)
        equal(struct.unpack_from("2I", buffer.raw, 20), wanted)
    os.chown(link, 1, 1, follow_symlinks=False)
    equal(owner(link, follow_symlinks=False), (1, 1))


@check
def root_takes_files_back():
    path, link = new("taken"), new("taken-link", "link")
    fd = os.open(path, os.O_RDONLY)
    for change in (os.chown, lambda place, uid, gid: os.fchown(fd, uid, gid)):
        os.chown(path, 25, 26)
        change(path, 0, 0)
        equal(owner(path), (0, 0))
    os.lchown(link, 27, 28)
    os.lchown(link, 0, 0)
    equal(owner(link, follow_symlinks=False), (0, 0))


@check
def an_absolute_link_stays_in_the_root():
    path = os.path.join(PLACE, "absolute")
    os.symlink(new("absolute-target"), path)
    os.chown(path, 21, 22)
    equal(owner(os.path.join(PLACE, "absolute-target")), (21, 22))


@check
def raw_calls():
    path = new("raw").encode()
    buffer = ctypes.create_string_buffer(256)
    mode_at, uid_at = OFFSETS

    def shown():
        (mode,), (uid, gid) = (
            struct.unpack_from("I", buffer.raw, mode_at),
            struct.unpack_from("2I", buffer.raw, uid_at),
        )
        return stat.S_ISREG(mode), uid, gid

    calls = [("fchownat", (AT_FDCWD, path, 61, 62, 0)), ("fchownat", (AT_FDCWD, path, 61, 62, 0x100))]
    calls += [("chown", (path, 61, 62)), ("lchown", (path, 61, 62))] if "chown" in NUMBERS else []
    for name, args in calls:
        os.chown(path, 0, 0)
        equal(call(name, *args), 0)
        shows = [("newfstatat", (AT_FDCWD, path, buffer, 0))]
        shows += [("stat", (path, buffer)), ("lstat", (path, buffer))] if "stat" in NUMBERS else []
        for show, words in shows:
            buffer.raw = bytes(256)
            equal(call(show, *words), 0)
            equal(shown(), (True, 61, 62))
    fd = os.open(path, os.O_RDONLY)
    equal(call("fchownat", fd, b"", 63, 64, 0x1000), 0)
    equal(call("fstat", fd, buffer), 0)
    equal(shown(), (True, 63, 64))
    equal(call("newfstatat", fd, b"", buffer, 0x1000), 0)
    equal(shown(), (True, 63, 64))
    for args in ((AT_FDCWD, path, 0), (fd, b"", 0x1000), (AT_FDCWD, path, 0x100)):
        equal(call("statx", *args, 0x7FF, buffer), 0)
        equal(struct.unpack_from("2I", buffer.raw, 20), (63, 64))
        equal(struct.unpack_from("Q", buffer.raw, 40), (4,))
    equal(call("fchownat", AT_FDCWD, path + b"-missing", 1, 1, 0), -2)
    equal(call("fchownat", 999, b"x", 1, 1, 0), -9)
    equal(call("fchown", 999, 1, 1), -9)
    equal(call("fchownat", AT_FDCWD, 8, 1, 1, 0), -14)
    equal(call("newfstatat", AT_FDCWD, 8, buffer, 0), -14)
    equal(call("newfstatat", AT_FDCWD, path, 8, 0), -14)
    equal(call("newfstatat", AT_FDCWD, path, -4096, 0), -14)


@check
def paths_of_any_length():
    directory = PLACE
    while len(directory) < 300:
        directory = os.path.join(directory, "d" * 90)
    os.makedirs(directory)
    path = os.path.join(directory, "f")
    open(path, "w").close()
    os.chown(path, 65, 66)
    equal(owner(path), (65, 66))
    buffer = ctypes.create_string_buffer(256)
    for too_long in (b"x" * 5000, b"/" + b"x/" * 2048):
        equal(call("newfstatat", AT_FDCWD, too_long, buffer, 0), -36)
        equal(call("fchownat", AT_FDCWD, too_long, 1, 1, 0), -36)


@check
def a_path_at_the_end_of_mapped_memory():
    page = mmap.PAGESIZE
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    start = LIBC.mmap(None, 2 * page, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    LIBC.munmap(ctypes.c_void_p(start + page), page)
    path = new("at-the-end").encode() + b"\0"
    place = start + page - len(path)
    ctypes.memmove(place, path, len(path))
    equal(call("fchownat", AT_FDCWD, place, 67, 68, 0), 0)
    equal(owner(path[:-1]), (67, 68))
    equal(call("fchownat", AT_FDCWD, start + page, 1, 1, 0), -14)
    ctypes.memmove(place, b"x" * len(path), len(path))  # a text that does not end
    equal(call("fchownat", AT_FDCWD, place, 1, 1, 0), -14)


@check
def set_id_bits_go():
    path = new("setuid")
    os.chmod(path, 0o4755)
    os.chown(path, 33, 33)
    equal(stat.S_IMODE(os.stat(path).st_mode), 0o755)


@check
def devices():
    path = os.path.join(PLACE, "null")
    os.umask(0o022)
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    st = os.stat(path)
    equal((stat.S_ISCHR(st.st_mode), stat.S_IMODE(st.st_mode), st.st_rdev), (True, 0o644, os.makedev(1, 3)))
    os.chown(path, 5, 6)
    st = os.lstat(path)
    equal((stat.S_ISCHR(st.st_mode), st.st_uid, st.st_rdev), (True, 5, os.makedev(1, 3)))
    buffer = ctypes.create_string_buffer(256)
    equal(call("statx", AT_FDCWD, path.encode(), 0, 0x7FF, buffer), 0)
    equal(struct.unpack_from("2I", buffer.raw, 20), (5, 6))
    equal(struct.unpack_from("H", buffer.raw, 28)[0], stat.S_IFCHR | 0o644)
    equal(struct.unpack_from("2I", buffer.raw, 128), (1, 3))
    fd = os.open(PLACE, os.O_RDONLY)
    os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(8, 300), dir_fd=fd)
    equal(os.stat("disk", dir_fd=fd).st_rdev, os.makedev(8, 300))
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except FileExistsError:
        pass
    else:
        raise AssertionError("made twice")
    os.mkfifo(os.path.join(PLACE, "fifo"))
    os.chown(os.path.join(PLACE, "fifo"), 71, 72)
    equal(owner(os.path.join(PLACE, "fifo")), (71, 72))


@check
def ids():
    def change():
        os.setgroups([5, 4, 6])
        os.setresgid(10, 11, 12)
        os.setresuid(20, 21, 22)
        single = os.getuid(), os.geteuid(), os.getgid(), os.getegid()
        return os.getresuid(), os.getresgid(), sorted(os.getgroups()), *single

    equal(in_child(change), ((20, 21, 22), (10, 11, 12), [4, 5, 6], 20, 21, 10, 11))
    equal((os.getuid(), os.getgid()), (0, 0))


@check
def ids_of_children_and_programs():
    def change():
        os.setgid(44)
        os.setuid(33)
        child = in_child(lambda: (os.getuid(), os.getgid()))
        program = subprocess.check_output(["/bin/busybox", "sh", "-c", "id -u; id -g"], text=True)
        return child, program.split()

    equal(in_child(change), ((33, 44), ["33", "44"]))


@check
def an_orphan_keeps_its_ids():
    def change():
        os.setuid(33)
        reader, writer = os.pipe()
        if not os.fork():
            if not os.fork():
                os.write(writer, b"%d" % os.getuid())
                os._exit(0)
            os._exit(0)
        return os.read(reader, 10)

    equal(in_child(change), b"33")


@check
def root_does_not_come_back():
    def attempt(function, *args):
        try:
            function(*args)
        except PermissionError:
            return "EPERM"
        return "done"

    def change():
        os.setresgid(44, 44, 44)
        os.setresuid(33, 33, 33)
        calls = [(os.setuid, 0), (os.seteuid, 0), (os.setgid, 0), (os.setresuid, 0, 0, 0), (os.setgroups, [0])]
        calls += [(os.chown, new("mine-not"), 33, 33), (os.setuid, 33)]
        return [attempt(*each) for each in calls]

    equal(in_child(change), ["EPERM"] * 6 + ["done"])


@check
def an_effective_user_comes_back():
    def change():
        os.seteuid(33)
        first = os.getuid(), os.geteuid()
        os.seteuid(0)
        os.setreuid(5, 6)
        return first, os.getresuid()

    equal(in_child(change), ((0, 33), (5, 6, 6)))


@check
def the_file_systems_user():
    equal(in_child(lambda: (call("setfsuid", 33), call("setfsuid", -1), os.geteuid())), (0, 33, 0))


@check
def limits_do_not_touch_ids():
    """Set all limits to those of process 1, as pam_limits(8) does: the emulated ids stay."""

    def change():
        os.setgroups([5])
        os.setuid(33)
        infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.setrlimit(10, infinite)
        resource.prlimit(0, 10, infinite)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return os.getuid(), os.getgroups(), resource.getrlimit(resource.RLIMIT_CORE)

    equal(in_child(change), (33, [5], (0, 0)))


@check
def threads():
    def change():
        seen = []
        os.setuid(33)
        thread = threading.Thread(target=lambda: seen.append(os.getuid()))
        thread.start()
        thread.join()
        return seen

    equal(in_child(change), [33])


@check
def capabilities():
    header = struct.pack("Ii", 0x20080522, 0)
    everything = struct.pack("6I", *[0xFFFFFFFF] * 6)
    equal(in_child(lambda: call("capset", header, everything)), 0)
    equal(in_child(lambda: call("capset", header, bytes(24))), 0)


@check
def groups_after_the_user():
    """Keep the capabilities while the user changes, and change the groups with them, as setpriv(1) does."""
    rights = struct.pack("6I", 0xC0, 0xC0, 0, 0, 0, 0)  # CAP_SETGID and CAP_SETUID

    def change():
        LIBC.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
        os.setresuid(33, 33, 33)
        header = struct.pack("Ii", 0x20080522, os.getpid())
        equal(call("capset", header, rights), 0)
        os.setresgid(33, 33, 33)
        os.setgroups([5])
        return os.getresuid(), os.getresgid(), os.getgroups()

    def later():
        """Raise them in a program that was executed by another user: it has none in truth."""
        os.setresuid(33, 33, 33)
        script = "import ctypes, os; c = ctypes.CDLL(None, use_errno=True)\n"
        script += f"print(c.capset({struct.pack('Ii', 0x20080522, 0)!r}, {rights!r}), c.setresgid(5, 5, 5))"
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    equal(in_child(change), ((33,) * 3, (33,) * 3, [5]))
    equal(in_child(later), "0 -1\n")


@check
def another_root():
    def change():
        new("jail", "directory")
        os.mkdir(os.path.join(PLACE, "jail/in"))
        os.chroot(os.path.join(PLACE, "jail"))
        os.chown("/in", 81, 82)
        os.chdir("/in")
        return owner("/in"), owner("."), owner("..")

    equal(in_child(change), ((81, 82), (81, 82), (0, 0)))
    equal(owner(os.path.join(PLACE, "jail/in")), (81, 82))


@check
def thirty_two_bits():
    """Make the calls of i386 by int 0x80, with pointers below 4 GiB."""
    if MACHINE != "x86_64":
        return
    memory = mmap.mmap(-1, 8192, mmap.MAP_PRIVATE | 0x40, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    # push rbx; mov eax, edi; mov ebx, esi; mov ecx, edx; mov edx, r8d (the fourth argument); mov esi, r9d; int 0x80
    code = b"\x53\x89\xf8\x89\xf3\x89\xd1\x44\x89\xc2\x44\x89\xce\xcd\x80\x5b\x48\x98\xc3"
    memory[: len(code)] = code
    path = new("i386").encode() + b"\0"
    memory[1024 : 1024 + len(path)] = path
    function = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_uint] * 6)(start)

    def old(number, a=0, b=0, c=0, d=0):
        return function(number, a, b, 0, c, d)

    if old(20) != os.getpid():  # no emulation of 32 bits in this kernel
        return
    name, place = start + 1024, start + 4096
    equal(old(212, name, 100000, 44), 0)  # chown32
    equal(old(195, name, place), 0)  # stat64
    equal(struct.unpack_from("2I", memory[4096:], 24), (100000, 44))
    equal(old(106, name, place), 0)  # stat, with ids of 16 bits
    equal(struct.unpack_from("2H", memory[4096:], 12), (65534, 44))
    equal(old(182, name, 0xFFFF, 45), 0)  # chown16: -1 keeps the owner
    equal(old(300, AT_FDCWD & 0xFFFFFFFF, name, place, 0), 0)  # fstatat64
    equal(struct.unpack_from("2I", memory[4096:], 24), (100000, 45))

    def change():
        equal(old(208, 33, 34, 35), 0)  # setresuid32
        equal(old(209, place, place + 4, place + 8), 0)  # getresuid32
        return struct.unpack_from("3I", memory[4096:]), old(199), old(24), old(23, 0)

    equal(in_child(change), ((33, 34, 35), 33, 33, -1))


for function in CHECKS:
    try:
        function()
    except BaseException as error:
        print(f"{function.__name__}: {type(error).__name__}: {error}")
    else:
        print(f"{function.__name__}: ok")
