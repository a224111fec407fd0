"""The fault injector: every system call of a command fails, once with each errno, or is where the command is killed.

`inject.py COMMAND...` tries all points of these commands; `--share 1/40` every fortieth of them, the same ones each
time. What does not end as it should is printed, one line a fault, and the exit code is 1. docs/reliability.md has the
promises that are checked here.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(CHECKOUT), str(CHECKOUT / "tests/oci")]

import archives as a
from tracer import GO_ON, KILL, RUNTIME, STOP, Hung, Point, Trace, Tracee, adopt_orphans, driver

from oci.config import default_config

LAUNCHER = CHECKOUT / "bin" / "rootless"
BUSYBOX = Path("/bin/busybox")
SECONDS = int(os.environ.get("ROOTLESS_TEST_TIMEOUT", "60"))  # until something hangs
ID = "faulty"
ERRNOS = (errno.EPERM, errno.ENOMEM, errno.ENOSPC, errno.EMFILE, errno.EINTR)
# Calls of x86_64 that have no error to return, or whose wrapper in the C library knows none of ours: exit_group,
# getpid and its like, lseek, sigaction, sigprocmask, sigreturn, sigaltstack, brk, munmap, madvise, futex, umask, clock_gettime, ...
INFALLIBLE = {8, 11, 12, 13, 14, 15, 24, 28, 39, 60, 63, 95, 102, 104, 107, 108, 110, 131, 158, 186, 202, 218, 228, 231,
              273, 334}  # fmt: skip
MMAP, MPROTECT, WAIT4, WAITID, CLONE3, CLONE, FORK, VFORK = 9, 10, 61, 247, 435, 56, 57, 58
# Where only some of the errors can come from the kernel.
LIMITED = {
    MMAP: (errno.ENOMEM,), MPROTECT: (errno.ENOMEM,), WAIT4: (errno.EINTR,), WAITID: (errno.EINTR,),
    **dict.fromkeys((CLONE3, CLONE, FORK, VFORK), (errno.EPERM, errno.ENOMEM, errno.ENOSPC)),
}  # fmt: skip
# Calls that change nothing: killed there or one call later is the same.
QUIET = {0, 4, 5, 6, 8, 9, 10, 16, 17, 21, 72, 78, 79, 89, 138, 217, 257, 262, 332} | INFALLIBLE


class Wrong(Exception):
    """What a command did that was not promised."""


class World:
    """A directory with a bundle, an archive and a state root, and what has to be as before after each trial."""

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
        """The container's program."""
        self.config["process"]["args"] = list(args)
        (self.bundle / "config.json").write_text(json.dumps(self.config))

    def words(self, *words: object) -> list[object]:
        """A command line with this state root."""
        return ["--root", self.state, *words]

    def call(self, *words: object) -> tuple[int, str]:
        """A command that nothing is done to: its exit code, and what it says."""
        with open(self.place / "other", "w+") as file:
            command = [sys.executable, "-IS", LAUNCHER, *map(str, self.words(*words))]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=self.work, timeout=SECONDS, check=False
            )
            file.seek(0)
            return done.returncode, file.read()

    def must(self, *words: object) -> str:
        """The same, which ends with 0."""
        code, text = self.call(*words)
        if code:
            raise Wrong(f"{words[0]} ends with {code}: {text.strip()}")
        return text

    def create(self) -> None:
        """A created container."""
        self.must("create", "-b", self.bundle, ID)

    def status(self) -> str:
        """The container's status, "" where there is none."""
        code, text = self.call("state", ID)
        return str(json.loads(text)["status"]) if code == 0 else ""

    def clean(self) -> None:
        """`delete --force` takes everything away. Raises Wrong where something is left."""
        code, text = self.call("delete", "--force", ID)
        if code or text:
            raise Wrong(f"delete --force ends with {code}: {text.strip()}")
        self.check_nothing_left()

    def check_nothing_left(self) -> None:
        """No state, cgroup, mount, file or process. Raises Wrong."""
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
        """After a fault that was told of: whatever it takes, so that the next trial finds nothing."""
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


def remove(path: Path) -> None:
    """A tree that may hold files of subordinate ids."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        command = [sys.executable, "-IS", LAUNCHER, "unshare", "rm", "-rf", path]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def living_children(seconds: float = 5) -> list[tuple[int, str]]:
    """Who is still there of all that were left to this process, after so long: (pid, name). The dead are reaped."""
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
    """One command: what it needs, and what may be true when it has ended."""

    failure = 1  # its exit code when it could not do it
    follows = RUNTIME  # the name with which all its processes begin

    def __init__(self, world: World) -> None:
        self.world = world

    def prepare(self) -> None:
        """Before each trial."""

    def words(self) -> list[object]:
        """The command line."""
        raise NotImplementedError

    def check_done(self, code: int, said: str) -> None:
        """It says that it did it (its exit code is not `failure`). Raises Wrong where it did not."""
        raise NotImplementedError

    def check_failed(self, said: str) -> None:
        """It says that it failed. Raises Wrong where something is left that it should have taken away."""
        self.world.check_nothing_left()

    def clean(self) -> None:
        """After each trial, and after a kill: nothing is left. Raises Wrong."""
        self.world.clean()


class Create(Scenario):
    """`create`."""

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
    """`start`."""

    def prepare(self) -> None:
        self.world.create()

    def words(self) -> list[object]:
        return ["start", ID]

    def check_done(self, code: int, said: str) -> None:
        if code or self.world.status() != "running":
            raise Wrong(f"it ends with {code}, and the container is {self.world.status() or 'not there'}")

    def check_failed(self, said: str) -> None:
        if self.world.status() == "running":
            raise Wrong("the container runs")


class Run(Scenario):
    """`run` of a program that ends with 7."""

    def prepare(self) -> None:
        self.world.set_args("sh", "-c", "echo ran; exit 7")

    def words(self) -> list[object]:
        return ["run", "-b", self.world.bundle, ID]

    def check_done(self, code: int, said: str) -> None:
        if (code, said) != (7, "ran\n"):
            raise Wrong(f"it ends with {code} after {said!r}")
        self.world.check_nothing_left()

    def check_failed(self, said: str) -> None:
        if self.world.status() in ("running", "created", "creating"):
            raise Wrong(f"the container is {self.world.status()}")
        if ID not in self.world.told.read_text():  # what remains is named
            self.world.check_nothing_left()

    def clean(self) -> None:
        self.world.set_args("sleep", "1000")
        super().clean()


class Exec(Scenario):
    """`exec` of a program that ends with 7."""

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
        until = time.monotonic() + 5
        while others := namesakes(self.world):
            if time.monotonic() > until:
                raise Wrong(f"left in the container: {others}")
            time.sleep(0.01)


class Kill(Scenario):
    """`kill` of a running container."""

    def prepare(self) -> None:
        self.world.create()
        self.world.must("start", ID)

    def words(self) -> list[object]:
        return ["kill", ID, "KILL"]

    def check_done(self, code: int, said: str) -> None:
        if code:
            raise Wrong(f"it ends with {code}")
        until = time.monotonic() + 5
        while self.world.status() != "stopped":
            if time.monotonic() > until:
                raise Wrong(f"the container is {self.world.status() or 'not there'}")

    def check_failed(self, said: str) -> None:
        pass


class Delete(Kill):
    """`delete --force` of a running container."""

    def words(self) -> list[object]:
        return ["delete", "--force", ID]

    def check_done(self, code: int, said: str) -> None:
        if code:
            raise Wrong(f"it ends with {code}")
        self.world.check_nothing_left()


class Convert(Scenario):
    """`convert` of an archive."""

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
    """`pack` of a bundle with a change."""

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
    """The processes of the container's pid namespace other than its init."""
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


def check_same(world: World, pid: int) -> None:
    """What says that it succeeded has made the same container as ever: an error that is passed over takes nothing away.
    The first call sets what is compared."""
    found = [" ".join(line.split()[3:6]) for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    kept = ("Cap", "NoNewPrivs", "Seccomp:", "Uid", "Gid", "Groups")
    found += [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(kept)]
    found += Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    found.append(Path(f"/proc/{pid}/oom_score_adj").read_text().strip())
    if not _same:
        _same.extend(found)
    elif found != _same:
        raise Wrong(f"the container is another: {sorted(set(found) ^ set(_same))}")


# --- trials


class Trial:
    """What is done at which point: an errno (with `every`, from there on to each such call), KILL or STOP."""

    def __init__(self, point: Point, what: int, *, every: bool = False) -> None:
        self.point = point
        self.what = what
        self.every = every

    def __call__(self, tracee: Tracee, point: Point) -> int:
        """The Action for a Trace."""
        process, number, before = self.point
        if self.every:
            return self.what if number == point[1] and before <= point[2] else GO_ON
        return self.what if point == self.point else GO_ON

    def __str__(self) -> str:
        what = {KILL: "KILL", STOP: "STOP"}.get(self.what) or errno.errorcode[self.what]
        process, number, before = self.point
        return f"{process} {name_of(number)}#{before + 1}{'+' if self.every else ''} {what}"


def name_of(number: int) -> str:
    """The name of a system call, its number where it is not known."""
    if not _names:
        for path in ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"):
            if os.path.exists(path):
                lines = [line.split() for line in Path(path).read_text().splitlines()]
                _names.update({int(w[2]): w[1][5:] for w in lines if len(w) == 3 and w[1].startswith("__NR_")})
                break
        else:
            _names[-1] = ""
    return _names.get(number, f"call {number}")


_names: dict[int, str] = {}


def points(scenario: Scenario) -> list[Point]:
    """All calls of the command, to its end. Raises Wrong where it does not succeed."""
    for _ in range(3):  # the first one fills caches and switches controllers on
        scenario.prepare()
        trace = begin(scenario)
        status = trace.run(lambda tracee, point: GO_ON, SECONDS)
        if status and not isinstance(scenario, (Run, Exec)):
            raise Wrong(f"it fails without any fault: {scenario.world.told.read_text()}")
        if isinstance(scenario, Create):
            state = json.loads((scenario.world.state / ID / "state.json").read_text())
            scenario.world.cgroup = (state.get("cgroup") or {}).get("path", "")
        scenario.check_done(os.waitstatus_to_exitcode(status), scenario.world.said.read_text())
        scenario.clean()
    return list(trace.seen)


def begin(scenario: Scenario) -> Trace:
    """The command, with its output in the world's two files."""
    world = scenario.world
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    streams = [os.open(path, flags, 0o644) for path in (world.said, world.told)]
    command = driver(LAUNCHER, *world.words(*scenario.words()))
    trace = Trace(command, cwd=world.work, stdout=streams[0], stderr=streams[1])
    for fd in streams:
        os.close(fd)
    return trace


def fail(scenario: Scenario, trial: Trial) -> tuple[str, str]:
    """One trial with an error: (how it ended, the path that was asked for). Raises Wrong."""
    world = scenario.world
    scenario.prepare()
    trace = begin(scenario)
    try:
        code = os.waitstatus_to_exitcode(trace.run(trial, SECONDS))
    except Hung:
        raise Wrong(f"it hangs ({trace.path})") from None
    told = [line for line in world.told.read_text(errors="replace").splitlines() if not is_warning(line)]
    try:
        if not trace.acted:
            scenario.clean()
            return "not met", ""
        if code == scenario.failure and told:
            if len(told) != 1 or not told[0].startswith("rootless: ") or any("Traceback" in line for line in told):
                raise Wrong(f"it says {len(told)} lines: {told[0]} ... {told[-1]}")
            try:
                scenario.check_failed(world.said.read_text())
            except Wrong as wrong:
                raise Wrong(f"{wrong} after {told[0]}") from None
            end = "one line"
        else:
            if told:
                raise Wrong(f"it ends with {code} and says {told[0]} ... {told[-1]}")
            if code == scenario.failure:
                raise Wrong(f"it ends with {code} and says nothing")
            scenario.check_done(code, world.said.read_text())
            end = "went on"
        scenario.clean()
    except Wrong as wrong:
        raise Wrong(f"{wrong} ({trace.path})") from None
    return end, trace.path


def is_warning(line: str) -> bool:
    """Whether it is one of the lines that say what a command had to do without."""
    return line.startswith("rootless: warning: ")


def end(scenario: Scenario, trial: Trial) -> str:
    """One trial in which the process is killed, or stopped for good: afterwards `delete --force` cleans up. Raises
    Wrong."""
    world = scenario.world
    scenario.prepare()
    trace = begin(scenario)
    try:
        trace.run(trial, SECONDS)
        if not trace.acted:
            scenario.clean()
            return "not met"
        if trial.what == STOP:
            end_stopped(scenario, trace)
    except Hung:
        raise Wrong(f"it hangs ({trace.path})") from None
    except subprocess.TimeoutExpired as error:
        raise Wrong(f"{error.cmd[5]} waits without end ({trace.path})") from None
    if isinstance(scenario, (Convert, Pack)):
        living_children()
        scenario.clean()
    elif isinstance(scenario, Exec):
        scenario.clean()
    else:
        if isinstance(scenario, Run):
            world.set_args("sleep", "1000")
        world.pid_file.unlink(missing_ok=True)
        for name in os.listdir(world.place):  # what `kill -9` leaves of a pid file
            if name.startswith("."):
                (world.place / name).unlink()
        world.clean()
    return "cleaned up"


def end_stopped(scenario: Scenario, trace: Trace) -> None:
    """`delete --force` while the command stands still: it finishes, and what is stopped is let go on afterwards."""
    if not isinstance(scenario, (Convert, Pack, Exec)):
        code, text = scenario.world.call("delete", "--force", ID)
        if code:
            raise Wrong(f"delete --force ends with {code}: {text.strip()} ({trace.path})")
    try:
        os.kill(trace.leader, signal.SIGCONT)  # it had not come to its lock yet
        pidfd = os.pidfd_open(trace.leader)
    except ProcessLookupError:
        return
    select.select([pidfd], [], [], SECONDS)
    os.close(pidfd)


def errors_for(number: int) -> tuple[int, ...]:
    """The errors to inject into a call."""
    return () if number in INFALLIBLE else LIMITED.get(number, ERRNOS)


def trials(found: list[Point], mode: str) -> Iterator[Trial]:
    """All trials of a mode: each, every, kill, stop."""
    for point in found:
        if mode in ("kill", "stop"):
            if point[1] not in QUIET:
                yield Trial(point, KILL if mode == "kill" else STOP)
            continue
        for number in errors_for(point[1]):
            yield Trial(point, number, every=mode == "every")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*", default=[*SCENARIOS])
    parser.add_argument("--mode", choices=("each", "every", "kill", "stop"), default="each")
    parser.add_argument("--ranges", action="store_true", help="a range of ids, hooks, a filter, more kinds of mounts")
    parser.add_argument("--share", default="1/1", help="I/N: every Nth trial, beginning with the Ith")
    parser.add_argument("--only", default="", help="trials whose line contains this text")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    adopt_orphans()
    first, _, step = options.share.partition("/")
    wrong = 0
    world = World(ranges=options.ranges)
    try:
        for name in options.commands:
            _same.clear()
            ends: Counter[str] = Counter()
            scenario = SCENARIOS[name](world)
            if not world.cgroup and name != "create":
                points(Create(world))
            found = points(scenario)
            for trial in [*trials(found, options.mode)][int(first) - 1 :: int(step)]:
                if options.only not in str(trial):
                    continue
                try:
                    if options.mode in ("kill", "stop"):
                        how, path = end(scenario, trial), ""
                    else:
                        how, path = fail(scenario, trial)
                    ends[how] += 1
                    if options.verbose:
                        print(f"{name} {trial} {path}: {how}", flush=True)
                except (Wrong, OSError, ValueError, subprocess.TimeoutExpired) as error:
                    ends["wrong"] += 1
                    print(f"WRONG {name} {trial}: {error}", flush=True)
                    world.reset()
            wrong += ends["wrong"]
            counts = ", ".join(f"{count} {how}" for how, count in ends.items())
            print(f"{name} ({options.mode}): {len(found)} calls, {sum(ends.values())} trials: {counts}", flush=True)
            if name == "exec":
                world.clean()
    finally:
        world.close()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
