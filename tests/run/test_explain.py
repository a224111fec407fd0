"""`rootless explain` as people type it: on a bundle, on an archive, on a terminal, through a pipe."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.run.test_archive import image_of, tar_of


def story(c: Any, *words: str | Path, **more: Any) -> str:
    """Return what `explain` prints of a container's bundle, after checking that standard error is empty."""
    done = c.rootless("explain", *words, **more)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return str(done.stdout)


def steps(text: str) -> tuple[list[str], list[str]]:
    """Return the numbers and the pointers of the steps of a story, or of the plan."""
    return re.findall(r"^ +(\d+) ", text, re.MULTILINE), re.findall(r"\[(/[^ ]*)\]$", text, re.MULTILINE)


def test_it_tells_each_step_of_the_dry_run(container) -> None:
    c = container()
    told = story(c, c.bundle.path, "--", "id", "-u")
    planned = c.rootless("run", "--dry-run", c.bundle.path, "--", "id", "-u")
    assert len(steps(told)[0]) > 30 and steps(told) == steps(planned.stdout)
    assert "Init becomes the program: id -u. [/process/args]\n" in told
    assert max(map(len, told.splitlines())) <= 100 and "\x1b" not in told
    assert c.rootless("list", "--quiet").stdout == ""


def test_the_flags_of_run_change_the_story(container) -> None:
    c = container({"root": {"readonly": False}})
    told = story(c, "--read-only", "--hostname", "told", c.bundle.path)
    assert "sets the host name told." in told and "makes the root file system read-only." in told


def test_in_a_bundles_directory_all_words_are_the_programs(container) -> None:
    c = container()
    assert "becomes the program: ls -l. [" in story(c, "--", "ls", "-l", cwd=c.bundle.path)
    assert steps(story(c, cwd=c.bundle.path)) == steps(story(c, ".", cwd=c.bundle.path))


def test_an_archive_is_unpacked_and_explained(container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    archive = tmp_path / "box.tar"
    archive.write_bytes(image_of(tar_of({"bin": None, "bin/true": b"x"}), {"Cmd": ["/bin/true"], "Hostname": "saved"}))
    told = story(container(), archive)
    assert "becomes the program: /bin/true. [" in told


def test_what_is_wrong_is_one_line(container, tmp_path: Path) -> None:
    c = container({"process": {"cwd": 1}})
    for words, line in (
        ((c.bundle.path,), "found 1, allowed is a string: /process/cwd"),
        ((tmp_path / "nowhere",), "no such bundle or image archive: "),
        ((), "a bundle or an image archive is missing; hint: rootless explain ./BUNDLE"),
        (("--color", "red", c.bundle.path), "--color; hint: auto, always or never"),
    ):
        done = c.rootless("explain", *words, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1) and line in done.stderr


def on_a_terminal(c: Any, *words: str | Path, **environment: str) -> str:
    """Return what `explain` writes to a terminal."""
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm", **environment}
    with subprocess.Popen(c.rootless.command("explain", *words), stdin=slave, stdout=slave, stderr=slave, env=env):
        os.close(slave)
        output = b""
        try:
            while data := os.read(master, 65536):
                output += data
        except OSError:  # EIO: nobody has the terminal's other end any more
            pass
    os.close(master)
    return output.decode()


def test_colours_are_for_terminals(container, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    c = container()
    assert "\x1b[" in on_a_terminal(c, c.bundle.path)
    assert "\x1b" not in on_a_terminal(c, c.bundle.path, NO_COLOR="1")
    assert "\x1b" not in on_a_terminal(c, "--color=never", c.bundle.path)
    assert "\x1b[" in on_a_terminal(c, "--color=always", c.bundle.path, NO_COLOR="1")
    assert "\x1b[" in story(c, "--color=always", c.bundle.path)


def answers(text: str) -> list[str]:
    """Return what the kernel answered, line by line."""
    return re.findall(r"^      => (.*)$", text, re.MULTILINE)


def test_a_trace_tells_what_the_program_sees(container) -> None:
    """The inodes, mount ids and ids in the story are those that the program itself reads."""
    c = container({"linux": {"uidMappings": None, "gidMappings": None}})
    c.bundle.patch({"process": {"user": {"uid": 0, "gid": 0}}})
    script = "for n in uts pid mnt; do readlink /proc/self/ns/$n; done; cat /proc/self/mountinfo; exit 3"
    done = c.rootless("explain", "--trace", c.bundle.path, "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (3, "")
    before, _, rest = done.stdout.partition("What it writes follows.\n\n")
    output, _, after = rest.partition("\nThe program\n")
    lines = output.splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == ["uts", "pid", "mnt"]
    assert all(any(answer.startswith(f"{line}; outside ") for answer in answers(before)) for line in lines[:3])
    mounts = {line.split()[4]: line.split()[0] for line in lines[3:]}
    for path in ("/", "/proc", "/dev/shm"):
        assert any(answer.startswith(f"mount {mounts[path]}, on mount ") for answer in answers(before)), path
    if os.geteuid():
        assert f"uid_map: 0 {os.geteuid()} 1" in [answer.partition(";")[0] for answer in answers(before)]
    assert "the program ended with exit code 3" in answers(after)
    assert steps(before)[0] + steps(after)[0] == steps(story(c, c.bundle.path, "--", "sh", "-c", script))[0]
    assert sum(answer.endswith(" ms until the next step") for answer in answers(before)) > 30
    assert max(map(len, [*before.splitlines(), *after.splitlines()])) <= 100
    assert c.rootless("list", "--quiet").stdout == ""


def test_hooks_after_the_program_are_told_after_it(container) -> None:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "true"]}
    c = container({"hooks": {"createRuntime": [hook], "startContainer": [hook], "poststop": [hook]}})
    told = story(c, "--trace", c.bundle.path, "--", "echo", "from the program")
    order = ["[/hooks/createRuntime/0]", "What it writes", "\nfrom the program\n", "[/hooks/startContainer/0]",
             "[/process/args]", "[/hooks/poststop/0]"]  # fmt: skip
    assert [told.count(each) for each in order] == [1] * len(order)
    assert sorted(order, key=told.index) == order


def test_a_set_up_that_fails_is_told_as_far_as_it_came(container, tmp_path: Path) -> None:
    """The error is in the log that the user asked for, without the steps that only the story needs."""
    c = container({"mounts": None})
    c.bundle.config["mounts"] = [{"destination": "/data", "type": "bind", "source": "/nowhere", "options": ["bind"]}]
    c.bundle.write()
    log = tmp_path / "log"
    done = c.rootless("--log", log, "explain", "--trace", c.bundle.path)
    assert done.returncode == 1 and "/nowhere" in done.stderr and done.stderr.count("\n") == 1
    assert steps(done.stdout)[1][-1] == "/mounts/0"
    assert "/nowhere" in log.read_text() and "level=debug" not in log.read_text()
    assert c.rootless("list", "--quiet").stdout == ""


def test_a_program_that_is_missing(container) -> None:
    c = container()
    done = c.rootless("explain", "--trace", c.bundle.path, "--", "nowhere")
    assert done.returncode == 1 and "nowhere" in done.stderr and done.stderr.count("\n") == 1
    assert "[/process/noNewPrivileges]" in done.stdout and "the program ended" not in done.stdout
    assert c.rootless("list", "--quiet").stdout == ""
