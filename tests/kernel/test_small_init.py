"""The small init's bytes are those of its source, and it is a program that the kernel executes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rootless.init import small_init
from rootless.init.reaper import ALL
from rootless.kernel import vfork

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCE = Path(small_init.__file__).with_suffix(".S")
pytestmark = pytest.mark.skipif(not small_init.is_known(), reason="there is a small init for x86-64 only")


@pytest.mark.skipif(not shutil.which("as") or not SOURCE.exists(), reason="needs binutils and the source")
def test_the_bytes_are_those_of_the_source(tmp_path: Path) -> None:
    subprocess.run(["as", "-o", tmp_path / "o", SOURCE], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", tmp_path / "o", tmp_path / "bin"], check=True)
    assert (tmp_path / "bin").read_bytes() == small_init._CODE + bytes(8)


def test_it_waits_for_the_signals_that_the_other_init_waits_for() -> None:
    blocked = int.from_bytes(small_init.program()[-8:], "little")
    assert [number for number in range(1, 65) if blocked >> number - 1 & 1] == ALL


def test_a_host_that_does_not_execute_it_is_noticed() -> None:
    program = small_init.open_program()
    try:
        assert small_init.is_executed(program)
        os.chmod(f"/proc/self/fd/{program}", 0)
        assert not small_init.is_executed(program)
    finally:
        os.close(program)


# The small init kills all other processes that it sees, so it gets a pid namespace.
CLONER = """
import os, signal, socket, sys
from rootless.init import reaper, small_init
from rootless.kernel import syscalls as sc
from rootless.kernel import vfork

launcher = os.pidfd_open(os.getpid())
signal.pthread_sigmask(signal.SIG_SETMASK, reaper.ALL)
cloner = vfork.Vfork(small_init.open_program(), small_init.NAME)

def run(script):
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def life():
        program = os.posix_spawn("/bin/sh", ["sh", "-c", script], {"PATH": os.defpath}, setsigmask=[])
        small_init.take_fds(there.fileno(), launcher)
        return [b"%d" % program]

    pid, pidfd = cloner.clone(sc.CLONE_NEWUSER | sc.CLONE_NEWPID, life)
    there.close()
    status = here.recv(10)
    return status, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def clone(script: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", CLONER + script], check=True, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT, timeout=60
    ).stdout


@pytest.mark.skipif(not vfork.is_possible(), reason="needs glibc and a Python before 3.14")
@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        ("exit 7", 7 << 8, 7),
        ("kill -9 $$", 9, 137),
        ("kill -TERM $PPID; sleep 1000", 15, 143),
        ("(sleep 0.05; exit 5) & (sleep 1000 &) ; exit 0", 0, 0),
    ],
)
def test_it_reports_the_program_s_end(script: str, status: int, code: int) -> None:
    told = repr((b"S" + status.to_bytes(4, "little"), code))
    assert clone(f"for _ in range(20): print(run({script!r}))") == f"{told}\n" * 20


@pytest.mark.skipif(not vfork.is_possible(), reason="needs glibc and a Python before 3.14")
def test_a_process_that_does_not_come_to_its_end_is_noticed() -> None:
    said = clone("""
print(cloner.clone(0, lambda: None)[0] > 0, cloner.returned)
def life():
    raise OSError
print(cloner.clone(0, life)[0] > 0, cloner.returned)
def end(depth):
    if depth:
        try:
            end(depth - 1)
        finally:
            depth += 1
    os._exit(3)
pid, pidfd = cloner.clone(0, lambda: end(20))
print(os.waitpid(pid, 0)[1], cloner.returned)
""")
    assert said == f"True True\nTrue True\n{3 << 8} False\n"
