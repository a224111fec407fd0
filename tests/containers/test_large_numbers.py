"""Numbers that system calls do not take as they are: descriptors above 1023, times longer than poll(2) waits."""

from __future__ import annotations

import os
import re
import resource
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import TIMEOUT
from tests.support.containers import USER
from tests.support.processes import until

FIRST_FREE = 1200
SLEEP = {"process": {"args": ["sleep", "1000"]}}


def take_descriptors() -> None:
    """Leave only descriptors that select(2) does not take."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    fd = os.open("/", os.O_RDONLY)
    for number in range(3, FIRST_FREE):
        if number != fd:
            os.dup2(fd, number)


@pytest.fixture
def far(rootless):
    """`far(*words)`: the command's (exit code, standard error), with all low descriptors taken."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard <= FIRST_FREE + 100:
        pytest.skip("RLIMIT_NOFILE is too low here")

    def call(*words, **options):
        done = rootless(*words, preexec_fn=take_descriptors, close_fds=False, **options)
        return done.returncode, done.stderr

    return call


@pytest.mark.parametrize(
    "moment", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
)
def test_a_hook_with_a_time_limit(container, far, moment: str) -> None:
    inside = moment in ("createContainer", "startContainer")
    hook = {"path": "/bin/busybox" if inside else "/bin/true", "args": ["true"], "timeout": 30}
    c = container({"process": {"args": ["true"]}, "hooks": {moment: [hook]}})
    assert far("run", "-b", c.bundle.path, c.id) == (0, "")


def test_what_waits_for_a_running_container(container, far, rootless) -> None:
    c = container(SLEEP)
    assert c.run_detached().returncode == 0
    with rootless.popen("wait", c.id, preexec_fn=take_descriptors, close_fds=False) as waiting:
        assert until(lambda: Path(f"/proc/{waiting.pid}/fd/{FIRST_FREE}").is_symlink())
        assert far("stop", "--time", "1s", c.id) == (0, "")
        assert waiting.communicate(timeout=TIMEOUT)[1] == ""
    assert far("delete", c.id) == (0, "")


def test_deleting_a_running_container(container, far, rootless) -> None:
    c = container(SLEEP)
    assert c.run_detached().returncode == 0
    assert far("delete", "--force", c.id) == (0, "") and rootless.ids() == []


def test_a_service_manager(container, far, tmp_path, monkeypatch) -> None:
    """`run` that is detached waits for the container's READY=1."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("manager")
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "manager"))
        c = container({"process": {"args": ["true"]}})
        with open("said", "w+") as said:
            code, _ = far("run", "-d", "-b", c.bundle.path, c.id, capture_output=False, stdout=said, stderr=said)
        assert (code, Path("said").read_text()) == (0, "")


@pytest.mark.parametrize("time", ["720h", "99999999999999h", "9999999999999999999h"])
def test_a_time_limit_of_more_than_25_days(container, time: str) -> None:
    result = container().run("true", flags=("--timeout", time))
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(not USER, reason="one look is enough")
@pytest.mark.parametrize("words", [["stop", "--time", "720h"], ["events", "--interval", "9999999999h"]])
def test_a_time_of_more_than_25_days(container, rootless, words: list[str]) -> None:
    """A handler for TERM makes `stop` wait; `events` has no statistics where the cgroup has no controllers."""
    script = "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done"
    c = container({"process": {"args": ["sh", "-c", script]}})
    assert c.run_detached().returncode == 0
    assert until(lambda: "up" in (c.bundle.path / "stdout").read_text())
    if words[0] == "events" and "no cgroup" in rootless("events", "--stats", c.id).stderr:
        pytest.skip("no cgroup here")
    with rootless.popen(*words, c.id, stdout=subprocess.DEVNULL) as command:
        if words[0] == "events":
            assert until(lambda: _waits_in_poll(command.pid) or command.poll() is not None)
            assert c.rootless("kill", c.id, "KILL").returncode == 0
        assert command.communicate(timeout=TIMEOUT)[1] == "" and command.returncode == 0


def _waits_in_poll(pid: int) -> bool:
    """Whether the process is asleep with a pidfd open, which `events` opens right before it waits."""
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return False
    return state == "S" and any("pidfd" in link for link in links)


NUMBERS = ["1024", "4294967296", "999999999999999999", "9" * 5000]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("command", ["run", "create", "exec"])
def test_more_descriptors_than_there_are(container, rootless, command: str, number: str) -> None:
    """It is refused at once: the runtime used to try each number up to there."""
    c = container(SLEEP)
    words = ["-b", c.bundle.path, c.id]
    if command == "exec":
        assert c.run_detached().returncode == 0
        words = [c.id, "true"]
    result = rootless(command, "--preserve-fds", number, *words)
    assert result.returncode == (255 if command == "exec" and len(number) < 20 else 1)
    refusals = "fd 3 of --preserve-fds is not open|for --preserve-fds: a number of at most 18 digits is needed"
    assert re.fullmatch(f"rootless: .*({refusals}).*\n", result.stderr)


@pytest.mark.parametrize("number", ["9" * 5000, "٣"])
def test_a_promise_of_sockets_without_sense_is_passed_over(container, monkeypatch, number: str) -> None:
    monkeypatch.setenv("LISTEN_FDS", number)
    result = container().run("true")
    assert (result.returncode, result.stderr) == (0, "")


def test_nothing_calls_select() -> None:
    """select(2) refuses descriptors above 1023, so kernel/waiting.py is the way."""
    root = Path(__file__).parents[2]
    files = [*root.glob("rootless/**/*.py"), *root.glob("oci/**/*.py")]
    assert len(files) > 100
    assert [str(file) for file in files if "select.select(" in file.read_text()] == []
