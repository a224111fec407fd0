"""Commands for containers that run: stop, wait, a log file, list, after `run --detach` and after create and start."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rootless.cli.help import INSTEAD, INSTEAD_OF_FLAGS
from rootless.cli.options import HOT
from rootless.errors import RootlessError
from rootless.kernel.host import Host
from rootless.runtime import monitor
from tests.support.containers import has_range
from tests.support.processes import until

BOX = f"box-{os.getpid()}"  # cgroups are named after containers, whatever state root they have
HANDLES = "trap 'echo stopping; exit 5' TERM; echo up; while :; do sleep 0.1; done"


@pytest.fixture
def box(make_bundle: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rootless: Any) -> Any:
    """Return a bundle, in whose parent directory the test runs. Its containers are deleted at the end."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield make_bundle(BOX, {"root": {"readonly": False}})
    for name in rootless.ids():
        rootless("delete", "--force", name)


def detach(rootless: Any, *words: str) -> Any:
    """Call `run --detach` with streams that nobody waits for."""
    with open(os.devnull, "r+") as null, open("said", "w+") as said:
        result = rootless("run", "-d", *words, capture_output=False, stdin=null, stdout=said, stderr=said)
        said.seek(0)
        return subprocess.CompletedProcess(result.args, result.returncode, said.read(), "")


def test_a_log_file_has_the_output_and_wait_the_exit_code(box: Any, rootless: Any, tmp_path: Path) -> None:
    """Both a `wait` that begins before the end and one that begins after it print the exit code."""
    script = "echo out; echo err >&2; until test -e /go; do sleep 0.1; done; exit 7"
    result = detach(rootless, "--log-file", "log", f"./{BOX}", "sh", "-c", script)
    assert (result.returncode, result.stdout) == (0, f"{BOX}\n")
    early = rootless.popen("wait", BOX)
    (box.rootfs / "go").touch()
    assert early.communicate(timeout=60) == ("7\n", "") and early.returncode == 0
    assert rootless("wait", BOX).stdout == "7\n"
    assert (tmp_path / "log").read_text() == "out\nerr\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert rootless("delete", BOX).returncode == 0


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "EMFILE (too many open files)"),
        (MemoryError(), "out of memory"), (KeyError("x"), "internal error: KeyError"),
    ],
)  # fmt: skip
def test_an_error_that_the_monitor_did_not_expect(monkeypatch: Any, error: BaseException, text: str) -> None:
    """The line of the command has its errno or its kind, and what to do."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(monitor, "protect", lambda *_: None)
    monkeypatch.setattr(monitor, "_monitor", fail)
    request: Any = SimpleNamespace(container_id="c")
    with pytest.raises(RootlessError) as caught:
        monitor.run_monitored(request, Host())
    assert text in str(caught.value) and "hint:" in str(caught.value)


@pytest.mark.skipif(not os.getuid() or not has_range(), reason="it takes a user with a range of ids")
def test_files_of_the_caller_stay_its_own(box: Any, rootless: Any, tmp_path: Path) -> None:
    """A program that runs as another user can open its standard streams again, and the caller stays their owner."""
    script = "cat; echo first; echo second >>/dev/stdout; echo third >>/dev/stderr"
    (tmp_path / "in").write_text("data\n")
    command = rootless.command("run", "-u", "5", f"./{BOX}", "sh", "-c", script)
    with open("in") as data, open("out", "a") as out, open("err", "a") as errors:
        assert subprocess.run(command, stdin=data, stdout=out, stderr=errors, timeout=60, check=False).returncode == 0
    assert [(tmp_path / name).read_text() for name in ("out", "err")] == ["data\nfirst\nsecond\n", "third\n"]
    assert {(tmp_path / name).stat().st_uid for name in ("in", "out", "err")} == {os.getuid()}
    for count in (1, 2):
        words = (
            "--rm",
            "--log-file",
            "log",
            "-u",
            "5",
            f"./{BOX}",
            "sh",
            "-c",
            "echo first; echo second >>/dev/stdout",
        )
        assert detach(rootless, *words).returncode == 0
        assert until(lambda: "first\nsecond\n" * count in (tmp_path / "log").read_text())  # noqa: B023
    assert (tmp_path / "log").stat().st_uid == os.getuid()
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0


def test_rm_deletes_a_detached_container_at_its_end(box: Any, rootless: Any) -> None:
    script = "until test -e /go; do sleep 0.1; done"
    assert detach(rootless, "--rm", f"./{BOX}", "sh", "-c", script).returncode == 0
    assert rootless.ids() == [BOX]
    (box.rootfs / "go").touch()
    assert until(lambda: not rootless.ids())


def test_a_detached_time_limit(box: Any, rootless: Any) -> None:
    assert detach(rootless, "--timeout", "0.5s", f"./{BOX}", "sleep", "100").returncode == 0
    assert rootless("wait", BOX).stdout == "124\n"


def test_a_program_that_is_not_there_is_told_at_once(box: Any, rootless: Any) -> None:
    result = detach(rootless, "--log-file", "log", f"./{BOX}", "nosuch")
    assert result.returncode == 1 and "nosuch" in result.stdout and result.stdout.count("\n") == 1
    assert rootless.ids() == []


def test_stop_asks_first(box: Any, rootless: Any, tmp_path: Path) -> None:
    assert detach(rootless, "--log-file", "log", f"./{BOX}", "sh", "-c", HANDLES).returncode == 0
    assert until(lambda: "up" in (tmp_path / "log").read_text())
    assert rootless("stop", "--time", "50s", BOX).returncode == 0
    assert rootless("wait", BOX).stdout == "5\n"
    assert (tmp_path / "log").read_text() == "up\nstopping\n"
    assert rootless("stop", BOX).returncode == 0, "a stopped one is fine"


def test_stop_kills_what_does_not_listen(box: Any, rootless: Any, tmp_path: Path) -> None:
    script = "trap '' TERM; echo up; while :; do sleep 1; done"
    assert detach(rootless, "--log-file", "log", f"./{BOX}", "sh", "-c", script).returncode == 0
    assert until(lambda: "up" in (tmp_path / "log").read_text())
    assert rootless("stop", "--time", "0.2s", BOX).returncode == 0
    assert rootless("wait", BOX).stdout == "137\n"


def test_stop_and_wait_take_several(box: Any, rootless: Any, tmp_path: Path) -> None:
    """As docker's: one that does not exist gets a line, and the others are served."""
    handles = "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done"
    for number, script in ((1, "trap '' TERM; echo up; while :; do sleep 1; done"), (2, handles)):
        assert detach(
            rootless, "--name", f"{BOX}-{number}", "--log-file", f"log{number}", f"./{BOX}", "sh", "-c", script
        )
        assert until(lambda: "up" in (tmp_path / f"log{number}").read_text())  # noqa: B023
    names = (f"{BOX}-1", "nosuch", f"{BOX}-2", "none")
    stopped = rootless("stop", "--time", "2s", *names)
    assert stopped.returncode == 1
    assert stopped.stderr.splitlines() == [
        f'rootless: container "{name}" does not exist' for name in ("nosuch", "none")
    ]
    waited = rootless("wait", *names)
    assert (waited.returncode, waited.stdout, waited.stderr) == (1, "137\n5\n", stopped.stderr)
    assert rootless("stop", names[0], names[2]).returncode == 0


@pytest.mark.parametrize("state", ["created", "running", "paused"])
def test_stop_and_wait_of_a_container_of_create(container: Callable[..., Any], rootless: Any, state: str) -> None:
    """Without a monitor only Linux 6.15 tells the exit code, and only to a command that waits before the end."""
    c = container({"process": {"args": ["sleep", "100"]}})
    assert c.create().returncode == 0
    if state != "created":
        assert c.start().returncode == 0
    if state == "paused" and rootless("pause", c.id).returncode:
        pytest.skip("no cgroup to pause in")
    waiting = rootless.popen("wait", c.id)
    assert rootless("stop", c.id).returncode == 0
    out, err = waiting.communicate(timeout=60)
    # Init of a created container has a handler for TERM before it runs the program, and may end by it.
    assert out in ("137\n", "143\n" if state == "created" else "137\n") or "exit code unknown" in err
    late = rootless("wait", c.id)
    assert late.returncode == 1 and "exit code unknown" in late.stderr and late.stderr.count("\n") == 1
    assert "--log-file" in late.stderr, "that container has a monitor and stays, unlike one with --rm"


def test_a_time_limit_of_create_begins_with_start(container: Callable[..., Any], rootless: Any) -> None:
    c = container({"process": {"args": ["sleep", "100"]}})
    made = rootless("create", "--timeout", "0.5s", "-b", c.bundle.path, c.id, capture_output=False)
    assert made.returncode == 0
    time.sleep(0.7)
    assert c.status() == "created"
    waiting = rootless.popen("wait", c.id)
    assert rootless("start", c.id).returncode == 0
    assert waiting.communicate(timeout=60) == ("124\n", "")
    assert rootless("wait", c.id).stdout == "124\n"


def test_create_deletes_the_container_at_its_end_if_asked_for(container: Callable[..., Any], rootless: Any) -> None:
    c = container({"process": {"args": ["true"]}})
    assert rootless("create", "--rm", "-b", c.bundle.path, c.id, capture_output=False).returncode == 0
    assert rootless("start", c.id).returncode == 0
    assert until(lambda: not rootless.ids())


def test_delete_ends_what_a_killed_monitor_has_left(box: Any, rootless: Any, tmp_path: Path) -> None:
    assert detach(rootless, "--log-file", "log", "--ephemeral", f"./{BOX}", "sleep", "100").returncode == 0
    pid = int(os.readlink(tmp_path / f"state/{BOX}/monitor").split()[0])
    os.kill(pid, signal.SIGKILL)
    assert rootless("delete", "--force", BOX).returncode == 0
    assert rootless.ids() == [] and list((tmp_path / "cache/rootless/upper").iterdir()) == []


def test_list_says_how_old_and_of_what(box: Any, rootless: Any) -> None:
    assert detach(rootless, f"./{BOX}", "sleep", "100").returncode == 0
    header, row = rootless("list").stdout.splitlines()
    assert header.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER", "IMAGE", "AGE", "PORTS"]
    assert row.split()[0] == BOX and re.fullmatch(r"-\s+(just now|\d+ seconds? ago)\s+-", row.split(None, 6)[6])


def test_list_says_of_which_image_a_bundle_is(container: Callable[..., Any], rootless: Any) -> None:
    """A converted bundle says it in .oci/image.json, which may be anything."""
    c = container({"process": {"args": ["sleep", "100"]}})
    assert c.create().returncode == 0
    record = c.bundle.path / ".oci/image.json"
    record.parent.mkdir()
    for text, wanted in (('{"names": ["box:1", "b:2"]}', "box:1"), ('{"names": []}', "-"), ("[", "-"), ("[1]", "-")):
        record.write_text(text)
        header, row = rootless("list").stdout.splitlines()
        assert row[header.index("IMAGE") :].split()[0] == wanted, row
    record.unlink()
    os.mkfifo(record)
    assert rootless("list").returncode == 0, "nobody writes to a FIFO, and nobody waits for that"


@pytest.mark.parametrize("command", sorted(INSTEAD))
def test_what_does_not_exist_says_what_does(rootless: Any, command: str) -> None:
    result = rootless(command, "x")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert f"no such command: '{command}'; hint: " in result.stderr


@pytest.mark.parametrize("flag", sorted(INSTEAD_OF_FLAGS))
def test_a_flag_of_dockers_says_what_does_the_same(rootless: Any, flag: str) -> None:
    """What is spelled alike does something else: --gpus is not --cpus."""
    assert flag not in [f"--{option[0]}" for option in HOT["run"][2]]
    result = rootless("run", flag, "x", "image.tar")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert f"flag provided but not defined: {flag}; hint: {INSTEAD_OF_FLAGS[flag]}" in result.stderr


def test_inspect_of_a_container_says_what_shows_it(box: Any, rootless: Any) -> None:
    assert rootless("run", "-d", "--name", "there", f"./{BOX}", "true").returncode == 0
    result = rootless("inspect", "there")
    assert result.returncode == 1 and result.stderr.endswith("hint: rootless state there\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["run", "-d", "--log-file", "", f"./{BOX}"], "a value is missing"),
        (["stop", "nosuch"], "does not exist"), (["wait", "nosuch"], "does not exist"),
        (["stop", "--time", "soon", "x"], "not a duration"), (["stop", "--time=", "x"], "not a duration"),
        (["run", "--log-file", "f", "x"], "--detach"),
        (["run", "-d", "--log-file", "/no/such/f", f"./{BOX}"], "ENOENT"),
    ],
)  # fmt: skip
def test_bad_input(box: Any, rootless: Any, words: list[str], text: str) -> None:
    result = rootless(*words)
    assert result.returncode == 1 and re.search(text, result.stderr) and result.stderr.count("\n") == 1
    assert rootless.ids() == []
