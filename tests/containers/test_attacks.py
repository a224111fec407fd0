"""Known attacks on runtimes, against `exec` and `create`: each test does what the container would do."""

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.checkout import LAUNCHER, TIMEOUT

# The interpreter of its first line is whatever file the process on its way to execve(2) runs from. It keeps that file
# open, becomes another program, so that the file is no longer busy, and writes to it.
EVIL = """#!/proc/self/exe
import os
fd = os.open("/proc/self/exe", os.O_RDONLY)
os.set_inheritable(fd, True)
script = f"chmod 777 /proc/self/fd/{fd}; echo overwritten >/proc/self/fd/{fd} && echo written; echo tried"
os.execv("/bin/busybox", ["sh", "-c", script])
"""
HOST_LIBRARIES = [
    {"destination": f"/{name}", "type": "bind", "source": f"/{name}", "options": ["rbind", "ro"]}
    for name in ("usr", "lib", "lib64")
    if Path(f"/{name}").exists()
]


@pytest.fixture
def own_python(tmp_path):
    """Return a copy of the interpreter that belongs to this user, and so to root of the user's containers."""
    python = tmp_path / "python3"
    shutil.copy(os.path.realpath("/usr/bin/python3"), python)
    python.chmod(0o755)
    return python


def call(python, c, *words):
    command = [python, "-IS", LAUNCHER, "--root", c.rootless.state, *words]
    out = c.bundle.path / "said"
    with out.open("w") as file:
        streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
        result = subprocess.run(command, check=False, timeout=TIMEOUT, **streams)
    return result.returncode, out.read_text()


@pytest.mark.parametrize("command", ["exec", "run"])
def test_the_runtimes_own_file_cannot_be_overwritten(container, own_python, command) -> None:
    """CVE-2019-5736: a script as the program names /proc/self/exe, and cannot write the runtime's file."""
    c = container({"process": {"args": ["/evil"] if command == "run" else ["sleep", "1000"]}})
    c.bundle.config["mounts"] += HOST_LIBRARIES
    c.bundle.write()
    (c.bundle.rootfs / "evil").write_text(EVIL)
    (c.bundle.rootfs / "evil").chmod(0o755)
    before, host = hashlib.sha256(own_python.read_bytes()), hashlib.sha256(Path("/usr/bin/python3").read_bytes())
    if command == "run":
        _, said = call(own_python, c, "run", "-b", c.bundle.path, c.id)
    else:
        assert call(own_python, c, "run", "-d", "-b", c.bundle.path, c.id)[0] == 0
        _, said = call(own_python, c, "exec", c.id, "/evil")
    assert "tried" in said  # the program did run
    assert "written" not in said.split()
    assert hashlib.sha256(own_python.read_bytes()).digest() == before.digest()
    assert own_python.stat().st_mode & 0o777 == 0o755
    assert hashlib.sha256(Path("/usr/bin/python3").read_bytes()).digest() == host.digest()


@pytest.mark.parametrize("through", ["/proc/self/fd/{}", "/link{}"])
def test_exec_does_not_begin_in_a_directory_of_the_host(container, through) -> None:
    """CVE-2024-21626: a working directory that names an open directory of the host is refused."""
    c = container({"process": {"args": ["sleep", "1000"]}})
    for number in range(3, 12):
        (c.bundle.rootfs / f"link{number}").symlink_to(f"/proc/self/fd/{number}")
    assert c.run_detached().returncode == 0
    for number in range(3, 12):
        result = c.rootless("exec", "--cwd", through.format(number), c.id, "pwd")
        assert result.returncode == 255, result.stdout
        assert result.stderr.startswith("rootless: exec failed: ")


def test_a_created_container_holds_nothing_of_the_host(container) -> None:
    """The test looks from outside, because a program of `exec` may not look (tests/security/test_created.py)."""
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    pid = c.state()["pid"]
    held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd") if int(fd) > 2]
    assert held and all(name.startswith("socket:[") for name in held), held
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    for name in ("root", "cwd"):
        assert set(os.listdir(f"/proc/{pid}/{name}/")) == set(os.listdir(c.bundle.rootfs))


def test_a_process_on_its_way_in_is_not_traced(container) -> None:
    """Root of a container waits in /proc for the next `exec`, and cannot read memory, environment or descriptors of a
    process that has not become the program yet.
    """
    script = """
        while [ ! -e /stop ]; do
            for p in /proc/[0-9]*; do
                case ${p##*/} in 1|$$) continue;; esac
                tr '\\0' '\\n' <$p/environ 2>/dev/null | grep -E '^(HOST_SECRET|OF_ITS_OWN)=' >>/found
                for fd in $p/fd/*; do readlink $fd 2>/dev/null | grep "^/proc$" >>/found; done
            done
        done"""
    own = {"args": ["sh", "-c", script], "env": ["PATH=/bin", "OF_ITS_OWN=1"]}
    c = container({"process": own, "root": {"readonly": False}})
    assert c.run_detached().returncode == 0
    for _ in range(10):
        done = c.rootless("exec", c.id, "true", env={**os.environ, "HOST_SECRET": "secret"})
        assert done.returncode == 0, done.stderr
    # The attacker finds what a process shows that has become its program, so the test can fail.
    done = c.rootless("exec", "--detach", c.id, "sleep", "1000", capture_output=False)
    assert done.returncode == 0
    until = time.monotonic() + TIMEOUT
    found = c.bundle.rootfs / "found"
    while not found.exists() or not found.read_text():
        assert time.monotonic() < until, "the attacker has found nothing at all"
        time.sleep(0.01)
    (c.bundle.rootfs / "stop").touch()  # not by `exec`, which could fail because the container ends
    c.wait()
    assert set(found.read_text().split()) == {"OF_ITS_OWN=1"}
