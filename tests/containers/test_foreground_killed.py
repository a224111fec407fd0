"""SIGKILL of a runtime in the foreground ends its program in every phase, as a scheduler expects of a job step."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import TIMEOUT, driver
from tests.support.containers import with_user
from tests.support.processes import command_line, until


def begin(rootless, *words, **options) -> subprocess.Popen[str]:
    return rootless.popen(*words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=TIMEOUT)


def is_over(c) -> None:
    """Check that the container has ended by itself, and that an ordinary `delete` removes it."""
    c.wait()
    assert c.status() == "stopped"
    result = c.delete()
    assert (result.returncode, result.stderr) == (0, "")
    assert c.rootless.ids() == []


@pytest.mark.parametrize("uid", [0, 1000])
def test_while_the_program_runs(container, rootless, uid) -> None:
    c = container(with_user(uid))
    script = "sleep 1000 & echo ready; exec sleep 1001"
    process = begin(rootless, "run", "-b", c.bundle.path, c.id, "--", "sh", "-c", script)
    assert process.stdout.readline() == "ready\n"
    assert c.status() == "running"
    kill(process)
    is_over(c)


def test_with_a_filter_and_without_no_new_privileges(container, rootless) -> None:
    """Init keeps CAP_SYS_ADMIN until execve. Losing it there does not make the kernel forget the signal."""
    filtered = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]}
    c = container({"process": {"noNewPrivileges": False}, "linux": {"seccomp": filtered}})
    process = begin(rootless, "run", "-b", c.bundle.path, c.id, "--", "sh", "-c", "echo ready; exec sleep 1000")
    if process.stdout.readline() != "ready\n":
        process.communicate(timeout=TIMEOUT)
        pytest.skip("no libseccomp here")
    kill(process)
    is_over(c)


@pytest.mark.parametrize("moment", ["createContainer", "startContainer"])
def test_while_init_waits_for_a_hook(container, rootless, tmp_path, moment) -> None:
    """createContainer runs before init's last change of ids, startContainer after it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    inside = fifo if moment == "createContainer" else Path("/host/fifo")
    hook = {
        "path": "/bin/busybox",
        "args": ["sh", "-c", f"echo ready >{inside}; exec sleep 1000"],
        "env": ["PATH=/bin"],
    }
    c = container({"hooks": {moment: [hook]}, "process": {"args": ["true"]}})
    bind = {"destination": "/host", "type": "bind", "source": str(tmp_path), "options": ["bind"]}
    c.bundle.config["mounts"].append(bind)
    c.bundle.write()
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    process = begin(rootless, "run", "-b", c.bundle.path, c.id, stdout=subprocess.DEVNULL)
    assert select.select([reader], [], [], TIMEOUT)[0]
    os.close(reader)
    pid = c.state()["pid"]
    pidfd = os.pidfd_open(pid)
    kill(process)
    assert select.select([pidfd], [], [], TIMEOUT)[0], "init lives on"
    os.close(pidfd)
    assert c.delete("--force").returncode == 0
    assert rootless.ids() == []


@pytest.mark.parametrize("moment", ["prestart", "createRuntime", "poststart"])
def test_while_the_runtime_waits_for_a_hook(container, rootless, tmp_path, moment) -> None:
    """Init ends with the runtime. The hook is a program of the host and may go on."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo $$ >{fifo}; exec sleep 1000"], "env": ["PATH=/bin"]}
    c = container({"hooks": {moment: [hook]}, "process": {"args": ["sleep", "1000"]}})
    process = begin(rootless, "run", "-b", c.bundle.path, c.id, stdout=subprocess.DEVNULL)
    left = int(fifo.read_text())
    try:
        pidfd = os.pidfd_open(c.state()["pid"])
        kill(process)
        assert select.select([pidfd], [], [], TIMEOUT)[0], "init lives on"
        os.close(pidfd)
    finally:
        os.kill(left, signal.SIGKILL)
    assert c.delete("--force").returncode == 0
    assert rootless.ids() == []


def test_through_a_joiner(container, rootless) -> None:
    """Init is the runtime's child by CLONE_PARENT, and ends with the runtime too."""
    first = container({"process": {"args": ["sleep", "1000"]}})
    assert first.run_detached().returncode == 0
    pid = first.state()["pid"]
    kinds = {"ipc": "ipc", "network": "net", "user": "user"} if os.geteuid() else {"ipc": "ipc", "network": "net"}
    c = container()
    for namespace in c.bundle.config["linux"]["namespaces"]:
        if namespace["type"] in kinds:
            namespace["path"] = f"/proc/{pid}/ns/{kinds[namespace['type']]}"
    if os.geteuid():
        del c.bundle.config["linux"]["uidMappings"], c.bundle.config["linux"]["gidMappings"]
    c.bundle.write()
    process = begin(rootless, "run", "-b", c.bundle.path, c.id, "--", "sh", "-c", "echo ready; exec sleep 1000")
    assert process.stdout.readline() == "ready\n"
    kill(process)
    c.wait()
    assert c.status() == "stopped" and c.delete().returncode == 0
    assert first.status() == "running"


@pytest.mark.parametrize("moment", ["prepare", "clone", "follow", "_follow_setup"])
def test_before_the_state_names_a_process(container, rootless, moment) -> None:
    program = """
import os
from rootless import __main__
from rootless.runtime import create
setattr(create.Creation, sys.argv.pop(1), lambda self: os.kill(os.getpid(), 9))
__main__.launcher()
"""
    c = container({"process": {"args": ["sleep", "1000"]}})
    nothing = subprocess.DEVNULL
    words = driver(program, moment, "--root", rootless.state, "run", "-b", c.bundle.path, c.id)
    done = subprocess.run(words, stdin=nothing, stdout=nothing, stderr=nothing, check=False, timeout=TIMEOUT)
    assert done.returncode == -signal.SIGKILL
    is_over(c)


def test_a_container_that_is_being_created_is_not_deleted(container, tmp_path) -> None:
    """`list` and `state` show that it is being created, and an ordinary `delete` waits."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"read line <{fifo}"], "env": ["PATH=/bin"]}
    c = container({"hooks": {"createRuntime": [hook]}, "process": {"args": ["sleep", "1000"]}})
    create = begin(c.rootless, "create", "-b", c.bundle.path, c.id, stdout=subprocess.DEVNULL)
    with open(fifo, "w") as writer:
        assert c.status() == "creating"
        assert c.rootless("list").stdout.split("\n")[1].split()[2] == "creating"
        writer.write("go on\n")
    assert create.wait(timeout=TIMEOUT) == 0
    assert c.status() == "created"


def test_the_runtime_that_ends_before_the_kernel_is_asked(container, tmp_path) -> None:
    """Init looks at the runtime's socket after it has asked the kernel, so it does not wait for a start that cannot
    come.
    """
    program = """
import os, sys
from rootless.process import attributes
ask, calls = attributes.die_with_parent, []
def later():
    calls.append(1)
    if len(calls) == 3:  # the last: after the ids have changed
        os.kill(int(os.environ["RUNTIME"]), 9)
        with open("/pid-of-init", "w") as file:
            file.write("here")
        ask()
        return
attributes.die_with_parent = later
os.environ["RUNTIME"] = str(os.getpid())
from rootless.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
    c = container({"process": {"args": ["sleep", "1000"]}, "root": {"readonly": False}})
    for namespace in list(c.bundle.config["linux"]["namespaces"]):
        if namespace["type"] == "pid":  # otherwise the runtime would have no pid in the container
            c.bundle.config["linux"]["namespaces"].remove(namespace)
    c.bundle.write()
    words = driver(program, "--root", c.rootless.state, "run", "-b", c.bundle.path, c.id)
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    done = subprocess.run(words, check=False, timeout=TIMEOUT, **streams)
    assert done.returncode == -signal.SIGKILL
    assert (c.bundle.rootfs / "pid-of-init").exists()
    is_over(c)


def test_exec_in_the_foreground_ends_its_process(container, rootless, tmp_path) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    process = begin(rootless, "exec", "--pid-file", tmp_path / "pid", c.id, "sh", "-c", "echo ready; exec sleep 1001")
    assert process.stdout.readline() == "ready\n"
    while not (tmp_path / "pid").exists():
        assert process.poll() is None
    pidfd = os.pidfd_open(int((tmp_path / "pid").read_text()))
    kill(process)
    assert select.select([pidfd], [], [], TIMEOUT)[0], "the process lives on"
    os.close(pidfd)
    assert c.status() == "running"


def test_exec_detached_lets_its_process_live(container, tmp_path) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    streams = {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    words = ("exec", "-d", "--pid-file", str(tmp_path / "pid"), c.id, "sleep", "1001")
    assert c.rootless(*words, **streams).returncode == 0
    pid = (tmp_path / "pid").read_text()
    assert until(lambda: command_line(pid) == b"sleep\x001001\0")


@pytest.mark.parametrize("how", ["create", "detach"])
def test_a_container_that_was_meant_to_outlive_its_runtime_does(container, how) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    if how == "create":
        assert c.create().returncode == 0 and c.start().returncode == 0
    else:
        assert c.run_detached().returncode == 0
    assert c.status() == "running"  # its runtime has ended, and the kernel has not ended it
    assert c.rootless("exec", c.id, "true").returncode == 0
