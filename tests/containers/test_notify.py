"""With NOTIFY_SOCKET, READY of the program reaches the service manager, with the process to watch."""

import os
import socket
import subprocess
import threading

import pytest

from tests.support.checkout import TIMEOUT

HOST_PYTHON = [
    {"destination": f"/{name}", "type": "bind", "source": f"/{name}", "options": ["rbind", "ro"]}
    for name in ("usr", "lib", "lib64")
    if os.path.exists(f"/{name}")
]
READY = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sock.connect(os.environ["NOTIFY_SOCKET"])
sock.send(b"STATUS=on the way")
sock.send(b"READY=1\\nSTATUS=done")
os.execv("/bin/busybox", ["sleep", sys.argv[1]])
"""


class Manager:
    """Play the service manager: it keeps what it was sent, and answers each barrier at once."""

    def __init__(self, path) -> None:
        self.path = str(path)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.settimeout(TIMEOUT)

    def read(self) -> list[str]:
        """Return all messages up to the barrier."""
        said = []
        while True:
            data, fds, _, _ = socket.recv_fds(self.sock, 4096, 1)
            for fd in fds:
                os.close(fd)
            said.append(data.decode())
            if said[-1] == "BARRIER=1":
                return said


@pytest.fixture
def manager(tmp_path):
    found = Manager(tmp_path / "manager")
    yield found
    found.sock.close()


@pytest.fixture
def service(container):
    """Return a container that says READY and runs for that many seconds."""

    def make(seconds: str):
        c = container({"process": {"args": ["/usr/bin/python3", "-ISc", READY, seconds]}})
        c.bundle.config["mounts"] += HOST_PYTHON
        c.bundle.write()
        return c

    return make


def test_start_waits_until_the_program_is_ready(service, manager) -> None:
    c = service("1000")
    env = {**os.environ, "NOTIFY_SOCKET": manager.path}
    assert c.create(env=env).returncode == 0
    pid = c.state()["pid"]
    with c.rootless.popen("start", c.id, env=env) as starting:
        assert manager.read() == ["READY=1\n", f"MAINPID={pid}\n", "BARRIER=1"]
        out, err = starting.communicate(timeout=TIMEOUT)
    assert (starting.returncode, out, err) == (0, "", "")
    assert c.status() == "running"
    inside = c.rootless("exec", c.id, "sh", "-c", "echo $NOTIFY_SOCKET; touch /run/notify/file")
    assert inside.stdout == "\n"  # the first process's alone
    assert "Read-only" in inside.stderr


def test_run_detached_names_the_programs_process(service, manager) -> None:
    c = service("1000")
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(manager.read()))
    reader.start()
    assert c.run_detached(env={**os.environ, "NOTIFY_SOCKET": manager.path}).returncode == 0
    reader.join(TIMEOUT)
    assert said == ["READY=1\n", f"MAINPID={c.state()['pid']}\n", "BARRIER=1"]


def test_run_in_the_foreground_names_itself(service, manager) -> None:
    c = service("1000")
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = {**os.environ, "NOTIFY_SOCKET": manager.path}
    with c.rootless.popen("run", "-b", c.bundle.path, c.id, env=env, **streams) as running:
        assert manager.read() == ["READY=1\n", f"MAINPID={running.pid}\n", "BARRIER=1"]
        assert c.kill("KILL").returncode == 0
        assert running.wait(TIMEOUT) == 137


def test_a_program_that_ends_without_a_word_is_not_waited_for(container, manager) -> None:
    c = container({"process": {"args": ["true"]}})
    env = {**os.environ, "NOTIFY_SOCKET": manager.path}
    assert c.create(env=env).returncode == 0
    assert c.rootless("start", c.id, env=env).returncode == 0
    assert c.delete().returncode == 0
    assert not (c.rootless.state / c.id).exists()


def test_a_manager_that_is_gone_is_only_warned_of(service, tmp_path) -> None:
    c = service("1000")
    result = c.run_detached(env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert result.returncode == 0
    assert "NOTIFY_SOCKET" in result.stderr
    assert c.status() == "running"
