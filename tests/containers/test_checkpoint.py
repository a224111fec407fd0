"""checkpoint and restore work as root with criu, and elsewhere one line says why not."""

import json
import os
import shutil
import socket
import subprocess
from fcntl import F_SETPIPE_SZ, fcntl
from pathlib import Path

import pytest

from tests.support.checkout import TIMEOUT

COUNT = "i=0; while read word; do i=$((i + 1)); echo $i $word; done"
# criu passes pipes on to the restored processes. Without this flag it would look at the machine's cgroups of v1.
FLAGS = ("--manage-cgroups-mode", "ignore")


class Streams:
    """Hold the pipes of a container that counts lines."""

    def __init__(self) -> None:
        self.stdin, self.to = os.pipe()
        self.back, self.stdout = os.pipe()

    def close_theirs(self) -> None:
        os.close(self.stdin)
        os.close(self.stdout)

    def ask(self, word: str) -> str:
        os.write(self.to, f"{word}\n".encode())
        return os.read(self.back, 100).decode().strip()

    def close(self) -> None:
        os.close(self.to)
        os.close(self.back)


def begin(c, *words):
    """Start a command whose streams the container keeps."""
    streams = Streams()
    flags = {"capture_output": False, "stdin": streams.stdin, "stdout": streams.stdout, "stderr": streams.stdout}
    result = c.rootless(*words, c.id, **flags)
    streams.close_theirs()
    assert result.returncode == 0, os.read(streams.back, 4096).decode()
    return streams


@pytest.fixture
def criu():
    """Return a criu that works here."""
    path = shutil.which("criu", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if not path:
        pytest.skip("this machine lacks criu")
    said = subprocess.run([path, "check"], capture_output=True, text=True, check=False)
    if said.returncode:
        pytest.skip(f"criu does not work with this kernel: {said.stderr.strip().splitlines()[-1:]}")
    return path


@pytest.mark.root
def test_a_container_goes_on_where_it_was(container, criu, tmp_path) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    c = container({"process": {"args": ["sh", "-c", COUNT]}})
    streams = begin(c, "run", "-d", "-b", c.bundle.path)
    assert [streams.ask("one"), streams.ask("two")] == ["1 one", "2 two"]
    image = ("--image-path", tmp_path / "image", "--work-path", tmp_path / "work", *FLAGS)
    result = c.rootless("--criu", criu, "checkpoint", *image, "--leave-running", c.id)
    assert result.returncode == 0, result.stderr
    assert streams.ask("three") == "3 three"
    result = c.rootless("--criu", criu, "checkpoint", *image, c.id)
    assert (result.returncode, result.stderr) == (0, "")
    streams.close()
    assert "does not exist" in c.rootless("state", c.id).stderr

    pid_file = tmp_path / "pid"
    streams = begin(c, "--criu", criu, "restore", "-d", *image, "--pid-file", pid_file, "-b", c.bundle.path)
    assert streams.ask("four") == "4 four"
    assert c.status() == "running"
    assert int(pid_file.read_text()) == c.state()["pid"]
    inside = c.rootless("exec", c.id, "sh", "-c", "hostname; ls /; cat /proc/1/cmdline")
    assert inside.returncode == 0 and COUNT in inside.stdout, inside.stderr
    streams.close()
    c.wait()
    assert c.delete().returncode == 0


def require_feature(criu, name) -> None:
    said = subprocess.run([criu, "check", "--feature", name], capture_output=True, check=False)
    if said.returncode:
        pytest.skip(f"criu and this kernel lack {name}")


@pytest.fixture
def counting(container, criu):
    """Return a container that counts lines and has counted one, and its streams."""
    if os.geteuid():
        pytest.skip("needs root")
    c = container({"process": {"args": ["sh", "-c", COUNT]}})
    streams = begin(c, "run", "-d", "-b", c.bundle.path)
    assert streams.ask("one") == "1 one"
    yield c, streams
    streams.close()


@pytest.mark.root
def test_memory_can_be_dumped_ahead(counting, criu, tmp_path) -> None:
    """With --pre-dump the container goes on, and the checkpoint holds only what has changed since."""
    require_feature(criu, "mem_dirty_track")
    c, streams = counting
    ahead = ("--image-path", tmp_path / "ahead", *FLAGS)
    result = c.rootless("--criu", criu, "checkpoint", "--pre-dump", *ahead, c.id)
    assert (result.returncode, result.stderr) == (0, "")
    assert c.status() == "running" and streams.ask("two") == "2 two"
    image = ("--image-path", tmp_path / "image", *FLAGS)
    result = c.rootless("--criu", criu, "checkpoint", "--parent-path", "../ahead", *image, c.id)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "image/parent").readlink().name == "ahead"
    again = begin(c, "--criu", criu, "restore", "-d", *image, "-b", c.bundle.path)
    assert again.ask("three") == "3 three"
    again.close()
    c.wait()


@pytest.mark.root
def test_memory_can_follow(counting, criu, tmp_path) -> None:
    """With --lazy-pages the restored container runs, and gets memory when it needs it from the one that was stopped."""
    require_feature(criu, "uffd-noncoop")
    c, _ = counting
    image = ("--image-path", tmp_path / "image", "--work-path", tmp_path / "image", *FLAGS)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    ready, tell = os.pipe()
    flags = ("--lazy-pages", "--page-server", f"127.0.0.1:{port}", "--status-fd", str(tell))
    leaving = c.rootless.popen("--criu", criu, "checkpoint", *flags, *image, c.id, pass_fds=[tell])
    os.close(tell)
    said = os.read(ready, 1)
    os.close(ready)
    if not may_have_large_pipes():
        assert not said and "fs.pipe-max-size" in leaving.communicate()[1]
        assert leaving.returncode == 1 and c.status() == "running"
        pytest.skip("refused, as it should be: this machine's root has no CAP_SYS_RESOURCE for criu's pipe")
    assert said == b"\0", leaving.communicate()[1]
    serve = ["lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", port, "-D", str(tmp_path / "image")]
    with subprocess.Popen([criu, *serve], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as fetching:
        other = f"{c.id}-there"
        c.bundle.patch({"linux": {"cgroupsPath": f"/{other}"}})
        c.id, left = other, c.id
        again = begin(c, "--criu", criu, "restore", "-d", "--lazy-pages", *image, "-b", c.bundle.path)
        assert again.ask("two") == "2 two"
        if place := json.loads((c.rootless.state / other / "state.json").read_text())["cgroup"]["path"]:
            assert str(c.state()["pid"]) in (Path(place) / "cgroup.procs").read_text().split()
        assert fetching.wait(TIMEOUT) == 0
    assert leaving.communicate(timeout=TIMEOUT) == ("", "") and leaving.returncode == 0
    assert "does not exist" in c.rootless("state", left).stderr
    again.close()
    c.wait()
    assert c.delete().returncode == 0


def may_have_large_pipes() -> bool:
    reader, writer = os.pipe()
    try:
        fcntl(reader, F_SETPIPE_SZ, 4 << 20)
    except PermissionError:
        return False
    finally:
        os.close(reader)
        os.close(writer)
    return True


@pytest.mark.root
def test_the_error_quotes_criu(container, criu, tmp_path) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0  # its output is a file of the host, which criu does not take
    result = c.rootless("--criu", criu, "checkpoint", "--image-path", tmp_path / "image", *FLAGS, c.id)
    assert result.returncode == 1
    assert result.stderr.startswith("rootless: criu failed: (criu/") and "dump.log" in result.stderr
    assert c.status() == "running"


def test_an_ordinary_user_is_told_why_not(container) -> None:
    if not os.geteuid():
        pytest.skip("needs an ordinary user")
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    for words in (("checkpoint", c.id), ("checkpoint", "--help"), ("restore", "--help"), ("restore", c.id)):
        result = c.rootless(*words, cwd=c.bundle.path, timeout=TIMEOUT)
        assert result.returncode == 1
        assert result.stderr.startswith("rootless: checkpoint and restore need root")
        assert result.stderr.count("\n") == 1
    assert c.status() == "running"


def test_podmans_question_about_the_mount_context(rootless) -> None:
    assert "flag needs an argument" in rootless("restore", "--lsm-mount-context").stderr


@pytest.mark.root
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--parent-path", "/absolute"), "--parent-path must be relative"),
        (("--parent-path", "nowhere"), "invalid --parent-path"),
        (("--manage-cgroups-mode", "hard"), "manage-cgroups-mode"),
        (("--empty-ns", "mount"), "not supported"),
        (("--page-server", "nowhere"), "ADDRESS:PORT"),
        (("--status-fd", "77"), "--status-fd"),
    ],
)
def test_wrong_flags(container, tmp_path, flags, said) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    program = tmp_path / "criu"  # it is not run
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    command = ("--criu", program, "checkpoint", "--image-path", tmp_path / "image", *flags, c.id)
    assert "cannot be checkpointed in created state" in c.rootless(*command).stderr
    assert c.start().returncode == 0
    result = c.rootless(*command)
    assert result.returncode == 1
    assert result.stderr.startswith("rootless: ") and said in result.stderr
    assert c.status() == "running"


@pytest.mark.root
def test_without_criu(container) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    c = container()
    result = c.rootless("checkpoint", c.id, env={**os.environ, "PATH": "/nowhere"})
    assert result.returncode == 1
    assert "criu is not installed" in result.stderr and "hint:" in result.stderr
