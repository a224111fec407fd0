"""The third Ctrl-C kills a program that does not end, and so does the second TERM if the program cannot notice it."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
from typing import Any

import pytest

from rootless.runtime.escalation import ends_by_default, notices
from tests.support.checkout import CHECKOUT, TIMEOUT

WAITS = "echo ready; while :; do sleep 1000 & wait $!; done"
ANSWERS = f"trap 'echo here' USR1; {WAITS}"


def started(c: Any, *command: str, **options: Any) -> subprocess.Popen[str]:
    """Start `run` in the foreground, of a program that says `ready`; return the process."""
    process = c.rootless.popen("run", "-b", c.bundle.path, c.id, "--", *command, **options)
    assert process.stdout.readline() == "ready\n"
    c.rootless.note_cgroups()
    return process


def told(process: subprocess.Popen[str], text: str) -> str:
    """Return the line on standard error that has the text."""
    assert select.select([process.stderr], [], [], TIMEOUT)[0], "nothing is said"
    line = process.stderr.readline()
    assert text in line
    return line


def answers(process: subprocess.Popen[str]) -> None:
    """Send a signal for which the program has a handler, and wait for its answer: what was sent before has arrived."""
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "here\n"


def test_interrupts_that_reach_nobody_kill(container) -> None:
    """Pid 1 has no handler, so the kernel drops each signal, and the third kills the container."""
    process = started(container(), "sh", "-c", "echo ready; exec sleep 1000")
    while not select.select([process.stderr], [], [], 0.5)[0]:
        process.send_signal(signal.SIGINT)
    told(process, "once more")
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 137
    assert process.communicate(timeout=TIMEOUT) == ("", "")


@pytest.mark.parametrize("script", [f"trap 'echo here' USR1; trap '' INT; {WAITS}",
                                    f"trap 'echo here' USR1; trap 'echo caught' INT; {WAITS}"])  # fmt: skip
def test_the_third_interrupt_kills(container, script: str) -> None:
    process = started(container(), "sh", "-c", script)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        if "caught" in script:
            assert process.stdout.readline() == "caught\n"
        answers(process)
    assert told(process, "once more").startswith("rootless: warning: ")
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 137
    assert process.communicate(timeout=TIMEOUT) in (("", ""), ("caught\n", ""))  # the third comes just before the kill


def test_with_a_terminal_of_its_own_interrupts_are_the_programs(container) -> None:
    c = container({"process": {"terminal": True}})
    process = c.rootless.popen("run", "-b", c.bundle.path, c.id, "--", "sh", "-c", f"trap '' INT; {ANSWERS}")
    assert process.stdout.readline() == "ready\n"
    for _ in range(4):
        process.send_signal(signal.SIGINT)
        answers(process)
    assert c.kill("KILL").returncode == 0
    assert process.wait(TIMEOUT) == 137
    assert process.communicate(timeout=TIMEOUT) == ("", "")


def test_the_note_is_on_stderr_even_where_there_is_a_log(container, tmp_path) -> None:
    c = container()
    script = f"trap '' INT; {ANSWERS}"
    log = tmp_path / "log"
    process = c.rootless.popen("--log", log, "run", "-b", c.bundle.path, c.id, "--", "sh", "-c", script)
    assert process.stdout.readline() == "ready\n"
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        answers(process)
    told(process, "once more")
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 137
    process.communicate(timeout=TIMEOUT)


QUICK = """
import sys
sys.path.insert(0, {checkout!r})
from rootless.runtime import escalation
escalation._PATIENCE = 0.5
from rootless.__main__ import launcher
launcher()
"""


@pytest.mark.parametrize(
    ("script", "killed"),
    [("", True), ("trap '' TERM;", True), ("trap 'echo caught' TERM;", False)],
    ids=["no handler", "ignored", "handled"],
)
def test_the_second_term_kills_in_the_end_what_has_no_handler(container, script: str, killed: bool) -> None:
    """The test shortens the ten seconds to half a second."""
    c = container()
    command = [sys.executable, "-IS", "-c", QUICK.format(checkout=str(CHECKOUT)), "--root", str(c.rootless.state)]
    script = f"trap 'echo here' USR1; {script} {WAITS}"
    process = subprocess.Popen(
        [*command, "run", "-b", str(c.bundle.path), c.id, "--", "sh", "-c", script],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout and process.stdout.readline() == "ready\n"
    c.rootless.note_cgroups()
    process.send_signal(signal.SIGTERM)
    if not killed:
        assert process.stdout.readline() == "caught\n"
    answers(process)
    process.send_signal(signal.SIGTERM)
    if killed:  # half a second later: no answer is asked for, because on a busy machine it would come too late
        assert process.wait(TIMEOUT) == 137
        assert "no handler for TERM" in process.communicate(timeout=TIMEOUT)[1]
        return
    assert process.stdout.readline() == "caught\n"
    answers(process)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    answers(process)
    assert c.kill("KILL").returncode == 0
    assert process.wait(TIMEOUT) == 137
    assert process.communicate(timeout=TIMEOUT) == ("", "")


def test_who_waits_with_the_signal_blocked_notices_it() -> None:
    """A handler and a blocked signal count as noticed; the default action ends only a process that has neither."""
    script = "import signal, sys; {}; print('ready', flush=True); sys.stdin.read()"
    for call, expected in (
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [15])", (True, False)),
        ("signal.signal(15, lambda *_: 0)", (True, False)),
        ("signal.signal(15, signal.SIG_IGN)", (False, False)),
        ("signal.signal(15, signal.SIG_DFL)", (False, True)),
    ):
        command = [sys.executable, "-c", script.format(call)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout and process.stdout.readline() == "ready\n"
            assert (notices(process.pid, 15), ends_by_default(process.pid, 15)) == expected, call
            process.communicate(timeout=TIMEOUT)
    gone = 2**22 + 1  # no process has this pid, so there is nobody to kill
    assert notices(gone, 15) and not ends_by_default(gone, 15)


def test_foreground_exec_is_killed_alone(container) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    process = c.rootless.popen("exec", c.id, "sh", "-c", f"trap 'echo here' USR1; trap '' INT; {WAITS}")
    assert process.stdout.readline() == "ready\n"
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        answers(process)
    told(process, "once more")
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 137
    assert c.status() == "running"
    assert c.delete("--force").returncode == 0  # what the program started has the pipes
    process.communicate(timeout=TIMEOUT)
