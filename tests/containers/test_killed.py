"""After kill -9 of the runtime at any point, `delete --force` removes everything.

Each test traces one command (ptrace(2)) and kills it at one of its system calls, from the first that makes something to
the last, so that no moment between two changes is left out.
"""

from __future__ import annotations

import ctypes
import os
import platform
import select
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import TIMEOUT

PTRACE_TRACEME, PTRACE_CONT, PTRACE_SYSCALL, PTRACE_SETOPTIONS, PTRACE_GET_SYSCALL_INFO = 0, 7, 24, 0x4200, 0x420E
PTRACE_O_TRACESYSGOOD, PTRACE_O_EXITKILL = 1, 0x100000
ENTRY = 1
MKDIRAT = {"x86_64": 258}.get(platform.machine(), 34)  # the first directory that is made is the container's state
POLL = {"x86_64": 7, "aarch64": 73}.get(platform.machine(), 73)  # poll, ppoll: `run` waits for the program
# Calls that change nothing, as x86_64 numbers them: read, fstat, lseek, mmap, munmap, brk, rt_sigaction, ...
QUIET = {0, 4, 5, 8, 9, 10, 11, 12, 13, 14, 16, 72, 89, 102, 107, 228, 262} if platform.machine() == "x86_64" else set()
PARTS = 4  # tests that share the points, so that they run side by side

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request: int, pid: int, address: int = 0, data: int | ctypes.Array[ctypes.c_char] = 0) -> int:
    found = int(libc.ptrace(request, pid, address, ctypes.cast(data, ctypes.c_void_p)))
    if found < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    return found


class Traced:
    """Run a command that stops at each of its system calls."""

    def __init__(self, command: list[str], cwd: Path) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                nothing = os.open(os.devnull, os.O_RDWR)
                for fd in (0, 1, 2):
                    os.dup2(nothing, fd)
                os.chdir(cwd)
                ptrace(PTRACE_TRACEME, 0)
                os.execv(command[0], command)
            finally:
                os._exit(127)
        self.ended = False
        os.waitpid(self.pid, 0)
        ptrace(PTRACE_SETOPTIONS, self.pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)

    def next_call(self) -> int:
        """Continue to the entry of the next system call; return its number, -1 if the process has ended."""
        forwarded = 0
        while True:
            ptrace(PTRACE_SYSCALL, self.pid, 0, forwarded)
            _, status = os.waitpid(self.pid, 0)
            if not os.WIFSTOPPED(status):
                self.ended = True
                return -1
            stopped_by = os.WSTOPSIG(status)
            forwarded = 0
            if stopped_by == signal.SIGTRAP | 0x80:
                info = ctypes.create_string_buffer(88)
                ptrace(PTRACE_GET_SYSCALL_INFO, self.pid, len(info), info)
                if info.raw[0] == ENTRY:
                    return int.from_bytes(info.raw[24:32], "little")
            elif stopped_by != signal.SIGTRAP:
                forwarded = stopped_by

    def kill(self) -> None:
        """End it here, before the call is made."""
        if not self.ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.ended = True


def calls_of(command: list[str], cwd: Path) -> list[int]:
    """Return all its system calls, to its end."""
    traced, calls = Traced(command, cwd), []
    while (number := traced.next_call()) >= 0:
        calls.append(number)
    return calls


def kill_at(command: list[str], cwd: Path, index: int, last: int = -1) -> int:
    """Run it up to the call of that index, or to the call `last`, and end it there. The pid of a process that adopts
    what it leaves behind (prctl(2), PR_SET_CHILD_SUBREAPER), reaps it, and ends when all of it has ended."""
    over, done = os.pipe()
    adopter = os.fork()
    if adopter == 0:
        try:
            libc.prctl(36, 1, 0, 0, 0)
            if os.fork() == 0:
                traced = Traced(command, cwd)
                begun = False
                while index >= 0 and (number := traced.next_call()) >= 0 and not (begun and number == last):
                    index -= 1
                    begun = begun or number == MKDIRAT
                traced.kill()
                os.write(done, b"!")
                os._exit(0)
            os.close(done)
            while True:
                os.wait()
        finally:
            os._exit(0)  # ChildProcessError: nobody is left
    os.close(done)
    assert os.read(over, 1) == b"!"
    os.close(over)
    return adopter


def points(calls: list[int], begin: int, part: int) -> list[int]:
    """Return where to kill: this part's share of the calls from `begin` on, without those that change nothing."""
    return [index for index in range(begin, len(calls)) if calls[index] not in QUIET][part::PARTS]


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(("words", "status"), [(["create"], "created"), (["run", "--detach"], "running")])
def test_a_container_in_the_making(container, rootless, words, status, part) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    command = rootless.command(*words, "-b", c.bundle.path, c.id)
    calls = calls_of(command, c.bundle.path)
    rootless.note_cgroups()
    assert c.status() == status
    remove(c, rootless)
    for index in points(calls, calls.index(MKDIRAT), part):
        adopter = kill_at(command, c.bundle.path, index)
        remove(c, rootless, adopter)


@pytest.mark.parametrize("part", range(PARTS))
def test_run_killed_until_it_waits(container, rootless, part) -> None:
    """Afterwards init runs a program that no process waits for, or there is no init."""
    c = container({"process": {"args": ["true"]}})
    command = rootless.command("run", "-b", c.bundle.path, c.id)
    calls_of(command, c.bundle.path)  # the first one switches controllers on
    calls = calls_of(command, c.bundle.path)
    rootless.note_cgroups()
    c.bundle.patch({"process": {"args": ["sleep", "1000"]}})
    waits = calls.index(POLL, calls.index(MKDIRAT))
    for index in points(calls[:waits], calls.index(MKDIRAT), part):
        adopter = kill_at(command, c.bundle.path, index, POLL)  # the number of calls before it may differ
        remove(c, rootless, adopter)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("command", ["start", "delete", "exec"])
def test_a_later_command_killed(container, rootless, command, part) -> None:
    """Only the last fifty calls are tried, because before them such a command only reads."""
    c = container({"process": {"args": ["sleep", "1000"]}})
    words = rootless.command(*{"delete": ("delete", "--force")}.get(command, (command,)), c.id)
    words += ["true"] if command == "exec" else []
    make_ready(c, command)
    calls = calls_of(words, c.bundle.path)
    rootless.note_cgroups()
    remove(c, rootless)
    for index in points(calls, len(calls) - 50, part)[::2]:
        make_ready(c, command)
        adopter = kill_at(words, c.bundle.path, index)
        remove(c, rootless, adopter)


def make_ready(c: Any, command: str) -> None:
    assert c.create().returncode == 0
    if command != "start":
        assert c.start().returncode == 0


def remove(c: Any, rootless: Any, adopter: int = 0) -> None:
    """Run `delete --force`, and check that no state, cgroup or process is left."""
    try:
        result = c.delete("--force")
        assert (result.returncode, result.stderr) == (0, "")
        assert rootless.ids() == []
        if adopter:
            pidfd = os.pidfd_open(adopter)
            ended = select.select([pidfd], [], [], TIMEOUT)[0]
            os.close(pidfd)
            assert ended, "a process is left"
    finally:
        if adopter:
            os.kill(adopter, signal.SIGKILL)  # it has what pytest waits for
            os.waitpid(adopter, 0)
    assert not [path for path in rootless.cgroups if os.path.exists(path)]
