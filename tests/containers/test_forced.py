"""`delete --force` always finishes, whatever holds the container and whatever is in its state directory."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import LAUNCHER, TIMEOUT, driver
from tests.support.processes import has_ended, until


def wait_for(condition: Any) -> None:
    assert until(condition)


def processes(text: str) -> list[int]:
    """Return the pids of the processes whose command line holds the text."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if text in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " "):
                found.append(int(pid))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("moment", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"])
def test_a_hook_that_hangs(container, rootless, tmp_path, moment: str) -> None:
    """The command that waits for the hook holds the lock. `delete --force` kills it, and the hook ends too."""
    mark = f"424{os.getpid()}"
    inside = moment in ("createContainer", "startContainer")
    program = "/bin/sleep" if not inside or moment == "startContainer" else "/bin/busybox"
    args = ["sleep", mark] if program == "/bin/sleep" else ["busybox", "sleep", mark]
    c = container({"process": {"args": ["sleep", "1000"]}, "hooks": {moment: [{"path": program, "args": args}]}})
    nothing = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with rootless.popen("run", "--detach", "-b", c.bundle.path, c.id, **nothing) as holder:
        wait_for(lambda: processes(f"sleep {mark}"))
        done = c.delete("--force")
        assert (done.returncode, done.stderr, rootless.ids()) == (0, "", [])
        assert holder.wait(TIMEOUT) == -signal.SIGKILL
    wait_for(lambda: not processes(f"sleep {mark}"))


def test_a_stopped_create(container, rootless) -> None:
    mark = f"425{os.getpid()}"
    c = container({"hooks": {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", mark]}]}})
    nothing = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with rootless.popen("create", "-b", c.bundle.path, c.id, **nothing) as holder:
        wait_for(lambda: processes(f"sleep {mark}"))
        holder.send_signal(signal.SIGSTOP)
        assert (c.delete("--force").returncode, rootless.ids()) == (0, [])
        assert holder.wait(TIMEOUT) == -signal.SIGKILL
    wait_for(lambda: not processes(f"sleep {mark}"))


def test_a_waiting_command_is_not_ended(container, rootless) -> None:
    """The kernel says which process holds the lock, so `delete --force` does not kill one that waits for it."""
    mark = f"426{os.getpid()}"
    c = container({"hooks": {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", mark]}]}})
    nothing = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with rootless.popen("create", "-b", c.bundle.path, c.id, **nothing) as holder:
        wait_for(lambda: processes(f"sleep {mark}"))
        with rootless.popen("start", c.id) as waits:
            wait_for(lambda: len(list((rootless.state / c.id).glob(".lock.*"))) == 2)
            assert (c.delete("--force").returncode, rootless.ids()) == (0, [])
            assert waits.wait(TIMEOUT) == 1  # it fails because there is no container, and was not killed (-9)
        holder.wait(TIMEOUT)


def test_a_stale_note_ends_nobody(container, rootless) -> None:
    """The note names a command that was killed, and whose pid another process has by now: it is not killed."""
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    with subprocess.Popen(["sleep", "1000"]) as other:
        (rootless.state / c.id / f".lock.{other.pid}").symlink_to(f"{other.pid} 1")
        fd = os.open(rootless.state / c.id, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        done = c.delete("--force")
        os.close(fd)
        assert other.poll() is None
        other.kill()
    assert (done.returncode, rootless.ids()) == (1, [c.id])
    assert f"locked by process {os.getpid()} (" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="root holds a lock that the user may not end")
def test_another_users_holder_is_named(tmp_path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent != Path("/") and parent.stat().st_uid == 0:
            parent.chmod(parent.stat().st_mode & 0o7777 | 0o011)
    root = tmp_path / "state"
    (root / "c").mkdir(parents=True)
    for path in (root, root / "c"):
        path.chmod(0o700)
        os.chown(path, 4711, 4711)
    holding = "import fcntl, os, sys, time; fd = os.open(sys.argv[1], 0); fcntl.flock(fd, 2); print(1, flush=True)"
    words = [sys.executable, "-c", f"{holding}; time.sleep(1000)", root / "c"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        start = Path(f"/proc/{holder.pid}/stat").read_text().rpartition(") ")[2].split()[19]
        (root / "c" / f".lock.{holder.pid}").symlink_to(f"{holder.pid} {start}")
        done = subprocess.run(
            [sys.executable, "-IS", LAUNCHER, "--root", root, "delete", "--force", "c"],
            capture_output=True, text=True, check=False, timeout=TIMEOUT,
        )  # fmt: skip
        assert holder.poll() is None
        holder.kill()
    assert done.returncode == 1
    assert f"locked by process {holder.pid} ({sys.executable} -c import fcntl" in done.stderr


def test_whatever_is_in_the_state_directory_goes(container, rootless) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    below = rootless.state / c.id / "notify/a/b"
    below.mkdir(parents=True)
    (below / "file").write_text("x")
    below.chmod(0)
    os.mkfifo(rootless.state / c.id / "fifo")
    (rootless.state / c.id / "link").symlink_to("/")
    assert (c.delete("--force").returncode, rootless.ids()) == (0, [])


def test_a_container_cannot_write_into_its_state_directory(container, rootless, tmp_path) -> None:
    """A container with CAP_SYS_ADMIN can make a read-only mount writable, so only the socket of NOTIFY_SOCKET is
    mounted, not its directory.
    """
    everything = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_FOWNER", "CAP_MKNOD"]
    sets = {name: everything for name in ("bounding", "effective", "permitted", "inheritable")}
    script = (
        "mount -o remount,rw,bind /run/notify/notify.sock 2>&1; touch /run/notify/evil; mkdir -p /run/notify/d/e;"
        " echo x >/run/notify/notify.sock; rm -f /run/notify/notify.sock; grep -c /run/notify /proc/self/mountinfo"
    )
    c = container({"process": {"args": ["sh", "-c", script], "capabilities": sets}, "root": {"readonly": False}})
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "manager"))
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "manager")}
    assert c.create(env=environment).returncode == 0
    before = sorted(os.listdir(rootless.state / c.id))
    assert c.start().returncode == 0
    c.wait()
    assert (c.bundle.path / "stdout").read_text().splitlines()[-1] == "1"
    assert sorted(os.listdir(rootless.state / c.id)) == sorted({*before} - {"start.sock"})
    assert (c.delete("--force").returncode, rootless.ids()) == (0, [])
    manager.close()


@pytest.mark.parametrize("command", ["create", "run"])
def test_a_limit_of_file_sizes_is_reported(container, rootless, command: str) -> None:
    """write(2) takes a part, and the next one fails: the command fails with EFBIG, and nothing is left."""
    c = container()
    python, *words = rootless.command(command, "-b", c.bundle.path, c.id)
    # Without byte code (-B): CPython 3.11 would store the part of it that the limit allows, for all other tests.
    words = ["sh", "-c", 'ulimit -f 2; exec "$@"', "sh", python, "-B", *words]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert (done.returncode, rootless.ids()) == (1, [])
    if os.geteuid():  # root's container could write the interpreter: what fails first is the sealed copy of it
        assert done.stderr.startswith("rootless: cannot write the container's config.json")
    assert (done.stderr.count("\n"), "EFBIG" in done.stderr) == (1, True)


# --- errors that say nothing of whether a process lives

FAILING = """
import builtins, errno, io, os, posix
from rootless import __main__
from rootless.kernel import proc
what, number = sys.argv.pop(1), int(sys.argv.pop(1))
real_open, real_pidfd = builtins.open, os.pidfd_open
def failing_open(path, *args, **names):
    if what == "stat" and str(path).startswith("/proc/") and str(path).endswith("/stat") and "self" not in str(path):
        raise OSError(number, os.strerror(number), path)
    return real_open(path, *args, **names)
def failing_pidfd(*args):
    raise OSError(number, os.strerror(number))
builtins.open = failing_open
if what == "pidfd":
    from rootless.startup import lean_os
    os.pidfd_open = posix.pidfd_open = lean_os.pidfd_open = failing_pidfd
__main__.launcher()
"""


@pytest.mark.parametrize("what", ["stat", "pidfd"])
@pytest.mark.parametrize("number", [24, 12, 13, 1])
@pytest.mark.parametrize("words", [["delete"], ["delete", "--force"], ["kill"], ["start"]])
def test_a_process_that_cannot_be_looked_at_is_not_gone(container, rootless, words, what: str, number: int) -> None:
    if words == ["start"] and what == "pidfd":
        pytest.skip("start needs no pidfd")
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    pid = c.state()["pid"]
    command = driver(FAILING, what, str(number), "--root", rootless.state, *words, c.id)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert (c.status(), c.state()["pid"]) == ("created", pid)
    assert (c.delete("--force").returncode, rootless.ids()) == (0, [])
    assert until(lambda: has_ended(pid))


@pytest.mark.parametrize("number", [24, 12])
def test_create_fails_where_its_init_cannot_be_looked_at(container, rootless, number: int) -> None:
    c = container({"process": {"args": ["sleep", f"427{os.getpid()}"]}})
    command = driver(FAILING, "stat", str(number), "--root", rootless.state, "create", "-b", c.bundle.path, c.id)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert (done.returncode, done.stderr.count("\n"), rootless.ids()) == (1, 1, [])


# --- the foreground

BROKEN = """
import fcntl, os, select
from rootless import __main__
from rootless.runtime import foreground
from rootless.runtime import lock
what = sys.argv.pop(1)
def fail(*_args):
    raise OSError(12, "Cannot allocate memory")
if what == "poll":
    class Poll:
        def register(self, *_args): pass
        def unregister(self, *_args): pass
        poll = fail
    foreground.select.poll = Poll
else:
    real = lock.flock
    lock.flock = lambda fd, how: fail() if how == fcntl.LOCK_UN else real(fd, how)
__main__.launcher()
"""


@pytest.mark.parametrize("what", ["poll", "flock"])
def test_run_that_cannot_wait_ends_its_container(container, rootless, what: str) -> None:
    mark = f"428{os.getpid()}"
    c = container({"process": {"args": ["sleep", mark]}})
    command = driver(BROKEN, what, "--root", rootless.state, "run", "-b", c.bundle.path, c.id)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert (done.returncode, "ENOMEM" in done.stderr) == (1, True)
    wait_for(lambda: not processes(f"sleep {mark}"))
    assert c.delete("--force").returncode == 0
    assert rootless.ids() == []


def test_exec_that_cannot_wait_ends_its_process(container, rootless) -> None:
    mark = f"429{os.getpid()}"
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    command = driver(BROKEN, "poll", "--root", rootless.state, "exec", c.id, "sleep", mark)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert (done.returncode, "ENOMEM" in done.stderr) == (255, True)
    wait_for(lambda: not processes(f"sleep {mark}"))
    assert c.status() == "running"


# --- taking back

UNABLE = """
import builtins
from rootless import __main__
from rootless.runtime import run, start
def fail(*_args, **_names):
    raise RuntimeError("the wire is cut")
start.verdict.await_exec = fail
sys.modules["rootless.runtime.delete"] = None  # as where no descriptor is left to read it with
__main__.launcher()
"""


@pytest.mark.parametrize("command", ["start", "run"])
def test_what_cannot_be_taken_back_is_named(container, rootless, command: str) -> None:
    """The first error is the one that is reported, and a warning names what is left."""
    c = container({"process": {"args": ["sleep", "1000"]}})
    words = ["run", "--detach", "-b", c.bundle.path, c.id]
    if command == "start":
        assert c.create().returncode == 0
        words = ["start", c.id]
    with (rootless.state.parent / "told").open("w+") as told:  # no pipe: what remains holds it open
        command_line = driver(UNABLE, "--root", rootless.state, *words)
        done = subprocess.run(command_line, stdout=told, stderr=told, check=False, timeout=TIMEOUT)
        told.seek(0)
        warning, error = told.read().splitlines()
    assert done.returncode == 1
    assert warning.startswith("rootless: warning: not everything could be undone: ")
    assert warning.endswith(f"hint: rootless delete --force {c.id}") and "the wire is cut" in error
    assert (c.delete("--force").returncode, rootless.ids()) == (0, [])


UNLOCKABLE = """
from rootless import __main__
from rootless.runtime import lock
real, calls = lock.flock, []
def flock(fd, how):
    calls.append(how)
    if calls.count(lock.LOCK_EX) > 1:
        raise OSError(12, "Cannot allocate memory")
    return real(fd, how)
lock.flock = flock
__main__.launcher()
"""


def test_run_that_cannot_delete_its_container_names_the_way(container, rootless) -> None:
    c = container({"process": {"args": ["true"]}})
    command = driver(UNLOCKABLE, "--root", rootless.state, "run", "-b", c.bundle.path, c.id)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "ENOMEM" in done.stderr and done.stderr.endswith(f"rootless delete --force {c.id}\n")
    assert (c.delete("--force").returncode, rootless.ids()) == (0, [])


EMPTYING = """
import time
from rootless import __main__
from rootless.runtime import state
real = state.os.rmdir
def rmdir(path, **names):
    if path == sys.argv[-1]:  # not a cgroup
        open(what, "w").close()
        time.sleep(1000)
    real(path, **names)
what = sys.argv.pop(1)
state.os.rmdir = rmdir
__main__.launcher()
"""


def test_a_delete_that_stands_still_before_the_last_call(container, rootless, tmp_path) -> None:
    """The stopped `delete` holds the lock and has removed its note, and `delete --force`
    still removes the directory.
    """
    c = container()
    assert c.create().returncode == 0
    there = tmp_path / "there"
    with subprocess.Popen(driver(EMPTYING, there, "--root", rootless.state, "delete", c.id)) as holder:
        wait_for(there.exists)
        done = c.delete("--force")
        assert (done.returncode, done.stderr, rootless.ids(), holder.poll()) == (0, "", [], None)
        holder.kill()


STANDING = """
import time
from rootless import __main__
from rootless.runtime.state import StateDir
StateDir.close_copy = lambda self: time.sleep(1000)
__main__.launcher()
"""


def test_an_init_that_stands_still_with_the_lock(container, rootless) -> None:
    """Init has a copy of the lock until its first line.

    It was noted before, so `delete --force` kills it with the command.
    """
    c = container()
    command = driver(STANDING, "--root", rootless.state, "create", "-b", c.bundle.path, c.id)
    nothing = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing) as holder:
        wait_for((rootless.state / c.id / "init").is_symlink)
        assert (c.delete("--force").returncode, rootless.ids()) == (0, [])
        assert holder.wait(TIMEOUT) == -signal.SIGKILL
