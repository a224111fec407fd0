"""Run a small sample of `make fuzz`: each outcome is one line and the right exit code, and nothing is left."""

import subprocess
import sys

import pytest

from tests.faults.scenarios import SCENARIOS
from tests.faults.tracer import SUPPORTED
from tests.support.checkout import BUSYBOX, CHECKOUT

pytestmark = [
    pytest.mark.skipif(not SUPPORTED, reason="the injector knows the registers of x86_64 alone"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="this machine lacks /bin/busybox (Debian: busybox-static)"),
]


def inject(*words: str) -> None:
    command = [sys.executable, "-m", "tests.faults.inject", *words]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " trials: " in done.stdout  # a sample without trials would succeed, too


@pytest.mark.parametrize("command", [*SCENARIOS])
def test_a_call_that_fails(command) -> None:
    inject(command, "--sample", "12")


@pytest.mark.parametrize("command", [*SCENARIOS])
def test_a_call_that_fails_in_every_process_from_there_on(command) -> None:
    """The call fails from there on, so the steps that remove what was made fail as well."""
    inject(command, "--sample", "5", "--mode", "every")


def test_an_init_that_cannot_accept_yet() -> None:
    """`create` has succeeded when init waits for `start`, so init does not end when accept(2) fails."""
    inject("create", "--only", "accept4")
    inject("create", "--mode", "every", "--only", "accept4")


def test_a_joiner_that_is_killed_before_it_names_its_child() -> None:
    """`exec` sees that the joiner has ended, although the joiner's child still holds the joiner's end of the socket."""
    inject("exec", "--mode", "kill", "--only", "sendmsg")


def test_a_call_that_fails_with_ranges_hooks_and_a_filter() -> None:
    inject("create", "run", "exec", "--sample", "6", "--ranges")


@pytest.mark.parametrize("command", ["create", "start", "run", "exec", "delete", "convert", "pack"])
def test_a_command_that_is_killed(command) -> None:
    inject(command, "--sample", "4", "--mode", "kill")


@pytest.mark.parametrize("command", ["create", "run", "exec", "delete"])
def test_a_command_that_stands_still(command) -> None:
    """`delete --force` finishes although the command is stopped.

    It waits two seconds for the command that has the lock.
    """
    inject(command, "--sample", "2", "--mode", "stop")
