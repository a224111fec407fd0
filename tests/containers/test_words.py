"""The words of a command line: which are the runtime's, which are the program's, and which bundle they mean."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from tests.support.checkout import LAUNCHER, TIMEOUT

SLEEPS = {"process": {"args": ["sleep", "1000"]}}
# Each word of these is a flag of ours, too.
PROGRAMS = [
    ["echo", "-h"], ["echo", "--help"], ["echo", "-d", "/root"], ["echo", "-f", "/tmp/x"], ["echo", "--bundle", "b"],
    ["echo", "--", "x"], ["echo", "--debug"], ["echo", "--nosuch"], ["echo", "x", "--", "-t"],
]  # fmt: skip


def name_after_id(c: Any) -> None:
    """Give the bundle the container's own id: what is named after a bundle has that of any other test's."""
    c.bundle.path = c.bundle.path.rename(c.bundle.path.parent / c.id)


@pytest.mark.parametrize("separator", [[], ["--"]], ids=["", "--"])
@pytest.mark.parametrize("words", PROGRAMS, ids=" ".join)
def test_the_flags_of_a_program_are_the_programs(container, words, separator) -> None:
    c = container()
    name_after_id(c)
    said = " ".join(words[1:]) + "\n"
    assert c.rootless("run", c.bundle.path, *separator, *words).stdout == said
    assert c.rootless("run", c.id, "-b", c.bundle.path, *separator, *words).stdout == said
    assert c.rootless("run", c.id, f"--bundle={c.bundle.path}", *separator, *words).stdout == said


@pytest.mark.parametrize("separator", [[], ["--"]], ids=["", "--"])
def test_after_the_id_of_exec_nothing_is_ours(container, separator) -> None:
    c = container(SLEEPS)
    assert c.run_detached().returncode == 0
    for words in PROGRAMS:
        assert c.rootless("exec", c.id, *separator, *words).stdout == " ".join(words[1:]) + "\n"
    assert c.rootless("exec", "--", c.id, *separator, "echo", "-h").stdout == "-h\n"
    done = c.rootless("exec", c.id, *separator, "-h")
    assert (done.returncode, done.stdout) == (255, "")
    assert "-h" in done.stderr
    if not separator:
        done = c.rootless("exec", c.id, "--tty", "true")  # not our flag any more
        assert done.returncode == 255 and "--tty" in done.stderr


def test_the_words_of_unshare_are_the_commands(rootless) -> None:
    for _, *words in PROGRAMS:
        for separator in ([], ["--"]):
            done = rootless("unshare", *separator, "sh", "-c", 'echo "$*"', "-h", *words)
            assert done.stdout == " ".join(words) + "\n"
    assert rootless("unshare", "--help").stdout.startswith("Usage: rootless unshare")


def test_a_flag_right_behind_the_bundle_is_ours(container, tmp_path) -> None:
    c = container()
    name_after_id(c)
    done = c.rootless("run", c.bundle.path, "--pid-file", tmp_path / "pid", "echo", "--pid-file")
    assert done.stdout == "--pid-file\n", done.stderr
    assert (tmp_path / "pid").read_text().isdigit()
    assert c.rootless("run", c.bundle.path, "-h").stdout.startswith("Usage: rootless run")
    assert "not defined: -x" in c.rootless("run", c.bundle.path, "-x", "true").stderr


def test_in_a_bundle_a_dot_and_two_dashes_mean_it(container) -> None:
    c = container()
    name_after_id(c)
    here = {"cwd": c.bundle.path}
    for words in (["."], ["./"], ["--"], [".", "--"]):
        assert c.rootless("run", *words, "hostname", "-s", **here).stderr == "", words
    assert c.rootless("run", "--", "echo", "--", "-d", **here).stdout == "-- -d\n"
    assert c.rootless("run", "-b", ".", "--", c.id, "--", "echo", "-d", **here).stdout == "-d\n"
    (c.bundle.path / "below").mkdir()
    assert c.rootless("run", "..", "echo", "up", cwd=c.bundle.path / "below").stdout == "up\n"
    away = c.bundle.path.parent
    assert c.rootless("run", "--", c.bundle.path.name, "--", "echo", "-d", cwd=away).stdout == "-d\n"
    assert "no config.json in the bundle: .;" in c.rootless("run", ".", cwd=away).stderr
    assert "rootless run ." in c.rootless("run", **here).stderr
    assert c.rootless("create", ".", stdout=subprocess.DEVNULL, capture_output=False, **here).returncode == 0
    assert c.rootless("delete", ".", **here).returncode == 0


@pytest.mark.parametrize("command", ["run", "exec"])
def test_a_terminal_has_a_kind(container, command) -> None:
    """With a terminal TERM is xterm, unless the config or --env sets it."""
    c = container({"process": {"env": ["PATH=/bin"], "args": ["sleep", "1000"]}})
    name_after_id(c)
    script = ["sh", "-c", "echo $TERM"]
    if command == "run":
        assert c.rootless("run", "-t", c.bundle.path, *script).stdout == "xterm\n"
        assert c.rootless("run", c.bundle.path, *script).stdout == "\n"
        c.bundle.patch({"process": {"env": ["PATH=/bin", "TERM=vt100"]}})
        assert c.rootless("run", "-t", c.bundle.path, *script).stdout == "vt100\n"
        return
    assert c.run_detached().returncode == 0
    assert c.rootless("exec", "-t", c.id, *script).stdout == "xterm\n"
    assert c.rootless("exec", "-t", "-e", "TERM=vt100", c.id, *script).stdout == "vt100\n"
    assert c.rootless("exec", c.id, *script).stdout == "\n"


def test_an_error_is_in_the_log_and_on_stderr_and_a_warning_in_the_log_alone(container, tmp_path) -> None:
    """As with runc: containerd reads the log, and conmon reads standard error."""
    c = container({"annotations": {"run.oci.nosuch": "x"}, "process": {"args": ["nosuch"]}})
    log = tmp_path / "log"
    done = c.rootless("--log", log, "run", "-b", c.bundle.path, c.id)
    assert done.returncode == 1
    assert "nosuch" in done.stderr and len(done.stderr.splitlines()) == 1
    assert "level=error" in log.read_text() and "nosuch" in log.read_text()
    plain = c.rootless("run", "-b", c.bundle.path, c.id).stderr.splitlines()
    assert log.read_text().count("level=warning") == len(plain) - 1 > 0


def test_a_directory_as_standard_input_is_one_line(tmp_path) -> None:
    """Python would print a long error before any of our code runs, so the launcher's shell checks first."""
    launcher = tmp_path / "rootless"
    launcher.write_text("#!/bin/sh\n" + LAUNCHER.read_text().partition("\n")[2])
    launcher.chmod(0o755)
    fd = os.open(tmp_path, os.O_RDONLY)
    done = subprocess.run([launcher, "list"], stdin=fd, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    os.close(fd)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "standard input is a directory" in done.stderr


def test_a_dot_is_an_invalid_id_where_config_names_the_file(bundle, rootless) -> None:
    """crun's suite asks for it; without --config the dot is the bundle of this directory."""
    for word in (".", ".."):
        result = rootless("run", "--config", "config.json", word, cwd=bundle.path)
        assert result.returncode == 1 and "invalid" in result.stderr, result.stderr
