"""Commands work under unusual masks, limits, descriptors, directories and signals of the caller.

Each is tried with `run`, with `create`, `exec` and `delete`, and with `convert`. Either everything works as usual, or
one line says what is wrong, and then nothing is left.
"""

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import archives as a
from tests.support.checkout import LAUNCHER, TIMEOUT

PROGRAM = ["sh", "-c", "echo ran; exit 7"]


def limit(kind: int, soft: int) -> None:
    resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1]))


def gone_directory() -> None:
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")


def closed_directory() -> None:
    os.makedirs("closed", exist_ok=True)
    os.chmod("closed", 0o700)
    os.chdir("closed")
    os.chmod(".", 0)


def many_descriptors() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    fd = os.open("/", os.O_RDONLY)
    for number in range(100, min(5100, hard)):
        os.dup2(fd, number)


def directory_as_input() -> None:
    os.dup2(os.open("/", os.O_RDONLY | os.O_DIRECTORY), 0)


def ignored_children() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # then nobody can wait for one: wait(2), NOTES


def blocked_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))


def no_environment() -> None:
    os.environ.clear()


def no_new_privileges() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)


WORKS, MAY_REFUSE = True, False
SURROUNDINGS = {
    "umask 0": (lambda: os.umask(0), WORKS),
    "umask 777": (lambda: os.umask(0o777), WORKS),
    "umask 077": (lambda: os.umask(0o077), WORKS),
    "12 descriptors": (lambda: limit(resource.RLIMIT_NOFILE, 12), MAY_REFUSE),
    "20 descriptors": (lambda: limit(resource.RLIMIT_NOFILE, 20), MAY_REFUSE),
    "64 descriptors": (lambda: limit(resource.RLIMIT_NOFILE, 64), WORKS),
    "5,000 open descriptors": (many_descriptors, WORKS),
    "files of 0 bytes": (lambda: limit(resource.RLIMIT_FSIZE, 0), MAY_REFUSE),
    "files of 1,024 bytes": (lambda: limit(resource.RLIMIT_FSIZE, 1024), MAY_REFUSE),
    "60 MB of addresses": (lambda: limit(resource.RLIMIT_AS, 60 << 20), MAY_REFUSE),
    "25 MB of addresses": (lambda: limit(resource.RLIMIT_AS, 25 << 20), MAY_REFUSE),
    "a stack of 256 KB": (lambda: limit(resource.RLIMIT_STACK, 256 << 10), WORKS),
    "nothing to lock": (lambda: limit(resource.RLIMIT_MEMLOCK, 0), WORKS),
    "no message queues": (lambda: limit(resource.RLIMIT_MSGQUEUE, 0), WORKS),
    "no standard input": (lambda: os.close(0), WORKS),
    "a directory as standard input": (directory_as_input, MAY_REFUSE),
    "a working directory that is gone": (gone_directory, WORKS),
    "a working directory of mode 0": (closed_directory, WORKS),
    "children that nobody waits for": (ignored_children, MAY_REFUSE),
    "all signals blocked": (blocked_signals, WORKS),
    "no_new_privs": (no_new_privileges, MAY_REFUSE),
}
TABLE = pytest.mark.parametrize(("set_up", "works"), SURROUNDINGS.values(), ids=SURROUNDINGS)


def call(rootless, directory: Path, set_up, *words):
    """Run the command in its surroundings; return (exit code, output, error lines).

    A container keeps the pipes open.
    """
    command = rootless.command(*words)
    command.insert(1, "-B")  # CPython 3.11 would store a part of its byte code where a limit allows no more
    if set_up is directory_as_input:  # Python would refuse to start; the launcher says so in one line
        command = [LAUNCHER, "--root", rootless.state, *words]
    pipes = [os.pipe(), os.pipe()]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=pipes[0][1], stderr=pipes[1][1], cwd=directory,
        preexec_fn=set_up, close_fds=False, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    rootless.note_cgroups()
    said, told = (what_is_in(*ends) for ends in pipes)
    return done.returncode, said, [line for line in told.splitlines() if not line.startswith("rootless: warning: ")]


def what_is_in(reader: int, writer: int) -> str:
    os.set_blocking(reader, False)
    os.close(writer)
    try:
        return os.read(reader, 65536).decode()
    except BlockingIOError:
        return ""
    finally:
        os.close(reader)


def one_line(code: int, told: list[str], failure: int = 1) -> None:
    assert code == failure and len(told) == 1, (code, told)
    assert told[0].startswith("rootless: "), told


@TABLE
def test_run(container, rootless, tmp_path, set_up, works) -> None:
    c = container({"process": {"args": PROGRAM}})
    code, said, told = call(rootless, tmp_path, set_up, "run", "-b", c.bundle.path, c.id)
    if works or code == 7:
        assert (code, said, told) == (7, "ran\n", [])
    else:
        one_line(code, told)
    assert rootless.ids() == []


def test_state_in_a_directory_whose_name_is_no_text(container, tmp_path) -> None:
    """Bytes that do not decode come as surrogates, and the cgroup's mark names this directory."""
    root = tmp_path / os.fsdecode(b"state-\xff")
    root.mkdir(mode=0o700)
    c = container({"process": {"args": PROGRAM}})
    command = [LAUNCHER, "--root", root, "run", "-b", c.bundle.path, c.id]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert (done.returncode, done.stdout, done.stderr) == (7, "ran\n", "")
    assert os.listdir(root) == []


@TABLE
def test_create_exec_and_delete(container, rootless, tmp_path, set_up, works) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    code, _, told = call(rootless, tmp_path, set_up, "create", "-b", c.bundle.path, c.id)
    if code:
        assert not works, told
        one_line(code, told)
        assert rootless.ids() == []
        return
    assert told == [] and c.start().returncode == 0
    code, said, told = call(rootless, tmp_path, set_up, "exec", c.id, *PROGRAM)
    if works or code == 7:
        assert (code, said, told) == (7, "ran\n", [])
    else:
        one_line(code, told, 255)
    code, said, told = call(rootless, tmp_path, set_up, "delete", "--force", c.id)
    if works or code == 0:
        assert (code, told) == (0, []) and rootless.ids() == []
    else:
        one_line(code, told)


@pytest.mark.parametrize("count", range(4, 16))
def test_few_descriptors_leave_no_state(container, rootless, count) -> None:
    """At five there were enough to make the state directory, and too few to list what is in it and remove it."""
    c = container({"process": {"args": ["true"]}})
    for command in (c.run, c.create):
        done = command(preexec_fn=lambda: limit(resource.RLIMIT_NOFILE, count))
        if done.returncode == 0 and command == c.create:  # enough of them
            assert c.delete("--force").returncode == 0
        assert rootless.ids() == [], done.stderr


@TABLE
def test_convert(rootless, tmp_path, set_up, works) -> None:
    archive, work = tmp_path / "image.tar", tmp_path / "work"
    work.mkdir(mode=0o755)
    layer = a.directory("dir") + a.file("dir/file", bytes(50_000)) + a.END
    archive.write_bytes(a.docker_archive([layer]))
    code, _, told = call(rootless, tmp_path, set_up, "convert", "--quiet", archive, "-o", work / "made")
    if works or code == 0:
        assert (code, told, os.listdir(work)) == (0, [], ["made"])
        assert (work / "made/rootfs/dir/file").stat().st_size == 50_000
        assert subprocess.run([LAUNCHER, "remove", work / "made"], timeout=TIMEOUT, check=False).returncode == 0
    else:
        one_line(code, told)
        assert os.listdir(work) == []
