"""Make the fixtures: bundles, containers, and the check that a test leaves nothing behind, on a real kernel."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oci.config import default_config
from tests.support.checkout import BUSYBOX, TIMEOUT
from tests.support.containers import Bundle, Container, Patch, Rootless, leaks, merge

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # the guest of tests/vm has none, and needs none
    pass
else:
    settings.register_profile("shared", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("shared")

PASSWD = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n"
GROUP = "root:x:0:\nuser:x:1000:\nwheel:x:10:user\n"


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the host's static busybox that belongs to the user, so that bundles can link to it."""
    if not BUSYBOX.exists():
        pytest.skip("this machine lacks /bin/busybox (Debian: busybox-static)")
    copy = tmp_path_factory.mktemp("busybox") / "busybox"
    shutil.copy(BUSYBOX, copy)
    copy.chmod(0o755)
    return copy


@pytest.fixture(scope="session")
def applets(busybox: Path) -> list[str]:
    """Return the names of busybox's programs."""
    return subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def make_bundle(tmp_path: Path, busybox: Path, applets: list[str]) -> Callable[..., Bundle]:
    """Return `make_bundle(name, patch)`, which makes a new bundle below the test's directory."""
    _make_reachable(tmp_path)

    def make(name: str = "bundle", patch: Patch | None = None) -> Bundle:
        rootfs = tmp_path / name / "rootfs"
        for directory in ("bin", "etc", "root", "home/user", "proc", "sys", "dev", "tmp", "var/run"):
            (rootfs / directory).mkdir(parents=True)
        (rootfs / "tmp").chmod(0o1777)
        os.link(busybox, rootfs / "bin/busybox")
        for applet in applets:
            if applet != "busybox":
                (rootfs / "bin" / applet).symlink_to("busybox")
        (rootfs / "etc/passwd").write_text(PASSWD)
        (rootfs / "etc/group").write_text(GROUP)
        uid, gid = os.geteuid(), os.getegid()
        config = merge(default_config(uid != 0, uid, gid), {"process": {"terminal": False}})
        return Bundle(tmp_path / name, merge(config, patch or {}))

    return make


@pytest.fixture
def bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    """Return a bundle with the default config, without a terminal."""
    return make_bundle()


@pytest.fixture
def rootless(tmp_path: Path) -> Iterator[Rootless]:
    """Return the program with `--root tmp_path/state`; at the end nothing of the test may be left."""
    program = Rootless(tmp_path / "state")
    yield program
    deadline = time.monotonic() + TIMEOUT
    while (left := leaks(program, tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)  # the kernel lists a killed process until its memory and files are released
    for container_id in program.ids():
        program("delete", "--force", container_id)
    assert not left, "\n".join(left)


@pytest.fixture
def container(
    rootless: Rootless, make_bundle: Callable[..., Bundle], tmp_path: Path
) -> Iterator[Callable[..., Container]]:
    """Return `container(config_patch)`, which makes a container with a bundle of its own; it is deleted at the end."""
    made: list[Container] = []

    def make(patch: Patch | None = None, container_id: str = "") -> Container:
        number = len(made)
        new = Container(
            rootless,
            make_bundle(f"bundle{number}", patch),
            container_id or f"c{number}-{os.getpid()}-{secrets.token_hex(3)}",
        )
        made.append(new)
        return new

    yield make
    rootless.note_cgroups()
    for each in made:
        if (rootless.state / each.id).exists():
            result = each.delete("--force")
            assert result.returncode == 0, result.stderr


def _make_reachable(path: Path) -> None:
    """Let root of a user namespace enter the directories of pytest, whose mode is 0700."""
    for parent in (path, *path.parents):
        found = parent.stat()
        if found.st_uid == os.geteuid() and parent != Path("/") and not found.st_mode & 0o001:
            parent.chmod(found.st_mode & 0o7777 | 0o011)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many steps of the clients' scripts passed with which runtime: the table of docs/conformance.md."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, value in getattr(report, "user_properties", ()):
                if name == "steps":
                    terminalreporter.write_line(value)
