"""Make a test's bundle and containers, run the program with a state directory of its own, and find what is left."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rootless.kernel import syscalls as sc
from rootless.kernel.find_program import find_program
from rootless.kernel.host import Host
from rootless.userns.run import default_maps
from tests.support.checkout import LAUNCHER, TIMEOUT

USER = os.geteuid() != 0
RANGE = "this machine lacks a subordinate id range for the user (/etc/subuid) or newuidmap"

Patch = dict[str, Any]
Result = subprocess.CompletedProcess[str]


def merge(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396): objects are merged, None removes, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


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
        """Write `config` as config.json."""
        (self.path / "config.json").write_text(json.dumps(self.config))


class Rootless:
    """Run the checkout's program, by `rootless(*args)`, with a state directory of the test's own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.cgroups: set[str] = set()

    def command(self, *args: str | Path) -> list[str]:
        """Return the argv of a call, for tests that start it themselves."""
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
        """Return the ids of the containers that have a state directory."""
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
        """Call `run`, with another program if one is given."""
        words: tuple[str, ...] = ("--", *command) if command else ()
        return self.rootless("run", *flags, "-b", self.bundle.path, self.id, *words, **options)

    def output(self, *command: str, **options: Any) -> str:
        """Return what `run` prints, if it ends with 0."""
        result = self.run(*command, **options)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def sh(self, script: str, **options: Any) -> str:
        """Return what a shell script in the container prints."""
        return self.output("sh", "-c", script, **options)

    def create(self, *flags: str, **options: Any) -> Result:
        """Call `create` with its output in files, because the container keeps a pipe open."""
        return self._detached("create", *flags, **options)

    def run_detached(self, *flags: str, **options: Any) -> Result:
        """Call `run --detach`."""
        return self._detached("run", "--detach", *flags, **options)

    def _detached(self, command: str, *flags: str, **options: Any) -> Result:
        out, err = self.bundle.path / "stdout", self.bundle.path / "stderr"
        with out.open("w") as stdout, err.open("w") as stderr:
            args: tuple[str | Path, ...] = (command, *flags, "-b", self.bundle.path, self.id)
            result = self.rootless(*args, capture_output=False, stdout=stdout, stderr=stderr, **options)
        return subprocess.CompletedProcess(result.args, result.returncode, out.read_text(), err.read_text())

    def start(self) -> Result:
        """Call `start`."""
        return self.rootless("start", self.id)

    def state(self) -> dict[str, Any]:
        """Return what `state` prints, parsed."""
        result = self.rootless("state", self.id)
        assert result.returncode == 0, result.stderr
        return dict(json.loads(result.stdout))

    def status(self) -> str:
        """Return the status that `state` prints."""
        return str(self.state()["status"])

    def kill(self, *args: str) -> Result:
        """Call `kill`."""
        return self.rootless("kill", self.id, *args)

    def delete(self, *flags: str) -> Result:
        """Call `delete`."""
        return self.rootless("delete", *flags, self.id)

    def wait(self) -> None:
        """Wait until the container's init is gone."""
        try:
            pidfd = os.pidfd_open(self.state()["pid"])
        except (ProcessLookupError, OSError):
            return
        assert select.select([pidfd], [], [], TIMEOUT)[0], "the container does not end"
        os.close(pidfd)


def has_range() -> bool:
    """Return whether the user has subordinate ids, and the program that maps them."""
    host = Host()
    return bool(host.subuid and host.subgid and os.path.exists("/usr/bin/newuidmap"))


def mapped(patch: Patch) -> Patch:
    """Return the patch; for an ordinary user without the default id maps, so that the whole range is mapped."""
    if USER:
        patch = {**patch, "linux": {**patch.get("linux", {}), "uidMappings": None, "gidMappings": None}}
    return patch


def has_libseccomp() -> bool:
    """Return whether the dynamic linker finds libseccomp."""
    try:
        sc.load_library("libseccomp.so.2", {})
    except OSError:
        return False
    return True


needs_libseccomp = pytest.mark.skipif(not has_libseccomp(), reason="this machine lacks libseccomp.so.2")
needs_range = pytest.mark.skipif(USER and not has_range(), reason=RANGE)


def with_user(uid: int) -> Patch:
    """Return a patch for a program of that user, with the ids that it needs; skip the test if there are none."""
    patch: Patch = {"process": {"user": {"uid": uid, "gid": uid}}}
    if uid == 0 or os.geteuid() == 0:
        return patch
    maps = default_maps(Host())
    if any(len(entries) < 2 for entries in maps) or not find_program("newuidmap"):
        pytest.skip("this user has no range of subordinate ids, so there is no second user")
    uids, gids = ([{"containerID": a, "hostID": b, "size": c} for a, b, c in entries] for entries in maps)
    return {**patch, "linux": {"uidMappings": uids, "gidMappings": gids}}


def leaks(program: Rootless, directory: Path) -> list[str]:
    """Return what a test has left: states, cgroups, mounts, and processes that name or have mounted its directory."""
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
