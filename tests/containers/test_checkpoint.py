"""checkpoint and restore: with criu as root, and in one line why not otherwise."""

import os
import shutil
import subprocess

import pytest
from conftest import TIMEOUT

COUNT = "i=0; while read word; do i=$((i + 1)); echo $i $word; done"
# Pipes are what criu hands over to the restored; a bare one cannot know about the machine's cgroups of v1.
FLAGS = ("--manage-cgroups-mode", "ignore")


class Streams:
    """The pipes of a container that counts lines."""

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
    """A command whose streams go on in the container."""
    streams = Streams()
    flags = {"capture_output": False, "stdin": streams.stdin, "stdout": streams.stdout, "stderr": streams.stdout}
    result = c.rootless(*words, c.id, **flags)
    streams.close_theirs()
    assert result.returncode == 0, os.read(streams.back, 4096).decode()
    return streams


@pytest.fixture
def criu():
    """A criu that works here."""
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


@pytest.mark.root
def test_what_criu_says_is_told(container, criu, tmp_path) -> None:
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
    program = tmp_path / "criu"  # it is not asked
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
