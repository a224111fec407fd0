"""No descriptor of the host is open while the kernel looks up a path of the container (CVE-2024-21626).

execve(2) resolves the program, its `#!` line and its ELF interpreter before it closes what is close-on-exec. The image
of each test names a file of the host through /proc/self/fd, for every number that the runtime might use.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from rootless.kernel.find_program import find_program
from tests.support.checkout import TIMEOUT, driver

NUMBERS = range(3, 16)
HOST = "said by the host's file"


@pytest.fixture
def host_tool(tmp_path, busybox):
    """Return a program of the host that the container has no name for."""
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "tool").write_text(f"#!/bin/busybox sh\necho {HOST}\n")
    (folder / "tool").chmod(0o755)
    shutil.copy(busybox, folder / "box")
    return folder


@pytest.fixture
def running(container):
    """Return a container with links to the host's files in /fd3, /fd4 and so on, which no process in it has open."""

    def make(host_tool: Path):
        c = container({"process": {"args": ["sleep", "1000"]}})
        for number in NUMBERS:
            (c.bundle.rootfs / f"fd{number}").symlink_to(f"/proc/self/fd/{number}/..{host_tool}")
        assert c.run_detached().returncode == 0
        return c

    return make


def fails(c, *words: str) -> None:
    result = c.rootless("exec", *words)
    assert HOST not in result.stdout + result.stderr
    assert result.returncode == 255, result.stdout
    assert result.stderr.startswith("rootless: exec failed: ") and result.stderr.count("\n") == 1


def test_exec_of_a_path_through_a_descriptor(running, host_tool) -> None:
    c = running(host_tool)
    for number in NUMBERS:
        fails(c, c.id, f"/proc/self/fd/{number}/..{host_tool}/tool")
        fails(c, c.id, f"/proc/thread-self/fd/{number}/..{host_tool}/tool")
        fails(c, c.id, f"/proc/self/task/../fd/{number}/..{host_tool}/tool")


def test_exec_of_a_link_of_the_image(running, host_tool) -> None:
    c = running(host_tool)
    for number in NUMBERS:
        fails(c, c.id, f"/fd{number}/tool")


def test_exec_with_a_search_path_of_descriptors(running, host_tool) -> None:
    c = running(host_tool)
    through = ":".join(f"/proc/self/fd/{number}/..{host_tool}" for number in NUMBERS)
    fails(c, "--env", f"PATH={through}", c.id, "tool")
    fails(c, "--env", "PATH=" + ":".join(f"/fd{number}" for number in NUMBERS), c.id, "tool")


def test_exec_of_a_script_whose_interpreter_is_the_hosts(running, host_tool) -> None:
    """The script is the container's own, and the kernel does not find the interpreter of its first line."""
    c = running(host_tool)
    for number in NUMBERS:
        script = c.bundle.rootfs / f"script{number}"
        script.write_text(f"#!/proc/self/fd/{number}/..{host_tool}/box echo {HOST}\n")
        script.chmod(0o755)
        fails(c, c.id, f"/script{number}")


def test_exec_in_a_working_directory_of_the_host(running, host_tool) -> None:
    c = running(host_tool)
    for number in NUMBERS:
        fails(c, "--cwd", f"/fd{number}", c.id, "./tool")


@pytest.mark.parametrize("command", ["run", "exec"])
def test_home_is_not_read_from_the_hosts_passwd(container, tmp_path, command) -> None:
    """The image's /etc/passwd is a link to a file of the host, and HOME does not come from that file."""
    (tmp_path / "passwd").write_text(f"root:x:0:0::/{HOST.replace(' ', '-')}:/bin/sh\n")
    c = container({"process": {"args": ["sleep", "1000"]}})
    passwd = c.bundle.rootfs / "etc/passwd"
    if command == "exec":
        assert c.run_detached().returncode == 0
    for number in NUMBERS:
        passwd.unlink()
        passwd.symlink_to(f"/proc/self/fd/{number}/..{tmp_path}/passwd")
        script = ("sh", "-c", "echo $HOME")
        result = c.rootless("exec", c.id, *script) if command == "exec" else c.run(*script)
        assert (result.returncode, result.stdout) == (0, "/\n"), result.stderr


def test_run_of_a_path_through_a_descriptor(container, host_tool) -> None:
    c = container()
    for number in NUMBERS:
        result = c.run(f"/proc/self/fd/{number}/..{host_tool}/tool")
        assert result.returncode == 1 and HOST not in result.stdout


# --- what our children inherit of the caller

STANDARD = {"0", "1", "2", "3"}  # 3 is the directory that `ls` reads


def with_open(number: int, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command like a caller that has left a descriptor open under that number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def leave_open() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        os.dup2(os.open("/", os.O_RDONLY), number)

    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        preexec_fn=leave_open,
        close_fds=False,
    )


@pytest.mark.parametrize(
    "moment", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
)
@pytest.mark.parametrize("number", [5, 3000])
def test_a_hook_inherits_nothing_of_the_caller(container, tmp_path, moment, number) -> None:
    """A startContainer hook's path is looked up in the container, and no directory of the host is open then."""
    out = "/seen" if moment == "startContainer" else f"{tmp_path}/seen"
    script = f"ls /proc/self/fd > {out}"
    hook = {"path": "/bin/busybox", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}
    c = container({"hooks": {moment: [hook]}, "process": {"args": ["true"]}, "root": {"readonly": False}})
    result = with_open(number, c.rootless.command("run", "-b", c.bundle.path, c.id))
    assert result.returncode == 0, result.stderr
    seen = c.bundle.rootfs / "seen" if moment == "startContainer" else tmp_path / "seen"
    assert set(seen.read_text().split()) <= STANDARD


def test_newuidmap_inherits_nothing_of_the_caller(rootless, tmp_path) -> None:
    """newuidmap(1), which is set-user-ID root, gets no descriptor of the caller."""
    real = find_program("newuidmap")
    if os.geteuid() == 0 or not real:
        pytest.skip("newuidmap is for ordinary users, and comes with the package uidmap")
    (tmp_path / "newuidmap").write_text(f'#!/bin/sh\nls /proc/self/fd >{tmp_path}/seen\nexec {real} "$@"\n')
    (tmp_path / "newuidmap").chmod(0o755)
    command = ["env", f"PATH={tmp_path}:{os.environ['PATH']}", *rootless.command("unshare", "true")]
    result = with_open(9, command)
    if not (tmp_path / "seen").exists():
        pytest.skip("this user has no range of subordinate ids")
    assert result.returncode == 0, result.stderr
    assert set((tmp_path / "seen").read_text().split()) <= STANDARD


def test_unshare_passes_on_what_the_caller_has_and_nothing_of_ours(rootless) -> None:
    """`unshare` passes on the caller's descriptors like unshare(1), because a shell's `<(command)` is /dev/fd/63; ours
    are closed.
    """
    result = with_open(
        63, rootless.command("unshare", "python3", "-IS", "-c", "import os; print(os.listdir('/proc/self/fd'))")
    )
    assert result.returncode == 0, result.stderr
    assert set(json.loads(result.stdout.replace("'", '"'))) == {"0", "1", "2", "3", "63"}  # 3: the directory itself


def test_criu_inherits_only_its_socket(tmp_path) -> None:
    fake = tmp_path / "criu"
    fake.write_text(f"#!/bin/sh\nls /proc/self/fd >{tmp_path}/seen\n")
    fake.chmod(0o755)
    program = """
import sys
from rootless.runtime import criu
session = criu.Session(sys.argv[1])
session.close()
"""
    result = with_open(2000, driver(program, fake))
    assert result.returncode == 0, result.stderr
    assert set((tmp_path / "seen").read_text().split()) <= {*STANDARD, "4"}


def test_unshare_says_in_the_log_that_there_is_no_such_program(rootless, tmp_path) -> None:
    """The log is the only descriptor of ours that is open at that time, and the program would not get it."""
    result = rootless("--log", tmp_path / "log", "unshare", "no-such-program")
    assert result.returncode == 1 and "no-such-program" in (tmp_path / "log").read_text()
    result = rootless("--log", tmp_path / "log", "unshare", "sh", "-c", "ls -l /proc/self/fd")
    assert result.returncode == 0 and str(tmp_path) not in result.stdout
