"""Look at processes through /proc (proc(5)). A pid may be reused, so a pid and its start time identify a process."""

from __future__ import annotations

import errno
from _signal import SIGKILL, pidfd_send_signal  # type: ignore[import-not-found]

from rootless.errors import RootlessError, advice
from rootless.kernel.files import close_at_last, write_all
from rootless.startup import lean_os as os

_PF_EXITING = 0x4  # linux/sched.h; in the flags of /proc/PID/stat


def start_time(pid: int, *, ending: bool = False) -> int:
    """Return the start time in clock ticks since boot; 0 if the process is gone or a zombie, or is about to be one.

    ending: do not return 0 for a process that is about to be a zombie. The first process of a pid namespace ends only
    after all others in it are reaped (pid_namespaces(7)), and the parent of an exec'd process may never do that. But it
    has already closed all that it had. Raises RootlessError if the kernel does not say (EMFILE, ENOMEM, EACCES).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = (file.read(4096) or b"").rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except OSError as error:
        raise RootlessError.from_os(error, "cannot look at the process", f"/proc/{pid}/stat") from None
    if not fields or fields[0] in (b"Z", b"X"):
        return 0
    if not ending and int(fields[6]) & _PF_EXITING and fields[17] == b"1":  # it is exiting, and this is its last thread
        return 0
    return int(fields[19])


def alive(pid: int, started: int) -> bool:
    """Return whether the process with that pid and start time still runs. Raises RootlessError."""
    return pid > 0 and started > 0 and start_time(pid) == started


def own_identity() -> tuple[int, int]:
    """Return (pid, start time) of this process, with the pid that the /proc mounted here shows. Raises OSError."""
    with open("/proc/self/stat", "rb", buffering=0) as file:
        line = file.read(4096) or b""
    return int(line.partition(b" ")[0]), int(line.rpartition(b") ")[2].split()[19])


def own_arguments() -> tuple[int, int]:
    """Return where the arguments of this process begin and end in its memory (proc_pid_stat(5), arg_start, arg_end).

    Raises OSError.
    """
    with open("/proc/self/stat", "rb", buffering=0) as file:
        fields = (file.read(4096) or b"").rpartition(b") ")[2].split()
    return int(fields[45]), int(fields[46])


def open_pidfd(pid: int) -> int:
    """Return a pidfd of a process, -1 if it is gone. Raises RootlessError if that is not known, as with EMFILE."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    except OSError as error:
        # pidfd_open(2) gives these errors if the number now belongs to a thread, so that the process is gone.
        if error.errno in (errno.EINVAL, errno.ENOENT) and pid > 0:
            return -1
        raise RootlessError.from_os(error, "cannot open the process", str(pid)) from None


def permitted(pid: int) -> int:
    """Return the permitted capabilities of a process as a mask. Raises RootlessError, also if it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            text = file.read(1 << 16) or b""
    except OSError as error:
        raise RootlessError.from_os(error, "cannot read the capabilities of the container's init") from None
    return int(text.partition(b"\nCapPrm:")[2].split(None, 1)[0], 16)


def open_proc() -> int:
    """Open the host's /proc and check that it is procfs, because a faked one would redirect writes (CVE-2019-19921).

    Return the fd. Raises RootlessError.
    """
    from rootless.kernel import syscalls as sc  # imported late: commands that only look at processes save half a ms

    fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if sc.fstatfs_type(fd) != sc.PROC_SUPER_MAGIC:
        raise RootlessError("/proc is not a proc file system", "/proc", hint=advice("no-proc"))
    return fd


def end(pid: int, pidfd: int) -> None:
    """Kill a child, reap it, and close its pidfd."""
    try:
        pidfd_send_signal(pidfd, SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    finally:
        close_at_last(pidfd)


def write_pid_file(path: str, pid: int) -> None:
    """Write the pid as digits without a newline, by a rename, because clients read the file while it appears.

    Nobody can guess the temporary file's name, because in a directory such as /tmp a link could wait under a known
    name. Raises RootlessError.
    """
    temporary = f"{os.path.dirname(path) or '.'}/.{os.path.basename(path)[:200]}.{os.urandom(8).hex()}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o644)
        try:
            try:
                write_all(fd, b"%d" % pid)
            finally:
                os.close(fd)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise RootlessError.from_os(error, "cannot write the pid file", path) from None
