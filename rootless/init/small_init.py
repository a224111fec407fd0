"""Make the small init that a container executes as its pid 1 when it was set up in the launcher's memory.

Such a process cannot go on as a copy of Python, because it has no memory of its own (kernel/vfork.py). So it executes
this program of 501 bytes, which does what reaper.py does. small_init.S is its source, and a test assembles that and
compares. There is one for x86-64 only; elsewhere every container is a copy of the launcher.
"""

from __future__ import annotations

import errno
import fcntl
from struct import pack

from rootless.init.reaper import ALL
from rootless.kernel import syscalls as sc
from rootless.kernel.files import make_program, seal
from rootless.startup import lean_os as os

NAME = b"rootless:init"
_CODE = bytes.fromhex(
    "488b74241831dbac2c30720a6bdb0a0fb6c001c3ebf1b89d000000bf0f000000488d35080100000f05b89d000000bf01"
    "000000be090000000f0548b8040000000100000050b8070000004889e7be0100000031d20f05bf0100000085c00f85c5"
    "000000b803000000bf040000000f0531edb880000000488d3dc000000031f631d241ba080000000f0585c078e483f811"
    "740d89c689dfb83e0000000f05ebd2b83d000000bfffffffff4889e6ba010000004531d20f0539d8750bbd0100000044"
    "8b2424ebda85c07fd685ed74a4b83e000000bfffffffffbe090000000f05b83d000000bfffffffff31f631d24531d20f"
    "0585c07fe9c60424534489642401b801000000bf030000004889e6ba050000000f054489e783e77f740881c780000000"
    "eb064489e7c1ef08b8e70000000f05726f6f746c6573733a696e697400"
)  # small_init.S up to its last eight bytes, which are the set of signals
_BASE = 0x400000
_HEADERS = 64 + 2 * 56


def is_known() -> bool:
    """Return whether there is a small init for this machine."""
    return sc.MACHINE == "x86_64"


def program() -> bytes:
    """Return the program as an ELF file."""
    return elf_file(_CODE + pack("<Q", sum(1 << number - 1 for number in ALL)))


def elf_file(code: bytes) -> bytes:
    """Return an ELF file (elf(5)) for x86-64 whose one segment is read and executed and never written."""
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    # type EXEC, machine x86-64, version, entry, program headers, no section headers, flags, sizes and numbers
    header = ident + pack("<HHIQQQIHHHHHH", 2, 62, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    size = _HEADERS + len(code)
    segment = pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)  # PT_LOAD, PF_R | PF_X
    stack = pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)  # PT_GNU_STACK: not executed
    return header + segment + stack + code


def open_program() -> int:
    """Return a close-on-exec fd of the program, which nobody can change or read. Raises OSError.

    A file that its process may not read makes the process undumpable (fs/exec.c, would_dump), so that no program of the
    container can trace pid 1.
    """
    fd = make_program("rootless-init")
    try:
        os.write(fd, program())
        os.fchmod(fd, 0o111)
        seal(fd)
        reading = os.open(f"/proc/self/fd/{fd}", os.O_PATH | os.O_CLOEXEC)
    finally:
        os.close(fd)
    return reading


def is_executed(fd: int) -> bool:
    """Return whether this host executes the program, which a security module may deny for files in memory.

    It ends at once, because it has no descriptor 4: nobody would wait for the status. Raises OSError if that cannot be
    tried now.
    """
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 5)
    try:
        close = [(os.POSIX_SPAWN_CLOSE, 4)]
        pid = os.posix_spawn(f"/proc/self/fd/{moved}", [NAME], {b"1": b""}, file_actions=close)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.ENOMEM):
            raise
        return False
    finally:
        os.close(moved)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 1


def take_fds(status_fd: int, launcher: int) -> None:
    """Leave the next program of this process only what small_init.S uses: the status at 3, the launcher's pidfd at 4.

    All other descriptors but the three streams are close-on-exec.
    """
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 5) for fd in (status_fd, launcher)]
    sc.close_range(0, 2)
    for number, copy in enumerate(copies, 3):
        os.dup2(copy, number)
