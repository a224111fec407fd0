"""The same call of subprocess and of rootless, in each way to run a program, has the same result or the same error."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import copy
import enum
import gc
import os
import pickle
import select
import signal
import subprocess
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

import pytest

import rootless
from rootless import errors
from rootless.api import named
from rootless.api.popen import Executed
from rootless.kernel import channel

PIPE = subprocess.PIPE
LONG = "x" * 300
ECHO = ["sh", "-c", "echo $A"]
WAYS = ["plain", "pid 1", "named", "exec", "sandbox"]
PARTS = ("errno", "strerror", "filename", "filename2")


class Word(enum.StrEnum):
    NAME = "name"


class Number(enum.IntEnum):
    ONE = 1


def outcome(run: Any, *args: Any, **keywords: Any) -> Any:
    """Return what a call does: the result, or the error that it is for a caller of subprocess."""
    try:
        done = run(*args, **keywords)
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
        if isinstance(error, OSError):
            return kinds[0], *(getattr(error, part) for part in PARTS)
        return kinds[0]
    return done.returncode, done.stdout


def run_in(way: str, args: Any, **keywords: Any) -> Any:
    if way == "exec":
        with rootless.Popen(["sleep", "1000"]) as box:
            try:
                return box.exec(args, stdout=PIPE, **keywords)
            finally:
                box.kill()
    if way == "sandbox":
        with rootless.Sandbox() as sandbox:
            return sandbox.run(args, **keywords)
    named: dict[str, Any] = {"name": f"twin-{os.getpid()}"} if way == "named" else {}
    return rootless.run(args, stdout=PIPE, init=way != "pid 1", **named, **keywords)


CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "no program": ([""], {}),
    "a missing program": (["nosuch"], {}),
    "a name that is too long": ([LONG], {}),
    "a path that is too long": (["/" + LONG], {}),
    "a directory": (["/etc"], {}),
    "the directory itself": (["."], {}),
    "a file that is not executable": (["passwd"], {"env": {"PATH": "/etc:/nosuch"}}),
    "no executable": (["true"], {"executable": ""}),
    "an executable with a NUL": (["true"], {"executable": "a\0b"}),
    "a missing executable": (["true"], {"executable": "/nosuch/x"}),
    "a missing directory": (["true"], {"cwd": "/usr/nosuch"}),
    "a missing directory as bytes": (["true"], {"cwd": b"/nosuch"}),
    "a missing directory as a path": (["true"], {"cwd": PurePath("/nosuch")}),
    "a missing directory and program": (["nosuch"], {"cwd": "/nosuch"}),
    "a directory that is a file": (["true"], {"cwd": "/etc/passwd"}),
    "a directory that is too long": (["true"], {"cwd": "/" + LONG}),
    "an empty directory": (["true"], {"cwd": ""}),
    "a relative program": (["./sh", "-c", "pwd"], {"cwd": "/usr/bin"}),
    "an environment without PATH": (ECHO, {"env": {"A": "1"}}),
    "an empty environment": (["sh", "-c", "env | grep -v -e PWD -e _= -e SHLVL"], {"env": {}}),
    "an environment with its own HOME alone": (["env"], {"env": {"HOME": "/x"}}),
    "bytes in the environment": (ECHO, {"env": {b"A": b"\xff"}}),
    "a relative PATH": (ECHO, {"env": {"PATH": ".", "A": "x\ny"}, "cwd": "/usr/bin"}),
    "an umask that is no int": (["true"], {"umask": 2**40}),
    "the umask of an enum": (["sh", "-c", "umask"], {"umask": Number.ONE}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_subprocess_s(name: str, way: str) -> None:
    args, keywords = CALLS[name]
    got = outcome(run_in, way, args, **keywords)
    expected = outcome(subprocess.run, args, stdout=PIPE, **keywords)
    if name == "no program" and way in ("named", "exec"):  # config.json refuses it
        expected = ("FileNotFoundError", 2, os.strerror(2), "", None)
    assert got == expected


INPUTS: list[Any] = ["", b"", bytearray(), memoryview(b""), 0, [], "x", b"x", 5, ["a"]]


@pytest.mark.parametrize("text", [False, True], ids=["bytes", "text"])
@pytest.mark.parametrize("number", range(len(INPUTS)))
def test_input_is_what_subprocess_takes(number: int, text: bool) -> None:
    """Without text it takes whatever is false for no input."""
    data = INPUTS[number]

    def communicate(start: Any, args: list[str]) -> Any:
        with start(args, stdin=PIPE, stdout=PIPE, text=text) as process:
            try:
                output = process.communicate(data)[0]
            finally:
                process.kill()
            return subprocess.CompletedProcess(args, 0, output)

    def run_async(args: list[str], **keywords: Any) -> Any:
        return asyncio.run(rootless.async_run(args, **keywords))

    keywords: dict[str, Any] = {"input": data, "text": text, "capture_output": True}
    expected = outcome(subprocess.run, ["cat"], **keywords)
    for run in (rootless.run, run_async):
        assert outcome(run, ["cat"], **keywords) == expected
    for start in (subprocess.Popen, rootless.Popen):
        assert outcome(communicate, start, ["cat"]) == expected


def test_a_program_that_the_kernel_refuses_has_its_error(busybox_root: Any) -> None:
    (busybox_root / "bin" / "nothing").write_text("neither ELF nor #!")
    (busybox_root / "bin" / "nothing").chmod(0o755)
    for way in WAYS[:3]:
        with pytest.raises(OSError, match="neither an ELF program") as caught:
            run_in(way, ["nothing"], rootfs=busybox_root)
        assert (caught.value.errno, caught.value.filename) == (8, "nothing")


def test_the_hint_brings_a_program_in_and_not_a_whole_home(tmp_path: Any, monkeypatch: Any) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}/tools:/usr/bin:/bin")
    for name, place in (("tool", "tool"), ("bin/tool", "bin/tool"), ("venv/bin/tool", "venv"), ("tools/own", "tools")):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\necho here\n")
        program.chmod(0o755)
        with pytest.raises(FileNotFoundError) as caught:
            rootless.run([program])
        assert str(caught.value).endswith(f"hint: volumes=['{tmp_path}/{place}:{tmp_path}/{place}:ro']")
        volumes = [f"{tmp_path}/{place}:{tmp_path}/{place}:ro"]
        assert rootless.run([program], volumes=volumes, stdout=PIPE).stdout == b"here\n"
    (tmp_path / "venv/bin/other").symlink_to("tool")  # two paths, one place
    with pytest.raises(FileNotFoundError, match=r"volumes=\['[^']*/venv:ro'\]$"):
        rootless.run([tmp_path / "venv/bin/other"])
    with pytest.raises(FileNotFoundError, match=r"tools:ro'\], and its path .*/tools/own$"):
        rootless.run(["own"])


def test_numbers_that_are_no_int() -> None:
    for name in ("umask", "process_group"):
        with pytest.raises(OverflowError, match=name):
            rootless.run(["true"], **{name: 2**40})
    with pytest.raises(PermissionError, match="process_group=4321") as caught:
        rootless.run(["true"], process_group=4321)
    assert caught.value.filename is None


def test_a_name_is_free_again_when_its_container_has_ended() -> None:
    name = f"again-{os.getpid()}"
    for _ in range(30):
        assert rootless.run(["true"], name=name).returncode == 0


def test_a_named_program_that_ends_at_once_has_started_all_the_same() -> None:
    """Its init may reap it before the runtime can open a pidfd."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    ours, theirs = channel.pair()
    named.tell_start(theirs, gone.pid)
    assert channel.receive(ours, channel.EXECUTING)[1:] == (b"%d" % gone.pid, [])
    ours.close()


@pytest.mark.parametrize("way", WAYS[:4])
def test_what_the_program_closes_is_closed_for_the_caller(way: str) -> None:
    reading, writing = os.pipe()
    args = ["bash", "-c", f"exec >&- {writing}>&-; read line"]
    keywords: dict[str, Any] = {"stdin": PIPE, "stdout": PIPE, "pass_fds": [writing]}
    name: dict[str, Any] = {"name": f"twin-{os.getpid()}"} if way == "named" else {}
    with contextlib.ExitStack() as stack:
        if way == "exec":
            box = stack.enter_context(rootless.Popen(["sleep", "1000"]))
            stack.callback(box.kill)
            process: rootless.Popen[bytes] = Executed(box, args, **keywords)
        else:
            process = rootless.Popen(args, init=way != "pid 1", **name, **keywords)
        os.close(writing)
        assert process.stdout
        for stream in (process.stdout, reading):
            assert select.select([stream], [], [], 30)[0] == [stream]
        assert process.poll() is None
        assert process.communicate(b"line\n") == (b"", None)
    os.close(reading)


@pytest.mark.parametrize("name", ["", f"base-{os.getpid()}"], ids=["no name", "a name"])
def test_exec_begins_where_the_program_did(name: str) -> None:
    with rootless.Popen(["cat"], stdin=PIPE, env={"A": "1"}, cwd="/usr/lib", name=name) as box:

        def ask(**keywords: Any) -> list[str]:
            return box.exec("pwd; echo $A$B", shell=True, stdout=PIPE, text=True, **keywords).stdout.split()

        assert ask() == ["/usr/lib", "1"]
        assert ask(cwd="/etc") == ["/etc", "1"]
        assert ask(env={"B": "2"}) == ["/usr/lib", "2"]


def test_errors_and_results_pass_from_process_to_process() -> None:
    examples = [
        errors.RootlessError("what", "where", 2, "hint"),
        errors.NoSuchContainer("id"),
        errors.IdInUse("id", "/root/id"),
        errors.SpecError("what", "/pointer"),
        rootless.TaskDied("function", 1, oom_killed=True),
    ]
    calls: list[tuple[list[str], dict[str, Any]]] = [
        (["nosuch"], {}), (["true"], {"cwd": "/etc/passwd"}), (["true"], {"user": "nosuch"}),
        (["false"], {"check": True}), (["sleep", "1000"], {"timeout": 0.1}),
    ]  # fmt: skip
    for args, keywords in calls:
        with pytest.raises((rootless.RootlessError, subprocess.SubprocessError)) as caught:
            rootless.run(args, **keywords)
        examples.append(caught.value)  # type: ignore[arg-type]
    for error in examples:
        error.add_note("a note")
        for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
            assert (type(other), str(other), other.args) == (type(error), str(error), error.args)
            assert vars(other) == vars(error)
            for part in PARTS:
                assert getattr(other, part, None) == getattr(error, part, None)
    done = rootless.run(["echo", "x"], capture_output=True)
    assert pickle.loads(pickle.dumps(done)).__dict__ == copy.deepcopy(done).__dict__ == vars(done)


@pytest.mark.filterwarnings("error")
def test_a_popen_whose_returncode_somebody_has_set_keeps_nothing_open() -> None:
    rootless.run(["true"])
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    process = rootless.Popen(["sleep", "1000"])
    os.kill(process.pid, signal.SIGKILL)
    process.returncode = -signal.SIGKILL
    del process
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_keywords_may_be_what_is_like_a_str_or_a_dict() -> None:
    script = "hostname; ulimit -n; id -u"
    like: list[tuple[dict[str, Any], str]] = [
        ({"hostname": Word.NAME}, "name"),
        ({"config": collections.OrderedDict(hostname="ordered")}, "ordered"),
        ({"config": MappingProxyType({"hostname": Word.NAME})}, "name"),
        ({"ulimits": MappingProxyType({"nofile": [100, 200]})}, "100"),
        ({"ulimits": collections.defaultdict(int, nofile=64)}, "64"),
        ({"init": None, "limits": None, "user": Number.ONE}, "1"),
        ({"user": True}, "1"),
        ({"name": Word.NAME, "network": "none"}, "rootless"),
    ]
    for keywords, word in like:
        assert word in rootless.run(script, shell=True, stdout=PIPE, text=True, **keywords).stdout.split()
    assert rootless.run("echo $$", shell=True, stdout=PIPE, init=None).stdout != b"1\n"  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("keywords", "kind"),
    [
        ({"ulimits": "nofile=64"}, TypeError), ({"name": 5}, TypeError), ({"config": {"hostname": b"x"}}, TypeError),
        ({"volumes": [("/usr", "/x")]}, TypeError), ({"rootfs": ""}, ValueError), ({"bundle": ""}, ValueError),
    ],
    ids=str,
)  # fmt: skip
def test_keywords_of_a_wrong_type_are_named(keywords: dict[str, Any], kind: type[Exception]) -> None:
    word = "str, bytes or os.PathLike" if "volumes" in keywords else next(iter(keywords))
    with pytest.raises(kind, match=word):
        rootless.run(["true"], **keywords)


def test_a_rootfs_may_be_bytes(busybox_root: Any) -> None:
    assert rootless.run(["true"], rootfs=os.fsencode(busybox_root)).returncode == 0
