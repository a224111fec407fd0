"""A container has more than a child process: a name, exec, pause, figures."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rootless
from rootless.api.client import launcher_pid
from tests.support.checkout import TIMEOUT
from tests.support.containers import needs_libseccomp
from tests.support.processes import begins, ends, long_sleep, running, until

CHECKOUT = Path(__file__).resolve().parents[2]
PIPE = subprocess.PIPE
KEYCTL = {"x86_64": 250, "aarch64": 219}[os.uname().machine]  # its number
KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING = 0, -3  # linux/keyctl.h


def command(*args: str) -> str:
    """Return what the command line prints, with the state root that the API uses."""
    words = [sys.executable, "-IS", str(CHECKOUT / "bin" / "rootless"), *args]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def python(script: str, *args: str) -> subprocess.Popen[str]:
    """Run code in a Python process with a launcher of its own."""
    program = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); import rootless\n{script}"
    return subprocess.Popen([sys.executable, "-c", program, *args], stdin=PIPE, stdout=PIPE, text=True)


@contextlib.contextmanager
def started(*args: Any, **keywords: Any) -> Iterator[rootless.Popen]:
    """Return a container that is killed if the test fails, because leaving the `with` of a Popen waits for its end."""
    with rootless.Popen(*args, **keywords) as box:
        try:
            yield box
        finally:
            box.kill()


@pytest.fixture
def name() -> str:
    return f"api-{os.getpid()}-{secrets.token_hex(3)}"


def test_a_named_container_is_seen_by_the_command_line_and_leaves_nothing(busybox_root: Path, name: str) -> None:
    with started(["sleep", "1000"], rootfs=busybox_root, name=name) as box:
        assert name in command("list", "-q").split()
        assert command("exec", name, "echo", "inside") == "inside\n"
        box.terminate()
        assert box.wait(TIMEOUT) == -15
    assert name not in command("list", "-q").split()


def test_a_name_that_is_taken_is_an_error(busybox_root: Path, name: str) -> None:
    with started(["sleep", "1000"], rootfs=busybox_root, name=name) as box:
        with pytest.raises(rootless.RootlessError, match="already exists"):
            rootless.run(["true"], rootfs=busybox_root, name=name)
        box.kill()


def test_a_named_container_s_output_and_status(busybox_root: Path, name: str) -> None:
    done = rootless.run("cat; exit 5", shell=True, input=b"in", rootfs=busybox_root, name=name, stdout=PIPE)
    assert (done.returncode, done.stdout) == (5, b"in")
    with pytest.raises(FileNotFoundError):
        rootless.run(["nosuch"], rootfs=busybox_root, name=name)
    assert name not in command("list", "-q").split()


@pytest.mark.parametrize("named", [True, False])
def test_exec_runs_one_more_program_in_it(busybox_root: Path, name: str, named: bool) -> None:
    about: dict[str, Any] = {"name": name} if named else {}
    with started(["sleep", "1000"], rootfs=busybox_root, hostname="box", **about) as box:
        done = box.exec("hostname; cat; exit 4", shell=True, input=b"in", stdout=PIPE)
        assert (done.returncode, done.stdout) == (4, b"box\nin")
        assert until(lambda: box.exec(["ps"], capture_output=True, text=True).stdout.count("sleep") == 1)
        with pytest.raises(FileNotFoundError):
            box.exec(["nosuch"])
        with pytest.raises(subprocess.TimeoutExpired):
            box.exec(["sleep", "1000"], timeout=0.5)
        box.kill()
        box.wait(TIMEOUT)
    with pytest.raises(rootless.RootlessError, match="not running"):
        box.exec(["true"])


@pytest.mark.parametrize("named", [True, False])
def test_a_container_has_a_session_keyring_of_its_own_and_exec_joins_it(name: str, named: bool) -> None:
    """Keys of the caller, or of another container, are not for a program (session-keyring(7))."""
    about: dict[str, Any] = {"name": name} if named else {}
    code = f"""
import ctypes, time
print(ctypes.CDLL(None).syscall({KEYCTL}, {KEYCTL_GET_KEYRING_ID}, {KEY_SPEC_SESSION_KEYRING}, 1), flush=True)
"""
    here = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    words = ["python3", "-c", code]
    with started([*words[:2], code + "time.sleep(1000)"], stdout=PIPE, text=True, **about) as box:
        assert box.stdout
        its_own = box.stdout.readline()
        assert box.exec(words, stdout=PIPE, text=True).stdout == its_own
        others = rootless.run(words, stdout=PIPE, text=True).stdout
    assert len({here, its_own, others}) == 3


@pytest.mark.parametrize("name", ["", f"warned-{os.getpid()}"], ids=["no name", "a name"])
def test_a_warning_is_not_part_of_the_program_s_output(name: str) -> None:
    unknown = {"process": {"capabilities": {"bounding": ["CAP_NOSUCH"]}}}
    with pytest.warns(RuntimeWarning, match="CAP_NOSUCH"):
        done = rootless.run(["true"], config=unknown, name=name, capture_output=True)
    assert done.stderr == b""


def test_hooks_of_a_bundle_are_run(bundle: Any, tmp_path: Path) -> None:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo hook >>{tmp_path}/log"]}
    bundle.patch({"hooks": {"createRuntime": [hook], "poststop": [hook]}})
    assert rootless.run(["true"], bundle=bundle.path).returncode == 0
    assert (tmp_path / "log").read_text() == "hook\nhook\n"


def test_a_container_in_the_host_s_pid_namespace_ends_no_other_process(bundle: Any) -> None:
    namespaces = bundle.config["linux"]["namespaces"]
    bundle.patch({"linux": {"namespaces": [each for each in namespaces if each["type"] != "pid"]}})
    with subprocess.Popen(["sleep", long_sleep()]) as bystander:
        assert rootless.run(["sh", "-c", "exit 3"], bundle=bundle.path).returncode == 3
        assert rootless.run(["sh", "-c", "kill -TERM $$"], bundle=bundle.path).returncode == -signal.SIGTERM
        assert bystander.poll() is None
        bystander.kill()


HOLDER = """
import os, sys
from rootless.api.client import launcher_pid
box = rootless.Popen(["sleep", sys.argv[2]], bundle=sys.argv[1])
print(launcher_pid(), flush=True)
input()
"""


@pytest.mark.parametrize("victims", ["python", "launcher", "both"])
def test_a_bundle_with_hooks_is_gone_with_python_or_the_launcher(bundle: Any, tmp_path: Path, victims: str) -> None:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo hook >>{tmp_path}/log"]}
    bundle.patch({"hooks": {"poststop": [hook]}})
    process = python(HOLDER, str(bundle.path), sleep := long_sleep())
    assert process.stdout and process.stdin
    launcher = int(process.stdout.readline())
    assert begins(f"sleep\0{sleep}") and str(bundle.path) in command("list")
    if victims != "python":
        os.kill(launcher, signal.SIGKILL)
    if victims != "launcher":
        process.kill()
    assert ends(f"sleep\0{sleep}")
    process.kill()
    process.communicate()
    assert until(lambda: str(bundle.path) not in command("list"))
    log = tmp_path / "log"
    assert until(log.exists) and until(log.read_text) == "hook\n"  # poststop comes after the removal


def test_a_container_that_waits_for_its_call_holds_no_other_container_s_end(bundle: Any) -> None:
    bundle.patch({"hooks": {"createRuntime": [{"path": "/bin/true"}]}})
    sleep = long_sleep()
    box = rootless.Popen(["sleep", sleep])
    with rootless.Sandbox(bundle=bundle.path, warm=2) as sandbox:
        assert sandbox.run(["true"]).returncode == 0
        os.kill(launcher_pid(), signal.SIGKILL)
        with pytest.raises(rootless.LauncherError):
            box.wait(TIMEOUT)
    box.returncode = -9
    assert ends(f"sleep\0{sleep}")


def test_exec_and_figures_of_a_bundle_with_hooks(bundle: Any) -> None:
    bundle.patch({"hooks": {"createRuntime": [{"path": "/bin/true"}]}, "hostname": "box"})
    with started(["sleep", "1000"], bundle=bundle.path) as box:
        assert box.exec(["hostname"], stdout=PIPE).stdout == b"box\n"
        try:
            assert "cpu" in box.stats()
        except rootless.RootlessError as error:
            assert "no cgroup" in str(error)


def test_a_cancelled_task_leaves_nothing_of_a_bundle_with_hooks(bundle: Any, tmp_path: Path) -> None:
    sleep = long_sleep()
    bundle.patch({"hooks": {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", sleep]}]}})

    async def main() -> None:
        task = asyncio.create_task(rootless.async_run(["true"], bundle=bundle.path))
        while not running(f"sleep\0{sleep}"):
            await asyncio.sleep(0.05)
        assert str(bundle.path) in command("list")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ends(f"sleep\0{sleep}")
    assert until(lambda: str(bundle.path) not in command("list"))


def test_a_sandbox_takes_a_bundle_with_hooks(bundle: Any, tmp_path: Path) -> None:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo hook >>{tmp_path}/log"]}
    bundle.patch({"hooks": {"createRuntime": [hook]}})
    with rootless.Sandbox(bundle=bundle.path, warm=1, text=True) as sandbox:
        assert [sandbox.run(["echo", "x"]).stdout for _ in range(2)] == ["x\n", "x\n"]
    assert (tmp_path / "log").read_text() == "hook\nhook\n"


def test_pause_without_a_cgroup_says_what_gives_one() -> None:
    with started(["sleep", "1000"]) as box:
        with pytest.raises(rootless.RootlessError, match="no cgroup"):
            box.pause()
        box.kill()


def test_pause_and_resume(busybox_root: Path, name: str) -> None:
    with started(["sleep", "1000"], rootfs=busybox_root, name=name) as box:
        try:
            box.pause()
        except rootless.RootlessError as error:
            assert "no cgroup" in str(error)
        else:
            assert '"paused"' in command("state", name)
            assert "cpu" in box.stats()
            box.resume()
            assert '"running"' in command("state", name)
        box.kill()


def test_ephemeral_containers_share_a_root_and_see_no_changes(busybox_root: Path) -> None:
    script = "echo x >/etc/new && cat /etc/new; ls /etc"
    keywords: dict[str, Any] = {"rootfs": busybox_root, "ephemeral": True}
    for _ in range(2):
        done = rootless.run(script, shell=True, capture_output=True, text=True, **keywords)
        assert (done.stderr, done.stdout) == ("", "x\nnew\npasswd\n")
    assert not (busybox_root / "etc" / "new").exists()
    done = rootless.run(script, shell=True, capture_output=True, text=True, read_only=True, **keywords)
    assert "Read-only file system" in done.stderr


def test_a_root_is_read_only_unless_the_caller_says_otherwise(busybox_root: Path) -> None:
    script = "echo x 2>/dev/null >/tmp/new && rm /tmp/new"
    for keywords, code in (({}, 1), ({"read_only": True}, 1), ({"read_only": False}, 0)):
        assert rootless.run(script, shell=True, rootfs=busybox_root, **keywords).returncode == code  # type: ignore[arg-type]
    done = rootless.run("touch /tmp/new && ! touch /usr/new", shell=True, ephemeral=True, stderr=subprocess.DEVNULL)
    assert done.returncode == 0  # the host's own system stays as it is


@needs_libseccomp
@pytest.mark.skipif(os.geteuid() == 0, reason="root may change owners")
@pytest.mark.parametrize(("kind", "owner"), [("notify", "33:44\n"), ("errno", "0:0\n")])
def test_root_is_emulated(busybox_root: Path, kind: str, owner: str) -> None:
    ids = {"hostID": os.geteuid()}, {"hostID": os.getegid()}
    uids, gids = ([{"containerID": 0, "size": 1, **each}] for each in ids)  # there is something to emulate
    script = "touch /tmp/f && chown 33:44 /tmp/f && stat -c %u:%g /tmp/f"
    options: dict[str, Any] = {"capture_output": True, "text": True, "root_emulation": kind}
    options["config"] = {"linux": {"uidMappings": uids, "gidMappings": gids}}
    done = rootless.run(["sh", "-c", script], rootfs=busybox_root, tmpfs=["/tmp"], user=0, **options)
    assert (done.stdout, done.stderr) == (owner, "")
