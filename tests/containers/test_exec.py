"""`exec` runs one more process in all of the container's namespaces, with nothing of the host in it."""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess

import pytest

from rootless.errors import RootlessError
from rootless.runtime.exec import parse_user
from rootless.runtime.interpreter import writable
from tests.support.checkout import LAUNCHER, TIMEOUT
from tests.support.processes import command_line, until

KINDS = "user ipc uts net pid cgroup mnt"


@pytest.fixture
def running(container):
    """Return `running(patch)`, which makes a container whose program sleeps."""

    def make(patch=None):
        c = container()
        c.bundle.patch({"process": {"args": ["sleep", "1000"]}})
        c.bundle.patch(patch or {})
        result = c.run_detached()
        assert result.returncode == 0, result.stderr
        return c

    return make


def execute(c, *words, **options):
    """Run `exec FLAGS... ID CMD...`; the words up to "--" are flags."""
    flags, command = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else ((), words)
    return c.rootless("exec", *flags, c.id, *command, **options)


def output(c, *words, **options):
    result = execute(c, *words, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(result, *said):
    """Check that `exec` has failed by itself: with 255 and one line."""
    assert result.returncode == 255, (result.stdout, result.stderr)
    assert result.stderr.startswith("rootless: exec failed: ")
    assert len(result.stderr.splitlines()) == 1
    for words in said:
        assert words in result.stderr


def test_all_namespaces_are_the_containers(running):
    c = running()
    out = output(c, "sh", "-c", f"for n in {KINDS}; do readlink /proc/self/ns/$n; readlink /proc/1/ns/$n; done").split()
    assert out[::2] == out[1::2]
    assert len(out) == 2 * len(KINDS.split())


def test_the_cgroup_is_the_containers(running):
    c = running()
    record = json.loads((c.rootless.state / c.id / "state.json").read_text())["cgroup"]
    if not record.get("path"):
        pytest.skip("no cgroup may be made here: run it in a delegated cgroup v2")
    assert output(c, "cat", "/proc/self/cgroup").splitlines()[-1] == "0::/"


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
def test_the_exit_code_is_the_programs(running, script, code):
    assert execute(running(), "sh", "-c", script).returncode == code


def test_standard_streams_pass_through(running):
    result = execute(running(), "sh", "-c", "cat; echo error >&2", input="text\n")
    assert (result.stdout, result.stderr) == ("text\n", "error\n")


def test_no_descriptor_of_the_host_is_left(running):
    out = output(running(), "sh", "-c", "ls /proc/$$/fd; true").split()
    assert out == ["0", "1", "2"]


def test_preserved_descriptors(running, tmp_path):
    (tmp_path / "file").write_text("passed on")
    c = running()
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    command = c.rootless.command("exec", "--preserve-fds", "1", c.id, "sh", "-c", "cat <&3; ls /proc/$$/fd; true")
    shell = f'exec 3<&{fd}; exec "$@"'
    result = subprocess.run(
        ["bash", "-c", shell, "-", *command], capture_output=True, text=True, pass_fds=[fd], timeout=TIMEOUT, check=True
    )
    os.close(fd)
    assert result.stdout == "passed on0\n1\n2\n3\n"


def test_environment_cwd_and_capabilities_of_the_config(running):
    c = running({"process": {"env": ["PATH=/bin", "FROM=config"], "cwd": "/tmp", "noNewPrivileges": True}})
    script = "echo $FROM $ADDED $PWD; grep -E '^(Cap|NoNewPrivs)' /proc/self/status"
    out = output(c, "--env", "ADDED=flag", "--", "sh", "-c", script).splitlines()
    first = output(c, "grep", "-E", "^(Cap|NoNewPrivs)", "/proc/1/status").splitlines()
    assert out[0] == "config flag /tmp"
    assert out[1:] == first


def test_flags_change_the_process(running):
    c = running({"process": {"noNewPrivileges": False}})
    status = "grep -E '^(CapInh|CapEff|NoNewPrivs)' /proc/self/status; pwd"
    words = output(c, "--cap", "CAP_NET_RAW", "--no-new-privs", "--cwd", "/etc", "--", "sh", "-c", status).split()
    found = dict(zip(words[::2], words[1::2], strict=False))
    assert int(found["CapEff:"], 16) >> 13 & 1
    assert not int(found["CapInh:"], 16) >> 13 & 1
    assert found["NoNewPrivs:"] == "1"
    assert words[-1] == "/etc"


def test_rlimits_and_umask(running):
    c = running({"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 78}], "user": {"umask": 0o27}}})
    assert output(c, "sh", "-c", "ulimit -Sn; ulimit -Hn; umask").split() == ["77", "78", "0027"]


def test_process_file(running, tmp_path):
    file = tmp_path / "process.json"
    file.write_text(json.dumps({"args": ["sh", "-c", "echo $A; id -u; pwd"], "env": ["A=b", "PATH=/bin"], "cwd": "/"}))
    assert output(running(), "--process", str(file), "--").split() == ["b", "0", "/"]


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"args": []}', '{"args": ["sh"]}'])
def test_a_wrong_process_file(running, tmp_path, text):
    (tmp_path / "process.json").write_text(text)
    refused(execute(running(), "--process", str(tmp_path / "process.json"), "--"))


def test_detached_with_a_pid_file(running, tmp_path):
    c = running()
    out = tmp_path / "out"
    with out.open("w") as stdout:
        streams = {"capture_output": False, "stdout": stdout, "stderr": stdout}
        result = execute(c, "-d", "--pid-file", str(tmp_path / "pid"), "--", "sleep", "1000", **streams)
    assert (result.returncode, out.read_text()) == (0, "")
    pid = int((tmp_path / "pid").read_text())
    assert until(lambda: command_line(str(pid)) == b"sleep\0001000\0")
    assert os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink(f"/proc/{c.state()['pid']}/ns/mnt")


def test_a_pid_file_that_cannot_be_written_ends_the_process(running, tmp_path):
    c = running()
    refused(execute(c, "-d", "--pid-file", "/nope/pid", "--", "sleep", "1000"), "pid file", "ENOENT")
    assert "sleep 1000" not in [line.split(None, 3)[-1] for line in output(c, "ps").splitlines()[2:]]


def test_terminal(running):
    out = output(running(), "--tty", "--", "sh", "-c", "tty; stty size; ls -l /proc/self/fd/0", input="")
    assert out.split()[:3] == ["/dev/pts/0", "24", "80"]


@contextlib.contextmanager
def listening(directory):
    """Return (path, listener) of a socket that the command is to connect to."""
    with socket.socket(socket.AF_UNIX) as listener:
        path = str(directory / "s")
        listener.bind(path)
        listener.listen(1)
        yield path, listener


def test_console_socket(running, tmp_path):
    c = running()
    with listening(tmp_path) as (path, listener):
        result = execute(c, "--tty", "-d", "--console-socket", path, "--", "sh", "-c", "echo on a terminal; sleep 1000")
        assert result.returncode == 0, result.stderr
        connection, _ = listener.accept()
        with connection:
            _, ancillary, _, _ = connection.recvmsg(100, socket.CMSG_LEN(4))
    (master,) = array.array("i", ancillary[0][2])
    said = b""
    while not said.endswith(b"\n"):
        said += os.read(master, 100)
    assert said == b"on a terminal\r\n"
    os.close(master)


def test_the_program_begins_when_its_terminal_was_handed_over(container, tmp_path):
    """If it began earlier, it would see a terminal without its size."""
    c = container({"process": {"args": ["sleep", "1000"]}, "root": {"readonly": False}})
    assert c.run_detached().returncode == 0
    os.mkfifo(c.bundle.rootfs / "begun")
    (c.bundle.rootfs / "begun").chmod(0o666)
    begun = os.open(c.bundle.rootfs / "begun", os.O_RDWR | os.O_CLOEXEC)
    with listening(tmp_path) as (path, listener), socket.socket(socket.AF_UNIX) as first:
        listener.listen(0)
        first.connect(path)  # the next one waits for `accept`
        command = c.rootless.command(
            "exec", "-t", "-d", "--console-socket", path, c.id, "sh", "-c", "echo begun >/begun; sleep 1000"
        )
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        early, _, _ = select.select([begun], [], [], 0.7)
        listener.accept()[0].close()
        assert running.wait(TIMEOUT) == 0
        assert not early
        assert select.select([begun], [], [], TIMEOUT)[0]
    os.close(begun)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--tty", "-d"], "--console-socket"),
        (["--console-socket", "s"], "needs a terminal"),
        (["--tty", "-d", "--console-socket", "/nope/s"], "ENOENT"),
        (["--user", "0x"], "invalid user '0x'"),
        (["--user", "0:0x"], "invalid group"),
        (["--user", "0:"], "invalid group"),
        (["--user", "-1"], "invalid user"),
        (["--cap", "CAP_NONE"], "unknown capability"),
        (["--cwd", "/nope"], "ENOENT"),
        (["--env", "=VALUE"], "NAME"),
        (["--cgroup", "../up"], "cgroup"),
        (["--process", "/nope"], "ENOENT"),
        (["--preserve-fds", "1"], "fd 3"),
    ],
)
def test_wrong_flags(running, flags, said):
    refused(execute(running(), *flags, "--", "true"), said)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ((), "process args cannot be empty"),
        (("nosuch",), 'exec: "nosuch": executable file not found in $PATH'),
        (("/nosuch",), "no such file or directory"),
        (("/etc/passwd",), "permission denied"),
        (("/etc",), "is a directory"),
    ],
)
def test_what_cannot_be_executed(running, command, said):
    refused(execute(running(), *command), said)


def test_statuses(container):
    c = container({"process": {"args": ["sleep", "1000"]}})
    refused(execute(c, "true"), "does not exist")
    assert c.create().returncode == 0
    assert output(c, "echo", "in created") == "in created\n"
    assert c.start().returncode == 0
    pidfd = os.pidfd_open(c.state()["pid"])
    assert c.kill("KILL").returncode == 0
    import select

    assert select.select([pidfd], [], [], TIMEOUT)[0]
    os.close(pidfd)
    refused(execute(c, "true"), "cannot exec in a stopped container")


def test_paused(running):
    c = running()
    if c.rootless("pause", c.id).returncode:
        pytest.skip("no cgroup may be made here: run it in a delegated cgroup v2")
    refused(execute(c, "true"), "cannot exec in a paused container (use --ignore-paused to override)")
    with c.rootless.popen("exec", "--ignore-paused", c.id, "echo", "resumed") as waiting:
        assert c.rootless("resume", c.id).returncode == 0
        assert waiting.communicate(timeout=TIMEOUT)[0] == "resumed\n"
        assert waiting.returncode == 0


@pytest.mark.skipif(not shutil.which("strace"), reason="this machine lacks strace")
def test_a_pause_that_fails_midway_leaves_the_container_running(running):
    """strace makes the open fail that follows the write to cgroup.freeze."""
    c = running()
    if c.rootless("pause", c.id).returncode:
        pytest.skip("no cgroup may be made here: run it in a delegated cgroup v2")
    assert c.rootless("resume", c.id).returncode == 0
    inject = ["-f", "-qq", "-o", os.devnull, "-P", "cgroup.events", "-e", "inject=openat,open:error=ENOMEM"]
    command = ["strace", *inject, *c.rootless.command("pause", c.id)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 1 and "ENOMEM" in done.stderr, done.stderr
    assert c.state()["status"] == "running" and output(c, "echo", "runs") == "runs\n"


def test_an_interpreter_of_the_containers_root_is_not_shown_to_it(container, tmp_path):
    """CVE-2019-5736: root of the container owns the interpreter's file, and could change it by /proc/1/exe.

    Init therefore runs from a sealed copy, and does not show even that.
    """
    python = tmp_path / "python"
    shutil.copy(os.path.realpath("/usr/bin/python3"), python)
    python.chmod(0o755)
    c = container({"process": {"args": ["sleep", "1000"]}})
    command = [python, "-IS", LAUNCHER, "--root", c.rootless.state]
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, "create", "-b", c.bundle.path, c.id], check=True, timeout=TIMEOUT, **options)
    script = "chmod 777 /proc/1/exe; stat -L -c %d:%i /proc/1/exe"
    captured = {"capture_output": True, "timeout": TIMEOUT}
    result = subprocess.run([*command, "exec", c.id, "sh", "-c", script], check=False, **captured)
    found = python.stat()
    assert b"/proc/1/exe: Permission denied" in result.stderr and result.stdout == b""
    assert os.readlink(f"/proc/{c.state()['pid']}/exe").startswith("/memfd:")
    assert found.st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("owner", "group", "mode", "expected"),
    [
        (0, 0, 0o755, False),
        (1000, 0, 0o555, True),
        (100005, 0, 0o755, True),
        (0, 1000, 0o755, False),
        (0, 1000, 0o775, True),
        (0, 0, 0o757, True),
    ],
)
def test_which_interpreters_are_writable(owner, group, mode, expected):
    id_map = [(0, 1000, 1), (1, 100000, 65536)]
    found = os.stat_result((mode, 1, 1, 1, owner, group, 0, 0, 0, 0))
    assert writable(found, id_map, id_map) is expected
    assert writable(found, [], [])


def test_user_is_parsed_whole():
    assert parse_user("5") == {"uid": 5}
    assert parse_user("5:6") == {"uid": 5, "gid": 6}
    for text in ("", "5 ", "5:", ":6", "5:6:7", "root", "+5", "٥", "4294967295"):
        with pytest.raises(RootlessError):
            parse_user(text)


def test_exec_cpu_affinity_is_execs_alone(container) -> None:
    """execCPUAffinity does not apply to the container's init (config.md#linux-process)."""
    affinity = {"initial": "0", "final": "0"}
    c = container({"process": {"args": ["sleep", "1000"], "execCPUAffinity": affinity}})
    assert c.run_detached().returncode == 0
    result = c.rootless("exec", c.id, "sh", "-c", "grep -h Cpus_allowed_list: /proc/self/status /proc/1/status")
    mine, first = (line.split()[1] for line in result.stdout.splitlines())
    assert mine == "0"
    assert (first == "0") == (os.sched_getaffinity(0) == {0})


def test_the_session_keyring_is_the_containers(running):
    """`create` makes a session keyring for each container, and `exec` finds it by its name (session-keyring(7))."""
    c = running({"process": {"args": ["sh", "-c", "cat /proc/keys >/keys; exec sleep 1000"]},
                 "root": {"readonly": False}, "linux": {"maskedPaths": None}})  # fmt: skip

    def serials(keys: str) -> list[str]:
        return [line.split()[0] for line in keys.splitlines() if f" _ses.{c.id}" in line]

    found = serials(output(c, "cat", "/proc/keys"))
    assert len(found) == 1
    kept = c.bundle.rootfs / "keys"
    assert until(lambda: kept.exists() and serials(kept.read_text())) == found


def test_without_a_new_keyring_exec_makes_none_either(container):
    c = container({"process": {"args": ["sleep", "1000"]}, "linux": {"maskedPaths": None}})
    assert c.run_detached("--no-new-keyring").returncode == 0
    keys = output(c, "cat", "/proc/keys")
    assert f"_ses.{c.id}" not in keys


def test_pidfd_socket(running, tmp_path):
    """--pidfd-socket gets a pidfd of the process, with which the test ends it."""
    c = running()
    with listening(tmp_path) as (path, listener):
        streams = {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        result = execute(c, "-d", "--pidfd-socket", path, "--", "sleep", "1234", **streams)
        assert result.returncode == 0
        connection, _ = listener.accept()
        with connection:
            message, fds, _, _ = socket.recv_fds(connection, 100, 1)
    assert message == b"setns"
    assert until(lambda: "sleep 1234" in c.rootless("ps", c.id).stdout)
    signal.pidfd_send_signal(fds[0], signal.SIGKILL)
    assert select.select(fds, [], [], TIMEOUT)[0]
    os.close(fds[0])
    refused(execute(c, "-d", "--pidfd-socket", "/nope/s", "--", "sleep", "1234"), "pidfd socket", "ENOENT")
    assert "sleep 1234" not in c.rootless("ps", c.id).stdout
