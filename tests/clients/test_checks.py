"""Run the script of each client in contrib/, with `rootless` and with the peers, so that a step that fails is the
runtime's fault.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.support.checkout import CHECKOUT

VIEW = CHECKOUT / "tests/clients/view"
SLOW = int(os.environ.get("SLOW", "1"))  # how much slower this machine is: the guest of tests/vm is emulated
HANGS = 900 * SLOW  # seconds until a script that hangs is a failure
LACKS = 77  # what a script ends with where it cannot run

pytestmark = pytest.mark.client


@pytest.fixture(params=["rootless", "crun", "runc"])
def runtime(request: pytest.FixtureRequest) -> str:
    """Return the path of a runtime that this machine has."""
    name = str(request.param)
    path = str(CHECKOUT / "bin/rootless") if name == "rootless" else shutil.which(name)
    if not path:
        pytest.skip(f"this machine lacks {name}")
    return path


@pytest.fixture
def check(runtime: str, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Return `check(client, needed, user)`, which runs contrib/CLIENT/check, or SCRIPT, to its end; every step must
    pass.
    """

    def run(client: str, needed: tuple[str, ...], user: str, script: str = "check") -> None:
        missing = [name for name in needed if not shutil.which(name)]
        if missing:
            pytest.skip(f"this machine lacks {', '.join(missing)}")
        command = [str(CHECKOUT / "contrib" / client / script)]
        if os.geteuid() == 0:
            command = [str(VIEW), user, *command]
        elif user == "root":
            pytest.skip("only root can start this daemon")
        environment = {**os.environ, "RUNTIME": runtime}
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=-1, stderr=-2, text=True, start_new_session=True
        ) as process:
            try:
                output, _ = process.communicate(timeout=HANGS)
            except BaseException:
                os.killpg(process.pid, signal.SIGTERM)
                raise
        last = output.strip().rpartition("\n")[2]
        if process.returncode == LACKS:
            pytest.skip(last)
        name = client if script == "check" else f"{client} ({script})"
        record_property("steps", f"{name} with {last}")
        assert process.returncode == 0, output
        assert " passed, 0 failed" in last, output

    return run


def test_kubernetes(check: Callable[..., None]) -> None:
    """The script runs a RuntimeClass, a pod of it, and the streams of kubectl, through containerd's CRI plugin."""
    check("kubernetes", ("containerd", "ctr", "containerd-shim-runc-v2", "busybox"), "root")


def test_kubernetes_of_an_ordinary_user(check: Callable[..., None]) -> None:
    """The same works in a user namespace, where a rootless kubelet has its containerd."""
    needed = ("containerd", "ctr", "containerd-shim-runc-v2", "newuidmap", "busybox")
    check("kubernetes", needed, ordinary_user(), script="check-rootless")


def test_dask(check: Callable[..., None]) -> None:
    """The script has two worker processes of an ordinary user."""
    check("dask", ("busybox",), ordinary_user())


def test_newer_clients(runtime: str, record_property: Callable[[str, object], None]) -> None:
    """The clients of Debian 13 pass their steps too, all at once in a tree of it.

    This needs a program beside the checkout that makes such a tree.
    """
    if os.geteuid():
        pytest.skip("only root can enter a tree of another system")
    done = subprocess.run(
        ["timeout", "--kill-after=20", str(HANGS), str(CHECKOUT / "tests/clients/debian13")],
        env={**os.environ, "RUNTIME": runtime}, stdin=subprocess.DEVNULL, stdout=-1, stderr=-2, text=True, check=False,
    )  # fmt: skip
    if done.returncode == LACKS:
        pytest.skip(done.stdout.strip())
    for line in re.findall(r"^[a-z]+/\S+, .*", done.stdout, re.MULTILINE):
        record_property("steps", f"Debian 13: {line}")
    assert done.returncode == 0, done.stdout


def ordinary_user() -> str:
    """Return the user of the rootless clients: TEST_USER, whom scripts/test.sh has made."""
    user = os.environ.get("TEST_USER", "tester")
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(user)
        except KeyError:
            pytest.skip(f"this machine lacks the user {user}")
    return user


def test_podman(check: Callable[..., None]) -> None:
    """podman runs as an ordinary user."""
    check("podman", ("podman", "conmon", "newuidmap", "busybox"), ordinary_user())


def test_buildah(check: Callable[..., None]) -> None:
    """buildah runs as an ordinary user, with both isolations that use a runtime."""
    check("buildah", ("buildah", "newuidmap", "busybox"), ordinary_user())


def test_docker(check: Callable[..., None]) -> None:
    """dockerd is one of the script's own, as root."""
    check("docker", ("dockerd", "docker", "containerd", "iptables", "busybox"), "root")


def test_containerd(check: Callable[..., None]) -> None:
    """`ctr` runs as root with a daemon of the script's own. Without controllers the peers start nothing."""
    check("containerd", ("containerd", "ctr", "containerd-shim-runc-v2", "busybox"), "root")


def test_containerd_cri(check: Callable[..., None]) -> None:
    """The script uses the CRI plugin by gRPC, as kubelet does, as root."""
    needed = ("containerd", "ctr", "containerd-shim-runc-v2", "busybox")
    check("containerd", needed, "root", script="check-cri")


def test_slurm(check: Callable[..., None]) -> None:
    """The script makes a cluster of two nodes in namespaces of its own, with two users of its own."""
    check("slurm", ("slurmctld", "slurmd", "srun", "munged", "busybox"), "root")


def test_submitit(check: Callable[..., None]) -> None:
    """Jobs of the Python package submitit run on such a cluster."""
    check("submitit", ("slurmctld", "slurmd", "srun", "munged", "busybox"), "root")
