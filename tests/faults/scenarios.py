"""Define the commands that the fault injector tries: what each needs, and what must be true when it has ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from oci.config import default_config
from tests.support import archives as a
from tests.support.checkout import BUSYBOX, LAUNCHER, TIMEOUT

SECONDS = int(os.environ.get("ROOTLESS_TEST_TIMEOUT", "60"))  # until something hangs
ID = f"faulty-{os.getpid()}"


class Wrong(Exception):
    """Report that a command did not do what is promised."""


class World:
    """Hold a directory with a bundle, an archive and a state root, which every trial must leave as it found them."""

    def __init__(self, *, ranges: bool) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="rootless-faults-"))
        self.place.chmod(0o755)
        self.state = self.place / "state"
        self.bundle = self.place / "bundle"
        self.work = self.place / "work"
        self.work.mkdir(mode=0o755)
        self.pid_file = self.place / "pid"
        self.said, self.told = self.place / "stdout", self.place / "stderr"
        self.cgroup = ""
        rootfs = self.bundle / "rootfs"
        for directory in ("bin", "etc", "proc", "sys", "dev", "tmp", "mnt"):
            (rootfs / directory).mkdir(parents=True)
        (self.place / "volume").mkdir(mode=0o755)
        shutil.copy(BUSYBOX, rootfs / "bin/busybox")
        (rootfs / "bin/busybox").chmod(0o755)
        for applet in ("sh", "sleep", "true"):
            (rootfs / "bin" / applet).symlink_to("busybox")
        if ranges and os.geteuid() == 0:
            subprocess.run(["chown", "-R", "100000:100000", rootfs], check=True)
        self.config = self._make_config(ranges)
        self.set_args("sleep", "1000")
        layer = a.directory("dir") + a.file("dir/file", bytes(100_000)) + a.symlink("dir/link", "file")
        layer += a.hard_link("dir/hard", "dir/file") + a.file("owned", b"x", uid=3) + a.END
        (self.place / "image.tar").write_bytes(a.docker_archive([layer, a.file("dir/file", b"new") + a.END]))

    def _make_config(self, ranges: bool) -> dict[str, Any]:
        uid, gid = os.geteuid(), os.getegid()
        config = default_config(uid != 0, uid, gid)
        linux = config["linux"]
        if ranges and uid:
            del linux["uidMappings"], linux["gidMappings"]  # the default map: all that /etc/subuid allows
        elif ranges:
            linux["namespaces"].append({"type": "user"})
            linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
            linux["resources"] = {}
        if ranges:
            hook = [{"path": "/bin/true", "args": ["true"]}]
            config["hooks"] = {name: hook for name in ("createRuntime", "poststart", "poststop")}
            volume = {"type": "bind", "source": str(self.place / "volume"), "options": ["rbind", "ro"]}
            config["mounts"].append({"destination": "/mnt", **volume})
            config["mounts"].append({"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup"]})
            linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
            linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["chroot"], "action": "SCMP_ACT_ERRNO"}]}  # fmt: skip
            config["process"]["oomScoreAdj"] = 100
            config["root"]["readonly"] = False
        config["process"]["terminal"] = False
        return config

    def set_args(self, *args: str) -> None:
        """Set the container's program."""
        self.config["process"]["args"] = list(args)
        (self.bundle / "config.json").write_text(json.dumps(self.config))

    def words(self, *words: object) -> list[object]:
        """Return a command line with this state root."""
        return ["--root", self.state, *words]

    def call(self, *words: object) -> tuple[int, str]:
        """Run a command undisturbed; return its exit code and its output."""
        with open(self.place / "other", "w+") as file:
            command = [sys.executable, "-IS", LAUNCHER, *map(str, self.words(*words))]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=self.work, timeout=SECONDS, check=False
            )
            file.seek(0)
            return done.returncode, file.read()

    def must(self, *words: object) -> str:
        """Run a command undisturbed, which has to end with 0."""
        code, text = self.call(*words)
        if code:
            raise Wrong(f"{words[0]} ends with {code}: {text.strip()}")
        return text

    def create(self) -> None:
        """Create a container."""
        self.must("create", "-b", self.bundle, ID)

    def status(self) -> str:
        """Return the container's status, "" if there is no container."""
        code, text = self.call("state", ID)
        return str(json.loads(text)["status"]) if code == 0 else ""

    def clean(self) -> None:
        """Run `delete --force`. Raises Wrong if anything is left."""
        code, text = self.call("delete", "--force", ID)
        if code or text:
            raise Wrong(f"delete --force ends with {code}: {text.strip()}")
        self.check_nothing_left()

    def check_nothing_left(self) -> None:
        """Check that there is no state, cgroup, mount, file or process. Raises Wrong."""
        forget_directory_of_python(self.work)
        left = [f"state of {name}" for name in (os.listdir(self.state) if self.state.exists() else [])]
        left += [f"file {name}" for name in os.listdir(self.work)]
        left += [f"file {name}" for name in os.listdir(self.place) if name.startswith(".")]
        if self.cgroup and os.path.exists(self.cgroup):
            left.append(f"cgroup {self.cgroup}")
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        left += [f"mount {line}" for line in mounts if str(self.place) in line.split(" ")[4]]
        left += [f"process {pid} {what}" for pid, what in living_children()]
        if left:
            raise Wrong("left behind: " + ", ".join(left))

    def reset(self) -> None:
        """Remove by any means what a reported fault has left, so that the next trial finds nothing of it."""
        for pid, _ in living_children(0):
            os.kill(pid, signal.SIGKILL)
        try:
            self.call("delete", "--force", ID)
        except subprocess.TimeoutExpired:
            pass
        living_children()
        for path in (self.state / ID, *self.work.iterdir()):
            remove(path)
        self.pid_file.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove it all."""
        self.reset()
        remove(self.place)


def forget_directory_of_python(work: Path) -> None:
    """Remove the byte code that CPython writes into the working directory where every stat(2) fails.

    importlib looks for the first parent of `__pycache__` that is there, finds not even `/`, and makes the path from its
    first component on: a relative one.
    """
    path = work / LAUNCHER.parts[1]
    if all("__pycache__" in file.parts for file in path.rglob("*") if not file.is_dir()):
        shutil.rmtree(path, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a tree that may hold files of subordinate ids."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        command = [sys.executable, "-IS", LAUNCHER, "unshare", "rm", "-rf", path]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def living_children(seconds: float = TIMEOUT) -> list[tuple[int, str]]:
    """Return (pid, name) of each child, and of each orphan that this process has adopted, that still runs after that
    time.

    Those that have ended are reaped.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return []
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        if time.monotonic() > until:
            return [(int(pid), Path(f"/proc/{pid}/comm").read_text().strip()) for pid in children]
        time.sleep(0.01)


class Scenario:
    """Describe one command: what it needs, and what may be true when it has ended."""

    failure = 1  # the exit code of a failure

    def __init__(self, world: World) -> None:
        self.world = world

    def prepare(self) -> None:
        """Make what the command needs; called before each trial."""

    def words(self) -> list[object]:
        """Return the command line."""
        raise NotImplementedError

    def check_done(self, code: int, said: str) -> None:
        """Check that a command did what it says it did (its exit code is not `failure`). Raises Wrong if it did not."""
        raise NotImplementedError

    def check_failed(self, said: str) -> None:
        """Check that a command that failed has removed or named everything that it made. Raises Wrong if it has not."""
        if not self.is_named():
            self.world.check_nothing_left()

    def is_named(self) -> bool:
        """Return whether the command says that something is left, and which command removes it."""
        return f"delete --force {ID}" in self.world.told.read_text()

    def clean(self) -> None:
        """Check, after each trial and after a kill, that nothing is left. Raises Wrong."""
        self.world.clean()


class Create(Scenario):
    """Try `create`."""

    def words(self) -> list[object]:
        return ["create", "--pid-file", self.world.pid_file, "-b", self.world.bundle, ID]

    def check_done(self, code: int, said: str) -> None:
        if code or self.world.status() != "created":
            raise Wrong(f"it ends with {code}, and the container is {self.world.status() or 'not there'}")
        state = json.loads((self.world.state / ID / "state.json").read_text())
        if self.world.pid_file.read_text() != str(state["pid"]):
            raise Wrong("the pid file holds something else")
        check_same(self.world, state["pid"])

    def check_failed(self, said: str) -> None:
        if self.world.pid_file.exists():
            raise Wrong("the pid file is left behind")
        super().check_failed(said)

    def clean(self) -> None:
        self.world.pid_file.unlink(missing_ok=True)
        super().clean()


class Start(Scenario):
    """Try `start`."""

    def prepare(self) -> None:
        self.world.create()

    def words(self) -> list[object]:
        return ["start", ID]

    def check_done(self, code: int, said: str) -> None:
        if code or self.world.status() != "running":
            raise Wrong(f"it ends with {code}, and the container is {self.world.status() or 'not there'}")

    def check_failed(self, said: str) -> None:
        if not self.is_named() and self.world.status() == "running":
            raise Wrong("the container runs")


class Run(Scenario):
    """Try `run` of a program that ends with 7."""

    def prepare(self) -> None:
        self.world.set_args("sh", "-c", "echo ran; exit 7")

    def words(self) -> list[object]:
        return ["run", "-b", self.world.bundle, ID]

    def check_done(self, code: int, said: str) -> None:
        if (code, said) != (7, "ran\n"):
            raise Wrong(f"it ends with {code} after {said!r}")
        self.world.check_nothing_left()

    def check_failed(self, said: str) -> None:
        if not self.is_named() and self.world.status() == "running":
            raise Wrong("the container runs")
        super().check_failed(said)

    def clean(self) -> None:
        self.world.set_args("sleep", "1000")
        super().clean()


class Exec(Scenario):
    """Try `exec` of a program that ends with 7."""

    failure = 255

    def prepare(self) -> None:
        if self.world.status() != "running":
            self.world.reset()
            self.world.create()
            self.world.must("start", ID)

    def words(self) -> list[object]:
        return ["exec", ID, "sh", "-c", "echo ran; exit 7"]

    def check_done(self, code: int, said: str) -> None:
        if (code, said) != (7, "ran\n"):
            raise Wrong(f"it ends with {code} after {said!r}")
        self.clean()

    def check_failed(self, said: str) -> None:
        self.clean()

    def clean(self) -> None:
        if self.world.status() != "running":
            raise Wrong(f"the container is {self.world.status() or 'not there'}")
        until = time.monotonic() + TIMEOUT
        while others := namesakes(self.world):
            if time.monotonic() > until:
                raise Wrong(f"left in the container: {others}")
            living_children(0)  # a dead one is there until it is reaped


class Kill(Scenario):
    """Try `kill` of a running container."""

    def prepare(self) -> None:
        self.world.create()
        self.world.must("start", ID)

    def words(self) -> list[object]:
        return ["kill", ID, "KILL"]

    def check_done(self, code: int, said: str) -> None:
        if code:
            raise Wrong(f"it ends with {code}")
        until = time.monotonic() + TIMEOUT
        while self.world.status() != "stopped":
            if time.monotonic() > until:
                raise Wrong(f"the container is {self.world.status() or 'not there'}")

    def check_failed(self, said: str) -> None:
        pass


class Delete(Kill):
    """Try `delete --force` of a running container."""

    def words(self) -> list[object]:
        return ["delete", "--force", ID]

    def check_done(self, code: int, said: str) -> None:
        if code:
            raise Wrong(f"it ends with {code}")
        self.world.check_nothing_left()


class Convert(Scenario):
    """Try `convert` of an archive."""

    def is_named(self) -> bool:
        left = [str(path) for path in self.world.work.iterdir()]
        return bool(left) and all(path in self.world.told.read_text() for path in left)

    def words(self) -> list[object]:
        return ["convert", "--quiet", self.world.place / "image.tar", "-o", "made"]

    def check_done(self, code: int, said: str) -> None:
        found = self.world.work / "made/rootfs/dir/file"
        if code or found.read_bytes() != b"new" or os.listdir(self.world.work) != ["made"]:
            raise Wrong(f"it ends with {code} and {os.listdir(self.world.work)}")

    def clean(self) -> None:
        for path in self.world.work.iterdir():
            remove(path)


class Pack(Scenario):
    """Try `pack` of a bundle with a change."""

    def prepare(self) -> None:
        if not (self.world.place / "packed").exists():
            self.world.must("convert", "--quiet", self.world.place / "image.tar", "-o", self.world.place / "packed")
            (self.world.place / "packed/rootfs/dir/more").write_bytes(bytes(200_000))

    def words(self) -> list[object]:
        return ["pack", self.world.place / "packed", "-o", "new.tar"]

    def check_done(self, code: int, said: str) -> None:
        if code or os.listdir(self.world.work) != ["new.tar"]:
            raise Wrong(f"it ends with {code} and {os.listdir(self.world.work)}")

    def clean(self) -> None:
        for path in self.world.work.iterdir():
            remove(path)


SCENARIOS: dict[str, type[Scenario]] = {
    each.__name__.lower(): each for each in (Create, Start, Run, Exec, Kill, Delete, Convert, Pack)
}


def namesakes(world: World) -> list[str]:
    """Return the names of the processes in the container's pid namespace, without its init."""
    pid = json.loads((world.state / ID / "state.json").read_text())["pid"]
    own = os.readlink(f"/proc/{pid}/ns/pid")
    others = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(entry) != pid and os.readlink(f"/proc/{entry}/ns/pid") == own:
                others.append(Path(f"/proc/{entry}/comm").read_text().strip())
        except OSError:
            continue  # gone, or another user's
    return others


_same: list[str] = []


def forget_same() -> None:
    """Compare with another container from now on."""
    _same.clear()


def check_same(world: World, pid: int) -> None:
    """Check that a command that says it succeeded has made the same container as in an undisturbed run. Raises Wrong.

    The first call stores what the others compare with.
    """
    lines = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    lines = [*{line[4]: line for line in lines}.values()]  # what another mount covers does not count
    # A container that cannot have its own cgroup is in another one. That was recorded, so it is not a fault.
    found = [" ".join(line[4:6] if line[4] == "/sys/fs/cgroup" else line[3:6]) for line in lines]
    found += [f"{name} {Path(f'/proc/{pid}/{name}').read_text().split()}" for name in ("uid_map", "gid_map")]
    kept = ("Cap", "NoNewPrivs", "Seccomp:", "Uid", "Gid", "Groups")
    found += [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(kept)]
    found.append(Path(f"/proc/{pid}/oom_score_adj").read_text().strip())
    if not _same:
        _same.extend(found)
        return
    # Where the kernel refuses a sysfs (EPERM), the host's is bound instead, with what the host has mounted below.
    different = {line for line in set(found) ^ set(_same) if line in _same or not line.startswith("/ /sys/")}
    if different:
        raise Wrong(f"the container is another: {sorted(different)}")
