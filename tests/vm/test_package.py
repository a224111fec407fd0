"""In the guest dpkg installs the Debian package, which tests/vm/run has built on the host, and a user runs it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT, TIMEOUT

pytestmark = pytest.mark.vm

USER = ["setpriv", "--reuid", "1000", "--regid", "1000", "--init-groups", "--reset-env"]


def call(*words: str | Path) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=TIMEOUT).stdout


@pytest.fixture
def installed(who: str) -> Iterator[Path]:
    """Yield the launcher while the package is installed."""
    if who != "root":
        pytest.skip("only root installs packages")
    packages = sorted((CHECKOUT / "dist").glob("rootless_*_all.deb"))
    if not packages:
        pytest.skip("the host could not build the package (debhelper, dh-python, pybuild-plugin-pyproject)")
    call("dpkg", "--install", packages[0])
    yield Path("/usr/bin/rootless")
    call("dpkg", "--purge", "rootless")
    left = [Path("/usr/lib/python3/dist-packages/rootless"), Path("/etc/apparmor.d/rootless")]
    assert [path for path in left if path.exists()] == []


def test_an_ordinary_user_runs_a_container_under_its_profile(installed: Path, busybox: Path) -> None:
    caches = Path("/usr/lib/python3/dist-packages/rootless/__pycache__").glob("*.code")
    made = {path.name.partition(".")[0] for path in caches}
    assert {"create", "delete", "exec", "kill", "run", "start", "state"} <= made  # for all users
    # The kernel and the parser of Debian 12 do not know `userns`. Nothing else of the profile is left out.
    profile = Path("/run/rootless-profile")
    text = Path("/usr/share/rootless/apparmor/rootless").read_text()
    profile.write_text(text.replace("abi <abi/4.0>,", "abi <abi/3.0>,").replace("  userns,\n", ""))
    home = Path("/home/tester/package")
    shutil.rmtree(home, ignore_errors=True)
    (home / "box/rootfs/bin").mkdir(parents=True)
    shutil.copy(busybox, home / "box/rootfs/bin/busybox")
    (home / "box/rootfs/bin/sh").symlink_to("busybox")
    call("chown", "-hR", "1000:1000", home)
    call("apparmor_parser", "--skip-cache", "--add", profile)
    try:
        call(*USER, "env", "-C", home / "box", installed, "spec", "--rootless")
        state = home / "state"
        command = [*USER, installed, "--root", state, "run", "--bundle", home / "box", "packaged"]
        said = call(*command, "--", "sh", "-c", "busybox id -u; busybox cat /proc/self/attr/current")
        assert said == "0\nrootless (unconfined)\n"
        assert not list(home.glob(".cache/rootless/code/*"))  # those of the package are used
    finally:
        call("apparmor_parser", "--remove", profile)
        shutil.rmtree(home)
