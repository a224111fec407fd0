"""Callers that have done what a program may do: executed themselves again, closed all files, lost their directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT, TIMEOUT
from tests.support.processes import is_gone

PIPE = subprocess.PIPE
BEGIN = f"""
import os, resource, subprocess, sys, time
sys.path.insert(0, {str(CHECKOUT)!r})
import rootless
from rootless.api.client import launcher_pid
root = sys.argv[1]
"""


def output_of(script: str, root: Path) -> str:
    command = [sys.executable, "-X", "dev", "-c", BEGIN + script, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_a_launcher_ends_when_its_caller_has_executed_another_program(busybox_root: Path) -> None:
    """A web server that reloads itself with execv(2) is the same process, whose end an old launcher would wait for."""
    script = 'rootless.run(["true"], rootfs=root); print(launcher_pid(), flush=True); os.execv("/bin/cat", ["cat"])'
    command = [sys.executable, "-c", BEGIN + script, str(busybox_root)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as caller:
        assert caller.stdout
        launcher = int(caller.stdout.readline())
        assert is_gone(launcher)
        assert caller.poll() is None


def test_a_launcher_stays_as_long_as_a_container_runs(busybox_root: Path) -> None:
    """A program goes on when its parent executes another one, as a child of subprocess does."""
    script = """
box = rootless.Popen(["sh", "-c", "sleep 2; echo end"], rootfs=root)
os.execv("/bin/sleep", ["sleep", "4"])
"""
    assert output_of(script, busybox_root) == "end\n"


@pytest.mark.parametrize("then", ["", "kept = [os.open('/dev/null', os.O_RDONLY) for _ in range(200)]"])
def test_a_caller_may_close_all_its_files(busybox_root: Path, then: str) -> None:
    """As a program does that becomes a daemon, or with descriptors of its own under the same numbers."""
    script = f"""
rootless.run(["true"], rootfs=root)
os.closerange(3, 256)
{then}
for _ in range(2):
    print(rootless.run(["echo", "well"], rootfs=root, stdout=subprocess.PIPE, text=True).stdout, end="")
assert not {then!r} or all(os.fstat(fd) for fd in kept)
"""
    assert output_of(script, busybox_root) == "well\nwell\n"


def test_absolute_volumes_need_no_working_directory(busybox_root: Path, tmp_path: Path) -> None:
    script = f"""
os.mkdir({str(tmp_path / "gone")!r})
os.chdir({str(tmp_path / "gone")!r})
os.rmdir({str(tmp_path / "gone")!r})
print(rootless.run(["true"], rootfs=root, volumes=["/usr:/tmp/usr"]).returncode)
"""
    assert output_of(script, busybox_root) == "0\n"


def test_a_caller_may_have_lowered_its_limit_of_open_files(busybox_root: Path) -> None:
    script = """
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
print(rootless.run("ulimit -n; ulimit -Hn", shell=True, rootfs=root, stdout=subprocess.PIPE).stdout)
"""
    assert output_of(script, busybox_root) == "b'100\\n100\\n'\n"


def test_more_pass_fds_than_a_message_takes_are_refused_in_words(busybox_root: Path) -> None:
    script = """
fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(300)]
try:
    rootless.run(["true"], rootfs=root, pass_fds=fds)
except OSError as error:
    print(error)
for fd in fds:
    os.close(fd)
"""
    assert "at most 253" in output_of(script, busybox_root)


def test_a_number_of_pass_fds_at_the_limit_is_refused_in_words(busybox_root: Path) -> None:
    script = """
resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
os.dup2(os.open("/dev/null", os.O_RDONLY), 99)
os.dup2(99, 80)
for way in ({}, {"init": False}, {"name": f"near-{os.getpid()}"}):
    assert not rootless.run(["true"], rootfs=root, pass_fds=[80], ulimits={"nofile": 100}, **way).returncode
    try:
        rootless.run(["true"], rootfs=root, pass_fds=[99], ulimits={"nofile": 100}, **way)
    except rootless.RootlessError as error:
        print(error)
"""
    lines = output_of(script, busybox_root).splitlines()
    assert len(lines) == 3
    for line in lines:
        assert "above 99 is left below the limit of open files, 100" in line and 'ulimits={"nofile": ' in line


def test_an_umask_that_takes_permissions_from_the_owner(busybox_root: Path) -> None:
    script = """
os.umask(0o777)
with rootless.Popen(["cat"], rootfs=root, stdin=-1, name=f"closed-{os.getpid()}") as box:
    print(box.exec(["umask"], shell=True, stdout=-1).stdout)
"""
    assert output_of(script, busybox_root) == "b'0022\\n'\n"


def test_a_child_that_is_forked_meanwhile_holds_no_call_up(busybox_root: Path) -> None:
    """A pool of multiprocessing forks from one thread, while another one calls."""
    script = """
import threading
from rootless.api import client
send, forked = client.wire.send, []
def fork_before(*words):
    if not forked:
        forked.append(os.fork())
        if not forked[0]:
            time.sleep(60)
            os._exit(0)
    send(*words)
client.wire.send = fork_before
print(rootless.run(["true"], rootfs=root, init=False).returncode)
os.kill(forked[0], 9)
os.waitpid(forked[0], 0)
"""
    assert output_of(script, busybox_root) == "0\n"


def test_a_launcher_that_was_killed_leaves_nothing_open_here(busybox_root: Path) -> None:
    """-X dev would print a ResourceWarning."""
    script = """
import asyncio, threading
def kill_launcher():
    os.kill(launcher, 9)
async def call_and_cancel():
    task = asyncio.ensure_future(rootless.async_run(["sleep", "1000"], rootfs=root))
    await asyncio.sleep(0.3)
    kill_launcher()
    task.cancel()
    await task
rootless.run(["true"], rootfs=root)
launcher = launcher_pid()
threading.Timer(0.3, kill_launcher).start()
try:
    rootless.run(["sleep", "1000"], rootfs=root)
except rootless.LauncherError:
    print("killed")
rootless.run(["true"], rootfs=root)
launcher = launcher_pid()
try:
    asyncio.run(call_and_cancel())
except asyncio.CancelledError:
    print("cancelled")
"""
    assert output_of(script, busybox_root) == "killed\ncancelled\n"
