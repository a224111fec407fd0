"""Bundles, containers, and the check that a test leaves nothing behind: a real kernel, an ordinary user or root."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oci.config import default_config
from rootless.kernel.find_program import find_program
from rootless.kernel.host import Host
from rootless.userns.run import default_maps

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # the guest of tests/vm has none, and needs none
    pass
else:
    settings.register_profile("shared", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("shared")

CHECKOUT = Path(__file__).resolve().parent.parent
LAUNCHER = CHECKOUT / "bin" / "rootless"
BUSYBOX = Path("/bin/busybox")
# Seconds until a command that hangs is a failure; nothing is measured by it. The emulated guest of tests/vm needs more.
TIMEOUT = int(os.environ.get("ROOTLESS_TEST_TIMEOUT", "60"))
PASSWD = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n"
GROUP = "root:x:0:\nuser:x:1000:\nwheel:x:10:user\n"

Patch = dict[str, Any]
Result = subprocess.CompletedProcess[str]


def merge(target: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7396): objects are merged, None removes, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def driver(program: str, *args: str | Path) -> list[str]:
    """The argv of a Python program that finds the checkout's packages: `rootless` with something in it replaced."""
    path = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n"
    return [sys.executable, "-IS", "-c", path + program, *map(str, args)]


class Bundle:
    """A bundle directory with a busybox rootfs."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.rootfs = path / "rootfs"
        self.config = config
        self.write()

    def patch(self, patch: Patch) -> None:
        """Change config.json by a merge patch."""
        self.config = merge(self.config, patch)
        self.write()

    def write(self) -> None:
        """config.json as `config` says."""
        (self.path / "config.json").write_text(json.dumps(self.config))


class Rootless:
    """`rootless(*args)` runs the checkout's program with a state directory of the test's own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.cgroups: set[str] = set()

    def command(self, *args: str | Path) -> list[str]:
        """The argv of a call, for tests that start it themselves."""
        return [sys.executable, "-IS", str(LAUNCHER), "--root", str(self.state), *map(str, args)]

    def __call__(self, *args: str | Path, **options: Any) -> Result:
        """Run it to its end, output captured as text, without the terminal that the tests were started from."""
        options = {"capture_output": True, "timeout": TIMEOUT, "start_new_session": True, **options}
        options = {"stdin": subprocess.DEVNULL, **options}
        if "input" in options:
            del options["stdin"]
        result = subprocess.run(self.command(*args), text=True, errors="surrogateescape", check=False, **options)
        self.note_cgroups()
        return result

    def popen(self, *args: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start it."""
        pipe = subprocess.PIPE
        options = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, **options}
        return subprocess.Popen(self.command(*args), text=True, errors="surrogateescape", **options)

    def ids(self) -> list[str]:
        """The containers that have a state directory."""
        return sorted(os.listdir(self.state)) if self.state.exists() else []

    def note_cgroups(self) -> None:
        """Remember the cgroups that exist now, so that they can be looked for at the end."""
        for name in self.ids():
            try:
                state = json.loads((self.state / name / "state.json").read_text())
            except (OSError, ValueError):
                continue
            path = state.get("cgroup", {}).get("path") if isinstance(state, dict) else ""
            if path:
                self.cgroups.add(path)


class Container:
    """One container of a test: its bundle and the commands on it."""

    def __init__(self, rootless: Rootless, bundle: Bundle, container_id: str) -> None:
        self.rootless = rootless
        self.bundle = bundle
        self.id = container_id

    def run(self, *command: str, flags: tuple[str, ...] = (), **options: Any) -> Result:
        """`run`, with another program if one is given."""
        words = ("--", *command) if command else ()
        return self.rootless("run", *flags, "-b", self.bundle.path, self.id, *words, **options)

    def output(self, *command: str, **options: Any) -> str:
        """What `run` prints, if it ends with 0."""
        result = self.run(*command, **options)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def sh(self, script: str, **options: Any) -> str:
        """What a shell script in the container prints."""
        return self.output("sh", "-c", script, **options)

    def create(self, *flags: str, **options: Any) -> Result:
        """`create`, output to files: the container keeps the descriptors, a pipe would never end."""
        return self._detached("create", *flags, **options)

    def run_detached(self, *flags: str, **options: Any) -> Result:
        """`run --detach`."""
        return self._detached("run", "--detach", *flags, **options)

    def _detached(self, command: str, *flags: str, **options: Any) -> Result:
        out, err = self.bundle.path / "stdout", self.bundle.path / "stderr"
        with out.open("w") as stdout, err.open("w") as stderr:
            args = (command, *flags, "-b", self.bundle.path, self.id)
            result = self.rootless(*args, capture_output=False, stdout=stdout, stderr=stderr, **options)
        return subprocess.CompletedProcess(result.args, result.returncode, out.read_text(), err.read_text())

    def start(self) -> Result:
        """`start`."""
        return self.rootless("start", self.id)

    def state(self) -> dict[str, Any]:
        """`state`, parsed."""
        result = self.rootless("state", self.id)
        assert result.returncode == 0, result.stderr
        return dict(json.loads(result.stdout))

    def status(self) -> str:
        """The status that `state` prints."""
        return str(self.state()["status"])

    def kill(self, *args: str) -> Result:
        """`kill`."""
        return self.rootless("kill", self.id, *args)

    def delete(self, *flags: str) -> Result:
        """`delete`."""
        return self.rootless("delete", *flags, self.id)

    def wait(self) -> None:
        """Until the container's init is gone."""
        try:
            pidfd = os.pidfd_open(self.state()["pid"])
        except (ProcessLookupError, OSError):
            return
        import select

        assert select.select([pidfd], [], [], TIMEOUT)[0], "the container does not end"
        os.close(pidfd)


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the host's static busybox that belongs to the user, so that bundles can link to it."""
    if not BUSYBOX.exists():
        pytest.skip("this machine lacks /bin/busybox (Debian: busybox-static)")
    copy = tmp_path_factory.mktemp("busybox") / "busybox"
    shutil.copy(BUSYBOX, copy)
    copy.chmod(0o755)
    return copy


@pytest.fixture(scope="session")
def applets(busybox: Path) -> list[str]:
    """The names of busybox's programs."""
    return subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def make_bundle(tmp_path: Path, busybox: Path, applets: list[str]) -> Callable[..., Bundle]:
    """`make_bundle(name, patch)`: a new bundle below the test's directory."""
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
    """A bundle with the default config, without a terminal."""
    return make_bundle()


def with_user(uid: int) -> Patch:
    """A patch for a program of that user, with the ids that this takes; the test is skipped where there are none."""
    patch: Patch = {"process": {"user": {"uid": uid, "gid": uid}}}
    if uid == 0 or os.geteuid() == 0:
        return patch
    maps = default_maps(Host())
    if any(len(entries) < 2 for entries in maps) or not find_program("newuidmap"):
        pytest.skip("this user has no range of subordinate ids, so there is no second user")
    uids, gids = ([{"containerID": a, "hostID": b, "size": c} for a, b, c in entries] for entries in maps)
    return {**patch, "linux": {"uidMappings": uids, "gidMappings": gids}}


@pytest.fixture
def rootless(tmp_path: Path) -> Iterator[Rootless]:
    """The program with `--root tmp_path/state`; at the end nothing of the test may be left."""
    program = Rootless(tmp_path / "state")
    yield program
    left = leaks(program, tmp_path)
    for container_id in program.ids():
        program("delete", "--force", container_id)
    assert not left, "\n".join(left)


@pytest.fixture
def container(
    rootless: Rootless, make_bundle: Callable[..., Bundle], tmp_path: Path
) -> Iterator[Callable[..., Container]]:
    """`container(config_patch)`: a container of a bundle of its own, deleted at the end."""
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


def leaks(program: Rootless, directory: Path) -> list[str]:
    """What a test has left: states, cgroups, mounts here, processes that mention or have mounted its directory."""
    place = str(directory)
    left = [f"state directory of {name}" for name in program.ids()]
    left += [f"cgroup {path}" for path in sorted(program.cgroups) if os.path.exists(path)]
    own = Path("/proc/self/mountinfo").read_text()
    left += [f"mount {line}" for line in own.splitlines() if line.split(" ")[4].startswith(place)]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            cmdline = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            mounts = Path(f"/proc/{pid}/mountinfo").read_text(errors="replace")
        except OSError:
            continue  # gone, or another user's
        # Another test's command on its way into a container has a copy of this namespace's mounts, for a moment.
        passing = str(LAUNCHER) in cmdline
        if place + "/" in cmdline or (place + "/" in mounts and not passing):
            left.append(f"process {pid} {cmdline}")
    return left


def _make_reachable(path: Path) -> None:
    """The directories of pytest are 0700: root of a user namespace must get through."""
    for parent in (path, *path.parents):
        found = parent.stat()
        if found.st_uid == os.geteuid() and parent != Path("/") and not found.st_mode & 0o001:
            parent.chmod(found.st_mode & 0o7777 | 0o011)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The last lines: how many steps of the clients' scripts passed with which runtime, docs/conformance.md's table."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, value in getattr(report, "user_properties", ()):
                if name == "steps":
                    terminalreporter.write_line(value)
