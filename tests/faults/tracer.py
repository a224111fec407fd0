"""Run a command, see each of its system calls (ptrace(2)), and do something to it at one of them.

strace(1) counts the calls of each process by itself, from the interpreter's first call on, and continues in the user's
program. Here a point is one call of one process: (the process's name, the call's number, how many such calls it made
before). The count begins with the first call of our own code and ends when a process becomes another program.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

PTRACE_CONT, PTRACE_POKEUSER, PTRACE_DETACH, PTRACE_SYSCALL = 7, 6, 17, 24
PTRACE_GETEVENTMSG, PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_GET_SYSCALL_INFO = 0x4201, 0x4206, 0x4207, 0x420E
EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_STOP = 1, 2, 3, 4, 128
OPTIONS = 1 | sum(1 << event for event in (EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC)) | 1 << 20  # EXITKILL
ENTRY = 1
ORIG_RAX, RAX = 15 * 8, 10 * 8  # struct user_regs_struct of x86_64
WALL = 0x40000000
PR_SET_CHILD_SUBREAPER = 36
SUPPORTED = platform.machine() == "x86_64"  # whose registers are known here

EXECVE, CLOSE = 59, 3
# It has set-user-ID bits, which execve(2) ignores for a traced process: it goes on without us.
HELPERS = (b"newuidmap", b"newgidmap")
RUNTIME = "runtime"

Point = tuple[str, int, int]  # process, number of the call, how many of them before
Action = Callable[["Tracee", Point], int]
GO_ON, KILL, STOP = 0, -signal.SIGKILL, -signal.SIGSTOP  # what an action may answer besides an errno

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long

# The interpreter stops itself when its own start is over, and then runs the launcher's file. If it executes itself
# again after it was released, it must not wait again.
DRIVER = """
import posix, sys
sys.argv = sys.argv[1:]
with open(sys.argv[0]) as file:
    code = compile(file.read(), sys.argv[0], "exec")
with open("/proc/self/status") as file:
    traced = "TracerPid:\\t0\\n" not in file.read()
if traced:
    posix.kill(posix.getpid(), 19)
exec(code)
"""


class Hung(Exception):
    """Report that the command did not end in time."""


def driver(launcher: Path, *words: object) -> list[str]:
    """Return the argv of a command line that `Trace` can follow."""
    return [sys.executable, "-IS", "-c", DRIVER, str(launcher), *map(str, words)]


def ptrace(request: int, pid: int, address: int = 0, data: int | ctypes.Array[ctypes.c_char] = 0) -> int:
    """Call ptrace(2). Raises OSError."""
    answer = int(libc.ptrace(request, pid, address, ctypes.cast(data, ctypes.c_void_p)))
    if answer < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    return answer


def adopt_orphans() -> None:
    """Make this process the parent of every orphan that a child leaves behind, so that it can wait for it."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Tracee:
    """Hold one process of the command.

    Its name has its parent's name in it, and which of the parent's children it is.
    """

    def __init__(self, pid: int, name: str) -> None:
        self.pid = pid
        self.name = name
        self.children = 0
        self.calls: Counter[int] = Counter()
        self.inside = False  # a system call
        self.answer = 0  # what the call it is in returns instead
        self.arguments: tuple[int, ...] = ()

    def text(self) -> str:
        """Return the path among the arguments of the current call, "" if there is none that can be read."""
        for address in self.arguments[:2]:
            try:
                with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
                    memory.seek(address)
                    found = memory.read(256).partition(b"\0")[0]
            except (OSError, ValueError, OverflowError):
                continue
            if found and found.isascii() and found.decode("ascii").isprintable():
                return found.decode("ascii")
        return ""


class Trace:
    """Run a command to its end, and record what was done to it on the way."""

    def __init__(self, command: Sequence[str], *, cwd: Path, stdout: int, stderr: int) -> None:
        ready, go = os.pipe2(os.O_CLOEXEC)
        self.leader = os.fork()
        if self.leader == 0:
            try:
                os.setsid()
                for fd, source in enumerate((os.open(os.devnull, os.O_RDONLY), stdout, stderr)):
                    os.dup2(source, fd)
                os.chdir(cwd)
                os.read(ready, 1)
                os.execv(command[0], command)
            finally:
                os._exit(127)
        self.tracees = {self.leader: Tracee(self.leader, RUNTIME)}
        self.seen: dict[Point, None] = {}  # in the order of their first calls
        self.unknown: set[int] = set()  # new processes that stopped before their parent reported them
        self.starting = True
        self.acted = False
        self.target = 0  # who was killed or stopped
        self.path = ""
        self.ended: int | None = None  # the command's wait status
        ptrace(PTRACE_SEIZE, self.leader, 0, OPTIONS)
        os.write(go, b"!")
        os.close(go)
        os.close(ready)

    def run(self, action: Action, seconds: int) -> int:
        """Follow it to its end: its wait status. Raises Hung, and has killed it then. With an action of STOP it returns
        at once, and with -1."""

        def ring(_signum: int, _frame: object) -> None:
            raise Hung

        before = signal.signal(signal.SIGALRM, ring)
        signal.alarm(seconds)
        try:
            return self._follow(action)
        except Hung:
            for pid in self.tracees:
                os.kill(pid, signal.SIGKILL)
            os.kill(self.leader, signal.SIGKILL)
            raise
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)

    def _follow(self, action: Action) -> int:
        while True:
            pid, status = os.waitpid(-1, WALL)
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                self.tracees.pop(pid, None)
                if pid == self.leader:
                    self._let_go()
                    return status
                continue
            tracee = self.tracees.get(pid)
            if tracee is None:
                self.unknown.add(pid)
                continue
            answer = self._stopped(tracee, status, action)
            if answer in (KILL, STOP):
                self.acted, self.target = True, pid
                os.kill(pid, -answer)
                self._let_go(stopped=pid)
                if answer == STOP:
                    return -1
                return os.waitpid(self.leader, 0)[1] if self.ended is None else self.ended

    def _stopped(self, tracee: Tracee, status: int, action: Action) -> int:
        """Continue after one stop of a process. For KILL, kill it there; for STOP, leave it stopped."""
        event, signum, forwarded = status >> 16, os.WSTOPSIG(status), 0
        if event in (EVENT_FORK, EVENT_VFORK, EVENT_CLONE):
            self._welcome(tracee)
        elif event == EVENT_EXEC:
            if tracee.pid != self.leader:  # from here on it runs a program that is not ours
                del self.tracees[tracee.pid]
                ptrace(PTRACE_DETACH, tracee.pid)
                return GO_ON
            self.starting, tracee.inside = True, False
        elif signum == signal.SIGTRAP | 0x80:
            answer = self._at_call(tracee, action)
            if answer in (KILL, STOP):
                return answer
            if tracee.pid not in self.tracees:
                return GO_ON
        elif event != EVENT_STOP:
            if self.starting and tracee.pid == self.leader and signum == signal.SIGSTOP:
                self.starting, tracee.inside = False, False
            elif signum != signal.SIGTRAP:
                forwarded = signum
        self._resume(tracee, forwarded)
        return GO_ON

    def _resume(self, tracee: Tracee, signum: int = 0) -> None:
        starting = self.starting and tracee.pid == self.leader
        try:
            ptrace(PTRACE_CONT if starting else PTRACE_SYSCALL, tracee.pid, 0, signum)
        except ProcessLookupError:
            pass  # killed by another

    def _welcome(self, parent: Tracee) -> None:
        """Take in a new process, which is stopped before it does anything."""
        message = ctypes.create_string_buffer(8)
        ptrace(PTRACE_GETEVENTMSG, parent.pid, 0, message)
        pid = int.from_bytes(message.raw, "little")
        parent.children += 1
        self.tracees[pid] = child = Tracee(pid, f"{parent.name}.{parent.children}")
        if pid in self.unknown:
            self.unknown.discard(pid)
            self._resume(child)

    def _at_call(self, tracee: Tracee, action: Action) -> int:
        info = ctypes.create_string_buffer(88)
        try:
            ptrace(PTRACE_GET_SYSCALL_INFO, tracee.pid, len(info), info)
        except ProcessLookupError:
            return GO_ON
        if info.raw[0] != ENTRY:
            if tracee.answer:
                ptrace(PTRACE_POKEUSER, tracee.pid, RAX, -tracee.answer)
                tracee.answer = 0
            return GO_ON
        number = int.from_bytes(info.raw[24:32], "little")
        tracee.arguments = tuple(int.from_bytes(info.raw[at : at + 8], "little") for at in range(32, 80, 8))
        point = (tracee.name, number, tracee.calls[number])
        tracee.calls[number] += 1
        self.seen[point] = None
        answer = action(tracee, point)
        if answer:
            self.path = tracee.text()
        if answer > 0:
            self.acted = True
            tracee.answer = answer
            if number != CLOSE:  # close(2): whatever it says, the descriptor is gone
                ptrace(PTRACE_POKEUSER, tracee.pid, ORIG_RAX, -1)
        elif number == EXECVE and not answer and tracee.text().encode().endswith(HELPERS):
            del self.tracees[tracee.pid]
            ptrace(PTRACE_DETACH, tracee.pid)
        return answer

    def _let_go(self, stopped: int = 0) -> None:
        """Leave the others alone: they go on as if nobody had ever looked."""
        waiting = [*self.tracees, *self.unknown]
        for pid in waiting:
            signum = 0
            try:
                if pid != stopped and pid not in self.unknown:
                    ptrace(PTRACE_INTERRUPT, pid)
                    _, status = os.waitpid(pid, WALL)
                    if not os.WIFSTOPPED(status):
                        if pid == self.leader:
                            self.ended = status
                        continue
                    event, signum = status >> 16, os.WSTOPSIG(status)
                    if event in (EVENT_FORK, EVENT_VFORK, EVENT_CLONE):
                        message = ctypes.create_string_buffer(8)
                        ptrace(PTRACE_GETEVENTMSG, pid, 0, message)
                        child = int.from_bytes(message.raw, "little")
                        if child not in waiting:
                            waiting.append(child)
                    if event or signum in (signal.SIGTRAP, signal.SIGTRAP | 0x80):
                        signum = 0
                ptrace(PTRACE_DETACH, pid, 0, signum)
            except ProcessLookupError:  # it has ended, which its parent learns only after its tracer
                self._bury(pid)
            except ChildProcessError:
                pass
        self.tracees.clear()
        self.unknown.clear()

    def _bury(self, pid: int) -> None:
        try:
            _, status = os.waitpid(pid, WALL)
        except ChildProcessError:
            return
        if pid == self.leader:
            self.ended = status
