"""Bad moments: two commands at once, a damaged state, sockets without a listener, a place that is gone."""

import fcntl
import json
import os
import select
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.checkout import TIMEOUT
from tests.support.containers import Container, Rootless

SLEEP = {"process": {"args": ["sleep", "1000"]}}


def one_line(result, *said, code=1) -> None:
    assert result.returncode == code, result.stderr
    assert result.stderr.startswith("rootless: ") and result.stderr.count("\n") == 1, result.stderr
    for words in said:
        assert words in result.stderr


def at_once(count, call):
    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(count)]]


def test_the_second_command_waits_for_the_first(container) -> None:
    """The test itself is the first command: it holds the lock of the state directory."""
    c = container(SLEEP)
    assert c.create().returncode == 0
    fd = os.open(c.rootless.state / c.id, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with c.rootless.popen("start", c.id) as waiting:
        pidfd = os.pidfd_open(waiting.pid)
        assert not select.select([pidfd], [], [], 0.5)[0], "it did not wait"
        assert c.status() == "created"
        os.close(fd)
        assert waiting.wait(TIMEOUT) == 0
        os.close(pidfd)
    assert c.status() == "running"


@pytest.mark.parametrize("command", ["start", "delete", "create", "delete --force", "pause"])
def test_of_many_at_once_one_succeeds(container, command) -> None:
    """The other commands fail with the error that they would get later."""
    c = container(SLEEP)
    if command != "create":
        assert c.create().returncode == 0
    if command == "pause":
        assert c.start().returncode == 0
        if "has no cgroup" in c.rootless("pause", c.id).stderr:
            pytest.skip("no cgroup may be made here: run it in a delegated cgroup v2")
        assert c.rootless("resume", c.id).returncode == 0
    words = ["create", "-b", c.bundle.path, c.id] if command == "create" else [*command.split(), c.id]
    streams = {"capture_output": False, "stdout": -3, "stderr": -3} if command == "create" else {}
    results = at_once(5, lambda: c.rootless(*words, **streams))
    codes = sorted(result.returncode for result in results)
    assert codes == ([0] * 5 if command == "delete --force" else [0, 1, 1, 1, 1])
    for result in results:
        assert result.returncode == 0 or command == "create" or result.stderr.count("\n") == 1
    if command in ("create", "start", "pause"):
        assert c.status() == {"create": "created", "start": "running", "pause": "paused"}[command]
    else:
        assert not (c.rootless.state / c.id).exists()


def test_containers_of_one_name_in_two_state_roots_have_cgroups_of_their_own(container, tmp_path) -> None:
    """One container has ended and its cgroup is empty.

    The other gets another cgroup, because the first one's `delete` would kill what is in that one.
    """
    ended = container({"process": {"args": ["true"]}})
    assert ended.create().returncode == 0 and ended.start().returncode == 0
    ended.wait()
    other = Container(Rootless(tmp_path / "other"), container(SLEEP).bundle, ended.id)
    try:
        assert other.run_detached().returncode == 0
        path = json.loads((tmp_path / "other" / ended.id / "state.json").read_text())["cgroup"].get("path")
        if not path:
            pytest.skip("no cgroup may be made here: run it in a delegated cgroup v2")
        assert ended.delete().returncode == 0
        assert (other.status(), os.path.basename(path)) == ("running", f"{ended.id}-2")
    finally:
        assert other.delete("--force").returncode == 0
    assert not os.path.exists(path)


@pytest.mark.parametrize("length", [0, 1, 0.5, -1])
@pytest.mark.parametrize("status", ["created", "running"])
def test_a_truncated_state_is_named_and_delete_force_ends_what_runs(container, status, length) -> None:
    c = container(SLEEP)
    assert (c.create if status == "created" else c.run_detached)().returncode == 0
    file = c.rootless.state / c.id / "state.json"
    state = json.loads(file.read_text())
    size = file.stat().st_size
    os.truncate(file, int(size * length) if isinstance(length, float) else length % size)
    pidfd = os.pidfd_open(state["pid"])
    for command in ("state", "start", "kill", "pause", "ps", "delete", "exec"):
        words = (command, c.id, "true") if command == "exec" else (command, c.id)
        one_line(c.rootless(*words), "state.json is damaged", "delete --force", code=255 if command == "exec" else 1)
    assert not select.select([pidfd], [], [], 0)[0], "it ended"
    assert c.delete("--force").returncode == 0
    assert select.select([pidfd], [], [], TIMEOUT)[0], "it was left"
    os.close(pidfd)
    path = state["cgroup"].get("path")
    assert not path or not os.path.exists(path)
    assert c.rootless.ids() == []


@pytest.mark.parametrize("command", ["create", "exec"])
@pytest.mark.parametrize("kind", ["missing", "not listening", "no socket", "gone midway"])
def test_the_console_socket(container, tmp_path, command, kind) -> None:
    path = tmp_path / "console.sock"
    c = container({"process": {"terminal": command == "create", "args": ["sleep", "1000"]}})
    with socket.socket(socket.AF_UNIX) as listener:
        if kind in ("not listening", "gone midway"):
            listener.bind(str(path))
        if kind == "no socket":
            path.write_text("")
        if kind == "gone midway":
            listener.listen(1)
            listener.close()
        if command == "create":
            one_line(c.create("--console-socket", str(path)), "console socket")
            assert c.rootless.ids() == []
        else:
            assert c.run_detached().returncode == 0
            result = c.rootless("exec", "-d", "-t", "--console-socket", path, c.id, "sleep", "77")
            one_line(result, "console socket", code=255)
            assert "sleep 77" not in c.rootless("ps", c.id).stdout
            assert c.status() == "running"


@pytest.mark.parametrize("command", ["create", "run", "exec"])
def test_the_pid_file_cannot_be_written(container, tmp_path, command) -> None:
    c = container(SLEEP)
    (tmp_path / "directory").mkdir()
    if command == "exec":
        assert c.run_detached().returncode == 0
        result = c.rootless("exec", "-d", "--pid-file", tmp_path / "directory", c.id, "sleep", "77")
        one_line(result, "pid file", "EISDIR", code=255)
        assert "sleep 77" not in c.rootless("ps", c.id).stdout
        return
    result = (c.create if command == "create" else c.run_detached)("--pid-file", str(tmp_path / "directory"))
    one_line(result, "pid file", "EISDIR")
    assert c.rootless.ids() == []
    assert os.listdir(tmp_path / "directory") == []


def test_the_callers_directory_is_gone(container, tmp_path) -> None:
    c = container(SLEEP)
    place = tmp_path / "gone"
    place.mkdir()
    assert c.create().returncode == 0

    def leave() -> None:
        os.chdir(place)
        if place.exists():
            place.rmdir()

    for words, code in (
        (("state", c.id), 0),
        (("start", c.id), 0),
        (("exec", c.id, "pwd"), 0),
        (("kill", c.id, "KILL"), 0),
    ):
        place.mkdir(exist_ok=True)
        result = c.rootless(*words, preexec_fn=leave)
        assert (result.returncode, result.stderr) == (code, "")
    place.mkdir(exist_ok=True)
    one_line(c.rootless("create", "other", preexec_fn=leave))


def test_the_containers_directory_is_gone(container) -> None:
    c = container({"process": {"args": ["sleep", "1000"], "cwd": "/tmp/work"}, "root": {"readonly": False}})
    assert c.run_detached().returncode == 0
    (c.bundle.rootfs / "tmp/work").rmdir()
    one_line(c.rootless("exec", c.id, "true"), "chdir", "/tmp/work", "ENOENT", code=255)
    assert c.rootless("exec", "--cwd", "/", c.id, "true").returncode == 0


@pytest.mark.parametrize("user", ["nosuch", "1:nosuch", "4294967295", "3000000000"])
def test_an_unknown_user(container, user) -> None:
    c = container(SLEEP)
    assert c.run_detached().returncode == 0
    if user == "3000000000" and not os.geteuid():
        pytest.skip("root without a user namespace may be any user")
    one_line(c.rootless("exec", "--user", user, c.id, "true"), "exec failed", code=255)


def test_init_that_died_before_exec_came_in(container) -> None:
    """The state says that the container runs, but the process has another start time."""
    c = container(SLEEP)
    assert c.run_detached().returncode == 0
    pidfd = os.pidfd_open(c.state()["pid"])
    with c.rootless.popen("exec", c.id, "sh", "-c", "echo in; exec sleep 1000") as executing:
        assert executing.stdout.readline() == "in\n"
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert executing.wait(TIMEOUT) == 137  # the pid namespace ends with its init
    assert select.select([pidfd], [], [], TIMEOUT)[0]
    os.close(pidfd)
    one_line(c.rootless("exec", c.id, "true"), "cannot exec in a stopped container", code=255)


def test_an_init_that_waits_for_an_unreaped_process_counts_as_stopped(container, tmp_path) -> None:
    """Init cannot end before its pid namespace is empty (pid_namespaces(7)), and its parent never reaps what `exec
    --detach` has left.
    """
    c = container(SLEEP)
    assert c.run_detached().returncode == 0
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            import ctypes

            ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
            flags = {"capture_output": False, "stdout": -3, "stderr": -3}
            c.rootless("exec", "-d", c.id, "sleep", "1000", **flags)
            os.write(writer, b"x")
            signal.pause()
        finally:
            os._exit(0)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"x"
        assert c.kill("KILL").returncode == 0
        result = c.delete()
        while "not stopped" in result.stderr:  # until the kernel has killed it: no event tells that
            result = c.delete()
        assert (result.returncode, result.stderr) == (0, "")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
