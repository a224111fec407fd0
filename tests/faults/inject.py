"""Inject faults: make each system call of a command fail once with each errno, or kill the command there.

`python -m tests.faults.inject COMMAND...` tries all points of these commands; `--sample 30` tries thirty, evenly spread
and the same ones each time. Each command that does not end as it should is printed in one line, and then the exit code
is 1. docs/reliability.md has the promises that are checked here.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.faults.scenarios import (
    ID,
    SCENARIOS,
    SECONDS,
    Convert,
    Create,
    Exec,
    Pack,
    Run,
    Scenario,
    World,
    Wrong,
    forget_same,
    living_children,
)
from tests.faults.tracer import CLOSE, GO_ON, KILL, STOP, Hung, Point, Trace, Tracee, adopt_orphans, driver
from tests.support.checkout import LAUNCHER

ERRNOS = (errno.EPERM, errno.ENOMEM, errno.ENOSPC, errno.EMFILE, errno.EINTR)
# Calls of x86_64 that have no error to return, or whose wrapper in the C library knows none of ours: exit_group,
# getpid and its like, lseek, sigaction, sigprocmask, sigreturn, sigaltstack, brk, munmap, madvise, futex, umask, ...
INFALLIBLE = {8, 11, 12, 13, 14, 15, 24, 28, 39, 60, 63, 95, 102, 104, 107, 108, 110, 131, 158, 186, 202, 218, 228, 231,
              273, 334}  # fmt: skip
WRITE = 1
MMAP, MPROTECT, WAIT4, WAITID, CLONE3, CLONE, FORK, VFORK = 9, 10, 61, 247, 435, 56, 57, 58
# Where only some of the errors can come from the kernel.
LIMITED = {
    CLOSE: (errno.ENOSPC, errno.EINTR),
    MMAP: (errno.ENOMEM,), MPROTECT: (errno.ENOMEM,), WAIT4: (errno.EINTR,), WAITID: (errno.EINTR,),
    **dict.fromkeys((CLONE3, CLONE, FORK, VFORK), (errno.EPERM, errno.ENOMEM, errno.ENOSPC)),
}  # fmt: skip
# Calls that change nothing: killed there or one call later is the same.
QUIET = {0, 4, 5, 6, 8, 9, 10, 16, 17, 21, 72, 78, 79, 89, 138, 217, 257, 262, 332} | INFALLIBLE


class Trial:
    """Say what is done at which point: an errno, KILL or STOP. every: the errno is for each such call from there on."""

    def __init__(self, point: Point, what: int, *, every: bool = False) -> None:
        self.point = point
        self.what = what
        self.every = every

    def __call__(self, tracee: Tracee, point: Point) -> int:
        """Return the Action for a Trace."""
        _, number, before = self.point
        if self.every:
            return self.what if number == point[1] and before <= point[2] else GO_ON
        return self.what if point == self.point else GO_ON

    def silences(self) -> bool:
        """Return whether the trial keeps the command from writing its line."""
        return self.every and self.point[1] == WRITE

    def __str__(self) -> str:
        what = {KILL: "KILL", STOP: "STOP"}.get(self.what) or errno.errorcode[self.what]
        process, number, before = self.point
        return f"{process} {name_of(number)}#{before + 1}{'+' if self.every else ''} {what}"


def name_of(number: int) -> str:
    """Return the name of a system call, its number if the name is not known."""
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
    """Return all calls of the command, to its end. Raises Wrong if the command does not succeed."""
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
    """Start the command; its output goes to the world's two files."""
    world = scenario.world
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    streams = [os.open(path, flags, 0o644) for path in (world.said, world.told)]
    command = driver(LAUNCHER, *world.words(*scenario.words()))
    trace = Trace(command, cwd=world.work, stdout=streams[0], stderr=streams[1])
    for fd in streams:
        os.close(fd)
    return trace


def fail(scenario: Scenario, trial: Trial) -> tuple[str, str]:
    """Make one trial with an error; return (how the command ended, the path that the call named). Raises Wrong."""
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
            if code != scenario.failure:
                scenario.check_done(code, world.said.read_text())
                end = "went on"
            elif trial.silences():
                end = "nothing could be said"
            else:
                raise Wrong(f"it ends with {code} and says nothing")
        scenario.clean()
    except Wrong as wrong:
        raise Wrong(f"{wrong} ({trace.path})") from None
    return end, trace.path


def is_warning(line: str) -> bool:
    """Return whether it is a line in which the command says what it had to do without."""
    return line.startswith("rootless: warning: ")


def end(scenario: Scenario, trial: Trial) -> str:
    """Make one trial in which the process is killed or stopped; then `delete --force` must clean up. Raises Wrong."""
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
    """Run `delete --force` while the command is stopped: it must finish. Then let the stopped processes continue."""
    if not isinstance(scenario, (Convert, Pack, Exec)):
        code, text = scenario.world.call("delete", "--force", ID)
        if code:
            raise Wrong(f"delete --force ends with {code}: {text.strip()} ({trace.path})")
    try:
        os.kill(trace.target, signal.SIGCONT)  # it had not taken its lock yet
    except ProcessLookupError:
        pass
    try:
        pidfd = os.pidfd_open(trace.leader)
    except ProcessLookupError:
        return
    select.select([pidfd], [], [], SECONDS)
    os.close(pidfd)


def errors_for(number: int) -> tuple[int, ...]:
    """Return the errors to inject into a call."""
    return () if number in INFALLIBLE else LIMITED.get(number, ERRNOS)


def trials(found: list[Point], mode: str) -> Iterator[Trial]:
    """Yield all trials of a mode: each, every, kill, stop."""
    for point in found:
        if mode in ("kill", "stop"):
            if point[1] not in QUIET:
                yield Trial(point, KILL if mode == "kill" else STOP)
            continue
        for number in errors_for(point[1]):
            if mode == "every" and number == errno.EINTR:
                continue  # a caller that retries after EINTR, as it should, would retry for ever
            yield Trial(point, number, every=mode == "every")


def spread(found: list[Trial], count: int) -> list[Trial]:
    """Return that many of the trials, evenly spread, all for 0.

    Neighbours are one call with another errno, so an odd step takes all errnos in turn.
    """
    step = max(len(found) // count, 1) if count else 1
    while step > 1 and step % len(ERRNOS) == 0:
        step += 1
    return found[step // 2 :: step]


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*", default=[*SCENARIOS])
    parser.add_argument("--mode", choices=("each", "every", "kill", "stop"), default="each")
    parser.add_argument("--ranges", action="store_true", help="a range of ids, hooks, a filter, more kinds of mounts")
    parser.add_argument("--sample", type=int, default=0, help="so many trials of each command, evenly spread")
    parser.add_argument("--only", default="", help="trials whose line contains this text")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` below removes the world
    wrong = 0
    world = World(ranges=options.ranges)
    try:
        for name in options.commands:
            forget_same()
            ends: Counter[str] = Counter()
            scenario = SCENARIOS[name](world)
            if not world.cgroup and name != "create":
                points(Create(world))
            found = points(scenario)
            for trial in spread([*trials(found, options.mode)], options.sample):
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
