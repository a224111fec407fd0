"""What `exec` starts in a created container cannot reach its init, which has no filter yet.

Init has to be dumpable, because clients open /proc/PID/ns/* between create and start. So it is protected by its
capabilities: it keeps one that no program of the container can get, and ptrace(2)'s access check refuses a process that
lacks it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rootless.kernel.caps import CAPABILITIES
from tests.support.containers import merge, with_user

ALL = ["CAP_SYS_PTRACE", "CAP_KILL", "CAP_AUDIT_WRITE", "CAP_NET_BIND_SERVICE"]
LOOK = """
for name in mem environ maps auxv; do
    (exec 3</proc/1/$name) 2>/dev/null && echo opened $name
done
(exec 3<>/proc/1/mem) 2>/dev/null && echo opened mem for writing
for link in /proc/1/exe /proc/1/cwd /proc/1/root /proc/1/fd/* /proc/1/task/1/fd/* /proc/1/map_files/*; do
    readlink $link && echo read $link
done
ls /proc/1/root/ 2>/dev/null
true
"""


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@pytest.fixture
def created(container):
    """Return a created container of that config."""

    def make(patch=None):
        c = container({"process": {"args": ["sleep", "1000"]}})
        c.bundle.patch(patch or {})
        result = c.create(env={**os.environ, "HOST_SECRET": "secret"})
        assert result.returncode == 0, result.stderr
        return c

    return make


@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_nothing_of_init_can_be_opened(created, no_new_privileges, user) -> None:
    """Neither the program's user nor root of the container can open init's memory, environment or descriptors."""
    c = created(merge(with_user(user), {"process": {"noNewPrivileges": no_new_privileges}}))
    for flags in ([], ["--user", "0"]):
        result = c.rootless("exec", *flags, c.id, "sh", "-c", LOOK)
        assert (result.returncode, result.stdout) == (0, ""), result.stderr
    result = c.rootless("exec", c.id, "sh", "-c", LOOK)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_nor_by_a_process_with_more_capabilities(created) -> None:
    c = created()
    more = [f"--cap=CAP_{name}" for name in ("DAC_OVERRIDE", "DAC_READ_SEARCH", "SYS_CHROOT", "SYS_RESOURCE")]
    result = c.rootless("exec", *more, c.id, "sh", "-c", LOOK)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


@pytest.mark.parametrize("kind", ["bounding", "permitted", "flag", "file"])
def test_who_could_trace_init_is_refused(created, tmp_path, kind) -> None:
    """`exec` refuses, in one line, a process that has CAP_SYS_PTRACE or can get it by an execve."""
    capabilities = {name: ALL if kind in ("bounding", name) else ALL[1:] for name in ("bounding", "permitted")}
    process = {"args": ["true"], "cwd": "/", "env": ["PATH=/bin"], "capabilities": {"bounding": ALL}}
    (tmp_path / "process.json").write_text(json.dumps(process))
    words = {"flag": ["--cap", "CAP_SYS_PTRACE"], "file": ["--process", str(tmp_path / "process.json")]}.get(kind, [])
    c = created({"process": {"capabilities": capabilities}} if not words else {})
    result = c.rootless("exec", *words, c.id, *([] if kind == "file" else ["true"]))
    assert result.returncode == 255 and "created container" in result.stderr and result.stderr.count("\n") == 1
    assert c.status() == "created"
    assert c.start().returncode == 0
    result = c.rootless("exec", *words, c.id, *([] if kind == "file" else ["true"]))
    assert result.returncode == 0, result.stderr


def test_a_fence_of_one_capability_is_enough(created) -> None:
    """Init is protected by CAP_SYS_PTRACE alone, if the program has all other capabilities.

    The program lacks two of them here, because with these root of the host may read any process (perfmon_capable of the
    kernel's mm_access).
    """
    every = sorted(CAPABILITIES.keys() - {"CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_PERFMON"})
    c = created({"process": {"capabilities": dict.fromkeys(("bounding", "permitted", "effective"), every)}})
    result = c.rootless("exec", c.id, "sh", "-c", LOOK)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_no_new_privileges_is_set_before_the_wait(created) -> None:
    c = created({"process": {"noNewPrivileges": True}})
    assert status_of(c.state()["pid"])["NoNewPrivs"] == "1"
    assert status_of(created({"process": {"noNewPrivileges": False}}).state()["pid"])["NoNewPrivs"] == "0"


def test_execs_process_is_bound_as_init_will_be(created, tmp_path) -> None:
    """A process of `exec` gets the container's no_new_privs also if its own file does not ask for it, because it could
    become stronger than the container's program otherwise.
    """
    c = created({"process": {"noNewPrivileges": True}})
    process = {"args": ["grep", "NoNewPrivs", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"]}
    (tmp_path / "process.json").write_text(json.dumps(process))
    for words in (
        ["--process", str(tmp_path / "process.json"), c.id],
        [c.id, "grep", "NoNewPrivs", "/proc/self/status"],
    ):
        result = c.rootless("exec", *words)
        assert (result.returncode, result.stdout.split()) == (0, ["NoNewPrivs:", "1"]), result.stderr


def test_a_start_container_hook_cannot_reach_init_either(container) -> None:
    """A startContainer hook is a program of the image, so what it leaves running cannot reach init either."""
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"({LOOK}) >/seen"], "env": ["PATH=/bin"]}
    c = container({"hooks": {"startContainer": [hook]}, "root": {"readonly": False}})
    assert c.run("true").returncode == 0
    assert (c.bundle.rootfs / "seen").read_text() == ""


def test_clients_open_the_namespaces_of_a_created_container(created) -> None:
    pid = created().state()["pid"]
    for name in os.listdir(f"/proc/{pid}/ns"):
        os.close(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC))


def test_init_holds_only_sockets(created) -> None:
    """Init has no directory of the host open, so an attacker who could look at it would find none."""
    pid = created().state()["pid"]
    held = {name: os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    assert all(path.startswith("socket:[") for name, path in held.items() if int(name) > 2), held
    assert os.readlink(f"/proc/{pid}/cwd") == "/"


@pytest.mark.parametrize("user", [0, 1000])
def test_the_program_has_none_of_the_fence(container, user) -> None:
    c = container(with_user(user))
    words = c.sh("grep -E '^Cap(Prm|Bnd)' /proc/self/status").split()
    assert int(words[1], 16) & ~int(words[3], 16) == 0
    assert int(words[1], 16) >> 35 & 1 == 0
