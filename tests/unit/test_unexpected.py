"""An unexpected failure gives one line that says where it happened and asks for a report,
never a traceback or nothing.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rootless.errors import RootlessError, unexpected
from tests.support.checkout import CHECKOUT, LAUNCHER, TIMEOUT

# `rootless` in which reading the state raises EXCEPTION, or sends a signal to itself.
PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv.pop(1))
expression = sys.argv.pop(1)
from rootless import __main__
from rootless.runtime import container
def fail(*_args, **_more):
    exec(expression)
container.check_id = fail
__main__.launcher()
"""


def run(expression: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-IS", "-c", PROGRAM, str(CHECKOUT), expression, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)


KINDS = [
    ("1 / 0", "internal error: ZeroDivisionError"), ("raise MemoryError", "out of memory"),
    ("raise RecursionError('too deep')", "internal error: RecursionError"),
    ("import nosuch", "cannot load code: No module named 'nosuch'"),
    ("raise KeyError('k')", "internal error: KeyError"),
    ("raise OSError(28, 'x')", "ENOSPC"), ("raise EOFError", "internal error: EOFError"),
    ("raise BrokenPipeError(32, 'x')", "EPIPE"), ("raise ValueError('two\\nlines')", "two\\nlines"),
    ("raise SystemError('\\x1b[31m')", "internal error: SystemError"), ("raise AssertionError", "AssertionError"),
    ("raise ExceptionGroup('g', [OSError(5, 'x')])", "internal error: ExceptionGroup"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "text"), KINDS)
@pytest.mark.parametrize(("command", "code"), [("state", 1), ("exec", 255), ("kill", 1)])
def test_any_exception_is_one_line(expression: str, text: str, command: str, code: int) -> None:
    done = run(expression, command, "c", *(["true"] if command == "exec" else []))
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) == 1 and "\x1b" not in done.stderr, done.stderr
    assert done.stderr.startswith("rootless: ") and text in done.stderr
    assert "rootless/runtime/container.py:" in done.stderr and "please report" in done.stderr


def test_with_debug_the_traceback_follows() -> None:
    done = run("1 / 0", "--debug", "state", "c")
    assert done.returncode == 1
    assert "internal error" in done.stderr and "Traceback (most recent call last)" in done.stderr


def test_a_log_as_json_has_the_line_and_stderr_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = run("1 / 0", "--log", str(log), "--log-format", "json", "state", "c")
    assert '"level":"error"' in log.read_text() and "internal error" in log.read_text()
    assert "internal error" in done.stderr


def test_a_line_that_cannot_be_made_is_not_silence() -> None:
    done = run("__main__.log.error = None; 1 / 0".replace("__main__", "sys.modules['rootless.__main__']"), "state", "c")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    "expression",
    [
        "os.kill(os.getpid(), 2)", "raise KeyboardInterrupt",
        # Once more while the first one is being told of.
        "m = sys.modules['rootless.__main__']; k = lambda *_: os.kill(os.getpid(), 2) or 1; m._report = k; k()",
        # After the command.
        "m = sys.modules['rootless.__main__']; m.codecache.noted = lambda: os.kill(os.getpid(), 2); sys.exit",
    ],
)  # fmt: skip
def test_an_interrupt_at_an_odd_moment_has_no_traceback(expression: str) -> None:
    done = run(expression, "state", "c")
    assert done.returncode in (130, -2, 1)
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-IS", str(LAUNCHER), "--root", str(tmp_path), "list"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=TIMEOUT)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("megabytes", [14, 16, 18, 20, 22, 24, 26, 28, 32, 40])
@pytest.mark.parametrize(
    "command", [["state", "c"], ["exec", "c", "true"], ["run", "--dry-run", "c"], ["list"]], ids=" ".join
)
def test_little_memory_is_no_traceback(tmp_path: Path, megabytes: int, command: list[str]) -> None:
    """Under a limit with which the interpreter starts, the command succeeds or fails with one line."""
    limit = megabytes << 20
    done = subprocess.run(
        [sys.executable, "-IS", str(LAUNCHER), "--root", str(tmp_path), *command],
        capture_output=True, text=True, check=False, timeout=TIMEOUT, cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
    if done.returncode == 127 or "Fatal Python error" in done.stderr or "rootless" not in done.stderr + done.stdout:
        assert megabytes < 26 or command == ["list"], done.stderr  # an error of the loader or of the interpreter itself
        return
    if megabytes < 18 and done.stderr.endswith("\nMemoryError\n") and "another exception" in done.stderr:
        return  # just above that, the launcher's handler has no memory for its line
    if megabytes < 18 and done.stderr.endswith("lost sys.stderr\n"):
        return  # and Python 3.13 has none for its own report
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("count", range(3, 12))
def test_few_descriptors_are_no_traceback(tmp_path: Path, count: int) -> None:
    for command in (["state", "c"], ["exec", "c", "true"], ["kill", "c"], ["run", "--dry-run", "c"], ["list"]):
        done = subprocess.run(
            [sys.executable, "-IS", str(LAUNCHER), "--root", str(tmp_path), *command],
            capture_output=True, text=True, check=False, timeout=TIMEOUT, cwd=tmp_path,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)),
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        if "rootless: " in done.stderr:
            assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_system_call_without_a_file_names_the_code() -> None:
    try:
        os.fstat(-1)
    except OSError as error:
        found = unexpected(error)
    assert found.errno == errno.EBADF and "tests/unit/test_unexpected.py:" in found.where
    error = OSError(errno.ENOENT, "x", "/nosuch")
    assert unexpected(error).message() == "failed: /nosuch: ENOENT (no such file or directory)"
    known = RootlessError("what")
    assert unexpected(known) is known


def test_a_failed_call_with_a_descriptor_names_the_code() -> None:
    """A directory is listed by its descriptor, whose number says nothing to people."""
    try:
        os.listdir(1 << 20)
    except OSError as error:
        line = unexpected(error).message()
    assert "1048576" not in line and "tests/unit/test_unexpected.py" in line and "EBADF" in line


@pytest.mark.parametrize("hint", ["rootless delete --force c", "try another; rootless delete --force c"])
@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EMFILE, errno.ENFILE])
def test_what_removes_the_rest_is_said_although_something_is_short(number: int, hint: str) -> None:
    line = RootlessError("cannot remove the container", "c", number, hint).message()
    assert line.endswith("; then rootless delete --force c") and "try another" not in line


def test_a_terminated_conversation_is_told_by_its_signal() -> None:
    done = run("import signal; os.kill(os.getpid(), signal.SIGTERM)", "state", "c")
    assert done.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    "words", [["state"], ["nosuch"], ["run", "--nosuch", "c"], ["run", "--pid-file"]], ids=" ".join
)
def test_a_mistake_in_the_command_line_is_in_the_log_too(tmp_path: Path, words: list[str]) -> None:
    """containerd shows its user the last error of the log."""
    log = tmp_path / "log"
    command = [sys.executable, "-IS", str(LAUNCHER), "--log", str(log), "--log-format=json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    message = done.stderr.removeprefix("rootless: ").strip()
    assert json.loads(log.read_text())["msg"] == message
