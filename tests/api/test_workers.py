"""Many containers at once are set up in the memory of the launcher's workers (api/workers.py)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import rootless
from rootless.api.client import launcher_pid
from rootless.api.plans import Plans
from rootless.api.running import Own
from rootless.api.workers import Worker, Workers
from rootless.errors import LauncherError, RootlessError
from rootless.init import small_init
from rootless.kernel import channel, vfork
from rootless.kernel.host import Host
from tests.support.processes import has_ended, until

CHECKOUT = Path(__file__).resolve().parents[2]
PIPE = subprocess.PIPE
AT_ONCE = 12

needs_workers = pytest.mark.skipif(
    not (small_init.is_known() and vfork.is_possible() and os.getuid()),
    reason="workers need x86-64, glibc, Python before 3.14 and an ordinary user",
)


def launcher() -> int:
    if not (pid := launcher_pid()):
        rootless.run(["true"])
        pid = launcher_pid()
    return pid


def workers() -> list[int]:
    """Return the pids of the launcher's workers. A container's process has their name for a moment, too."""
    before = set(named_worker())
    time.sleep(0.05)
    return [pid for pid in named_worker() if pid in before]


def named_worker() -> list[int]:
    pid = launcher()
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in children if name_of(child) == "rootless:worker"]


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def arguments_of(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


def at_once(call: Callable[[int], Any], number: int = AT_ONCE) -> list[Any]:
    """Return what the calls 0, 1, ... return or raise, which all wait for the launcher at one time."""
    os.kill(launcher(), signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(number) as pool:
            futures = [pool.submit(call, each) for each in range(number)]
            time.sleep(0.2)
            os.kill(launcher(), signal.SIGCONT)
            return [future.exception() or future.result() for future in futures]
    finally:
        os.kill(launcher(), signal.SIGCONT)


@needs_workers
def test_workers_come_with_many_calls_and_go_with_them(busybox_root: Path) -> None:
    done = at_once(lambda _: rootless.run(["true"], rootfs=busybox_root))
    assert [each.returncode for each in done] == [0] * AT_ONCE
    assert len(workers()) > 1
    assert until(lambda: len(workers()) == 1), "all but one end after a second without a call"


# What is in memory of pid 1: a copy of the launcher, or the small init alone.
RESIDENT = "until grep -q rootless:init /proc/1/comm; do :; done; grep -c . /proc/1/status; grep VmRSS /proc/1/status"


@needs_workers
def test_calls_one_by_one_get_a_worker_that_stays_for_a_while(busybox_root: Path) -> None:
    program = f"""
import sys, time
sys.path.insert(0, {str(CHECKOUT)!r})
import rootless
from tests.api.test_workers import RESIDENT, workers, until
keywords = dict(rootfs={str(busybox_root)!r}, ephemeral=True, capture_output=True, text=True)
def resident():
    text = rootless.run(["sh", "-c", RESIDENT], **keywords).stdout
    return int(text.split()[-2])
first = [resident() for _ in range(2)]
assert min(first) > 1000, first
assert until(lambda: len(workers()) == 1)
assert all(until(lambda: resident() < 100) for _ in range(5))
assert len(workers()) == 1
time.sleep(1.5)
assert len(workers()) == 1, "it stays"
assert until(lambda: not workers()), "and ends"
assert resident() > 1000
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=CHECKOUT)


@needs_workers
def test_a_killed_worker_that_had_nothing_to_do_is_not_missed(busybox_root: Path) -> None:
    for _ in range(3):
        rootless.run(["true"], rootfs=busybox_root, ephemeral=True)
        time.sleep(0.05)
    for pid in workers():
        os.kill(pid, signal.SIGKILL)
    assert rootless.run(["true"], rootfs=busybox_root, ephemeral=True).returncode == 0


@needs_workers
def test_a_sandbox_has_its_filter_whoever_sets_it_up(busybox_root: Path) -> None:
    script = "grep -hE '^(NoNewPrivs|Seccomp|Cap)' /proc/self/status; unshare -U true; echo $?"
    with rootless.Sandbox(rootfs=busybox_root, text=True) as sandbox:
        found = [sandbox.run(["sh", "-c", script]) for _ in range(6)]
        found += at_once(lambda _: sandbox.run(["sh", "-c", script]))
    (text,) = {result.stdout for result in found}
    assert re.search(r"NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n1\n$", text), text
    assert re.findall(r"Cap\w+:\t(\w+)", text) == ["0" * 16] * 5


@needs_workers
def test_pid_1_is_the_small_init_and_has_nothing_to_take(busybox_root: Path) -> None:
    script = """
        until [ "$(cat /proc/1/comm)" = rootless:init ] && ! grep -q "CapPrm:.*[1-9a-f]" /proc/1/status; do :; done
        tr '\\0' '|' < /proc/1/cmdline; echo
        grep -E "^(Name|Cap(Prm|Eff|Amb)|NoNewPrivs|VmRSS)" /proc/1/status
        cat /proc/1/environ /proc/1/maps; readlink /proc/1/exe
        head -c 1 /proc/1/mem | wc -c
    """

    def ask(_: int) -> Any:
        return rootless.run(
            ["sh", "-c", script], rootfs=busybox_root, cap_add=["CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH"],
            capture_output=True, text=True,
        )  # fmt: skip

    found = at_once(ask)
    small = [done.stdout for done in found if done.stdout.startswith("rootless:init|\n")]
    assert len(small) > AT_ONCE // 2, found
    for text in small:
        assert re.search(r"Name:\s+rootless:init\n", text), text
        for name in ("CapPrm", "CapEff", "CapAmb"):
            assert re.search(rf"{name}:\s+0{{16}}\n", text), text
        resident = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert resident and int(resident[1]) < 100, "it holds none of the launcher's memory"


@needs_workers
def test_no_program_changes_the_file_that_all_containers_execute(busybox_root: Path) -> None:
    script = "for n in 1 2 3 4 5 6 7 8 9; do chmod 0 /proc/1/exe && echo changed; sleep 0.01; done"

    def change(_: int) -> Any:
        return rootless.run(
            ["sh", "-c", script], rootfs=busybox_root, cap_add=["CAP_SYS_PTRACE"], capture_output=True, text=True
        )

    at_once(lambda _: rootless.run(["true"], rootfs=busybox_root))
    assert workers()
    assert [done.stdout for done in at_once(change, 4)] == [""] * 4
    assert [done.returncode for done in at_once(lambda _: rootless.run(["true"], rootfs=busybox_root))] == [0] * AT_ONCE


@needs_workers
def test_the_fence_around_pid_1_stands_without_capabilities_too(busybox_root: Path) -> None:
    script = "for f in environ maps mem exe fd/3 cwd root; do head -c 1 /proc/1/$f && echo open $f; done"
    for done in at_once(
        lambda _: rootless.run(["sh", "-c", script], rootfs=busybox_root, capture_output=True, text=True)
    ):
        assert done.stdout == "", done


@needs_workers
def test_every_argument_of_a_call_reaches_the_program(busybox_root: Path, tmp_path: Path) -> None:
    script = 'read word; echo "$0 $1 $word $VALUE $(pwd) $(umask) $$ $PPID"; echo err >&2; echo passed >&$2; exit $1'

    def call(number: int) -> Any:
        reader, writer = os.pipe()
        try:
            with open(tmp_path / str(number), "w+") as errors:
                done = rootless.run(
                    ["sh", "-c", script, "zero", str(number), str(writer)], executable="/bin/sh", rootfs=busybox_root,
                    input=f"word{number}\n", stdout=PIPE, stderr=errors, text=True, pass_fds=[writer], cwd="/etc",
                    env={"VALUE": f"value{number}"}, umask=0o27,
                )  # fmt: skip
                os.close(writer)
                errors.seek(0)
                return done.stdout, errors.read(), os.read(reader, 100), done.returncode
        finally:
            os.close(reader)

    assert at_once(call) == [
        (f"zero {n} word{n} value{n} /etc 0027 2 1\n", "err\n", b"passed\n", n) for n in range(AT_ONCE)
    ]


@needs_workers
def test_failures_are_those_of_one_call(busybox_root: Path) -> None:
    kinds: list[tuple[list[str], dict[str, Any], Any]] = [
        (["missing"], {}, FileNotFoundError),
        (["/etc/passwd"], {}, PermissionError),
        (["true"], {"cwd": "/missing"}, FileNotFoundError),
        (["sh", "-c", "exit 3"], {}, 3),
        (["sh", "-c", "kill -9 $$"], {}, -9),
        (["sh", "-c", "kill -TERM 1; sleep 1000"], {}, -15),
    ]

    def call(number: int) -> Any:
        words, keywords, _ = kinds[number % len(kinds)]
        return rootless.run(words, rootfs=busybox_root, **keywords).returncode

    for number, found in enumerate(at_once(call, 24)):
        expected = kinds[number % len(kinds)][2]
        if isinstance(expected, int):
            assert found == expected, number
        else:
            assert isinstance(found, expected) and isinstance(found, RootlessError), (number, found)


@needs_workers
def test_nothing_outlives_the_program(busybox_root: Path) -> None:
    script = "for n in 1 2 3; do sleep 1000 & done; (sleep 1000 &); setsid sleep 1000 & echo started"

    def call(_: int) -> tuple[int, str]:
        with rootless.Popen(["sh", "-c", script], rootfs=busybox_root, stdout=PIPE, text=True) as box:
            assert box.stdout
            said = box.stdout.readline()
            box.wait()
            return box.pid, said

    for pid, said in at_once(call):
        assert said == "started\n"
        assert until(lambda pid=pid: has_ended(pid))  # type: ignore[misc]


@needs_workers
def test_orphans_are_reaped(busybox_root: Path) -> None:
    script = """
        for n in 1 2 3 4 5; do (sleep 0.1 &); done
        while ps -o args | grep -q "^sleep 0.1"; do sleep 0.1; done
        for n in 1 2 3 4 5 6 7 8 9 10; do ps -o stat,ppid | grep -q "^Z *1 *$" || exit 0; sleep 0.5; done
        exit 1
    """
    for done in at_once(lambda _: rootless.run(["sh", "-c", script], rootfs=busybox_root)):
        assert done.returncode == 0


@needs_workers
def test_a_second_program_at_once(busybox_root: Path) -> None:
    def call(number: int) -> tuple[bytes, int]:
        with rootless.Popen(["sleep", "1000"], rootfs=busybox_root) as box:
            said = box.exec(["sh", "-c", f"echo {number} $(cat /proc/2/comm)"], capture_output=True).stdout
            box.terminate()
            return said, box.wait()

    assert at_once(call) == [(b"%d sleep\n" % number, -signal.SIGTERM) for number in range(AT_ONCE)]


@needs_workers
def test_a_worker_that_is_killed_without_work_is_not_missed(busybox_root: Path) -> None:
    boxes = at_once(lambda _: rootless.Popen(["sleep", "1000"], rootfs=busybox_root))
    old = launcher()
    time.sleep(0.3)  # until the workers have told the launcher that they are free
    for pid in workers()[:-1]:
        os.kill(pid, signal.SIGKILL)
        assert until(lambda pid=pid: has_ended(pid))  # type: ignore[misc]
    assert at_once(lambda _: rootless.run(["true"], rootfs=busybox_root).returncode) == [0] * AT_ONCE
    for box in boxes:
        box.kill()
        assert box.wait() == -signal.SIGKILL
    assert launcher() == old


@needs_workers
def test_a_worker_that_is_killed_at_work_loses_no_call_and_no_container(busybox_root: Path) -> None:
    boxes = at_once(lambda _: rootless.Popen(["sleep", "1000"], rootfs=busybox_root))
    time.sleep(0.3)  # until the workers have told the launcher of all of them
    old, its_workers = launcher(), workers()
    assert its_workers
    for pid in its_workers:
        os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(rootless.run, ["true"], rootfs=busybox_root, hostname="late")  # no spare has these settings
        time.sleep(0.2)
        for pid in its_workers:
            os.kill(pid, signal.SIGKILL)
        assert late.result().returncode == 0, "the call is made again"
    assert [box.poll() for box in boxes] == [None] * AT_ONCE
    assert launcher() == old
    for box in boxes:
        box.kill()
        assert box.wait(timeout=20) == -signal.SIGKILL


@needs_workers
def test_nothing_is_left_of_what_a_killed_worker_has_begun(busybox_root: Path) -> None:
    """Workers are killed at any moment of a set-up. A call is made again, or its program had begun and is lost."""
    kept = rootless.Popen(["sleep", "1000"], rootfs=busybox_root)

    def call(number: int) -> int:
        if number % 4 == 3:
            time.sleep(0.2 + number / 1000)
            with contextlib.suppress(ProcessLookupError):
                for pid in named_worker()[:1]:
                    os.kill(pid, signal.SIGKILL)
            return 0
        return rootless.run(["sh", "-c", "exit 5"], rootfs=busybox_root).returncode

    for _ in range(5):
        for number, found in enumerate(at_once(call, 24)):
            assert found == (0 if number % 4 == 3 else 5) or isinstance(found, LauncherError), found
    assert kept.poll() is None
    kept.kill()
    assert kept.wait(timeout=20) == -signal.SIGKILL
    children = Path(f"/proc/{launcher()}/task/{launcher()}/children")
    assert until(lambda: not children.read_text()), "no container, no spare and no worker"


@needs_workers
def test_workers_that_hang_do_not_hold_others_up(busybox_root: Path) -> None:
    at_once(lambda _: rootless.run(["true"], rootfs=busybox_root))
    its_workers = workers()
    assert its_workers
    for pid in its_workers:
        os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        calls = [pool.submit(rootless.run, ["true"], rootfs=busybox_root, hostname="late") for _ in range(AT_ONCE)]
        assert until(lambda: sum(call.done() for call in calls) >= AT_ONCE - len(its_workers))
        for pid in its_workers:
            os.kill(pid, signal.SIGCONT)
        assert {call.result().returncode for call in calls} == {0}


@needs_workers
def test_workers_and_containers_end_with_a_killed_launcher(busybox_root: Path) -> None:
    boxes = at_once(lambda _: rootless.Popen(["sleep", "1000"], rootfs=busybox_root))
    its_workers = workers()
    assert its_workers
    os.kill(launcher(), signal.SIGKILL)
    for pid in [*its_workers, *(box.pid for box in boxes)]:
        assert until(lambda pid=pid: has_ended(pid))  # type: ignore[misc]
    for box in boxes:
        with pytest.raises(LauncherError):
            box.wait(timeout=20)


@needs_workers
def test_settings_that_need_a_copy_run_beside_the_others(busybox_root: Path, tmp_path: Path) -> None:
    ways: list[dict[str, Any]] = [
        {}, {"init": False}, {"seccomp": "default"}, {"restore_signals": False}, {"ephemeral": True},
        {"read_only": True}, {"volumes": [f"{tmp_path}:/mnt"]}, {"cap_drop": ["ALL"]},
    ]  # fmt: skip

    def call(number: int) -> Any:
        words = ["sh", "-c", "echo $$ $(grep -c . /proc/self/status)"]
        done = rootless.run(words, rootfs=busybox_root, capture_output=True, text=True, **ways[number % len(ways)])
        return done.stdout.split()[0], done.returncode, done.stderr

    found = at_once(call, 3 * len(ways))
    assert found == [
        ("1" if ways[number % len(ways)].get("init") is False else "2", 0, "") for number in range(len(found))
    ]


@needs_workers
def test_a_changed_config_counts_for_the_next_call(tmp_path: Path, busybox_root: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "rootfs").symlink_to(busybox_root)
    subprocess.run([sys.executable, "-m", "rootless", "spec", "-b", str(bundle)], check=True)
    config = (bundle / "config.json").read_text()

    def hosts() -> set[str]:
        call = ["cat", "/proc/sys/kernel/hostname"]
        return {
            each.stdout for each in at_once(lambda _: rootless.run(call, bundle=bundle, capture_output=True, text=True))
        }

    assert hosts() == {"rootless\n"}
    (bundle / "config.json").write_text(config.replace('"hostname": "rootless"', '"hostname": "another"'))
    assert hosts() == {"another\n"}


@needs_workers
def test_a_config_that_changes_on_the_way_to_a_worker_counts(tmp_path: Path, busybox_root: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "rootfs").symlink_to(busybox_root)
    subprocess.run([sys.executable, "-m", "rootless", "spec", "-b", str(bundle)], check=True)
    plain = json.loads((bundle / "config.json").read_text())
    denied = {"names": ["acct"], "action": "SCMP_ACT_ERRNO"}
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [denied]}
    filtered = {**plain, "linux": {**plain["linux"], "seccomp": seccomp}}
    hooked = {**plain, "hooks": {"createRuntime": [{"path": "/bin/true"}]}}

    def ask(number: int) -> str:
        call = ["grep", "Seccomp:", "/proc/self/status"]
        name = f"host{number}"  # no two calls have the same settings, so that no spare takes one
        return rootless.run(call, bundle=bundle, hostname=name, stdout=PIPE, text=True, check=True).stdout

    for changed, expected in ((filtered, "2"), (hooked, "0")):
        (bundle / "config.json").write_text(json.dumps(plain))
        assert set(at_once(ask)) == {"Seccomp:\t0\n"}
        its_workers = workers()
        assert its_workers
        for pid in its_workers:
            os.kill(pid, signal.SIGSTOP)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            calls = [pool.submit(ask, each) for each in range(len(its_workers))]
            time.sleep(0.2)  # until each worker has one
            (bundle / "config.json").write_text(json.dumps(changed))
            for pid in its_workers:
                os.kill(pid, signal.SIGCONT)
            said = [call.result() for call in calls]
        assert f"Seccomp:\t{expected}\n" in said, said


@needs_workers
@pytest.mark.parametrize("how", ["cancelled", "launcher killed"])
def test_a_task_that_waits_for_the_end_alone_runs_its_program_once(
    busybox_root: Path, tmp_path: Path, how: str
) -> None:
    """`async_run` looks at such a call when its program has ended, and must know all the same that it had begun."""
    seconds = str(1_000_000 + os.getpid())
    script = f"echo began >> /work/log; sleep {seconds}"
    log = tmp_path / "log"
    log.touch()

    async def run_all() -> list[Any]:
        words = ["sh", "-c", script]
        calls = [
            asyncio.ensure_future(rootless.async_run(words, rootfs=busybox_root, volumes=[f"{tmp_path}:/work"]))
            for _ in range(AT_ONCE)
        ]
        while len(log.read_text().splitlines()) < AT_ONCE:
            await asyncio.sleep(0.02)
        if how == "cancelled":
            for call in calls:
                call.cancel()
        else:
            os.kill(launcher(), signal.SIGKILL)
        return await asyncio.gather(*calls, return_exceptions=True)

    kind = asyncio.CancelledError if how == "cancelled" else LauncherError
    assert [type(each) for each in asyncio.run(run_all())] == [kind] * AT_ONCE
    assert until(lambda: not any(seconds in arguments_of(each) for each in Path("/proc").glob("[0-9]*")))
    assert log.read_text() == "began\n" * AT_ONCE


@needs_workers
def test_a_config_that_changes_all_the_time_fails_no_call(tmp_path: Path, busybox_root: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "rootfs").symlink_to(busybox_root)
    subprocess.run([sys.executable, "-m", "rootless", "spec", "-b", str(bundle)], check=True)
    plain = json.loads((bundle / "config.json").read_text())

    def ask(_: int) -> str:
        return rootless.run(["hostname"], bundle=bundle, stdout=PIPE, text=True, check=True).stdout

    with ThreadPoolExecutor(AT_ONCE) as pool:
        calls = [pool.submit(ask, each) for each in range(200)]
        for number in range(10_000):
            if all(call.done() for call in calls):
                break
            (bundle / "new").write_text(json.dumps({**plain, "hostname": f"name{number % 3}"}))
            (bundle / "new").replace(bundle / "config.json")
            time.sleep(0.01)
        assert {call.result() for call in calls} <= {"rootless\n", "name0\n", "name1\n", "name2\n"}


@pytest.mark.parametrize("reason", ["none can be started now", "one of two can", "the program is not executed"])
def test_workers_that_cannot_be_started_are_tried_again(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the host will never execute their program."""
    greeted: list[Worker] = []
    room = 1 if reason == "one of two can" else 0

    def start_one(self: Workers, program_fd: int) -> Worker:
        if len(self.all) >= room:
            raise BlockingIOError(errno.EAGAIN, "no process is left")
        self.all[program_fd] = Worker(0, requests)
        return self.all[program_fd]

    monkeypatch.setattr(small_init, "is_known", lambda: True)
    monkeypatch.setattr(vfork, "is_possible", lambda: True)
    monkeypatch.setattr(small_init, "is_executed", lambda fd: reason != "the program is not executed")
    monkeypatch.setattr(Workers, "_start_one", start_one)
    monkeypatch.setattr(Workers, "_greet", lambda self, worker: greeted.append(worker))
    requests, caller = channel.pair()
    with contextlib.closing(requests), contextlib.closing(caller), select.epoll() as poller:
        caller.send(b"one more")
        workers = Workers(Own(-1, requests, poller), Plans(Host()))
        assert workers._is_busy()
        assert workers._start(2) == bool(room)
        assert greeted == [*workers.all.values()]
        assert workers._is_busy() == bool(room)
        workers.retry_at = time.monotonic()
        assert workers._is_busy() == (reason != "the program is not executed")


@needs_workers
def test_a_kernel_that_refuses_shared_memory_gets_copies(busybox_root: Path) -> None:
    """A seccomp filter refuses clone(2) with CLONE_VFORK, as the kernel of a sandbox might."""
    script = f"""
import struct
import rootless
from rootless.kernel import syscalls as sc
from tests.api.test_workers import at_once, workers

program = [(0x20, 0, 0, 0), (0x15, 0, 3, 56), (0x20, 0, 0, 16), (0x45, 0, 1, 0x4000), (0x06, 0, 0, 0x50001),
           (0x06, 0, 0, 0x7FFF0000)]
sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
sc.seccomp_load(b"".join(struct.pack("HBBI", *each) for each in program))
words = ["sh", "-c", "exit $$$PPID"]
print([done.returncode for done in at_once(lambda _: rootless.run(words, rootfs={str(busybox_root)!r}), 8)])
print(bool(workers()))
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=PIPE, text=True, check=True, cwd=CHECKOUT, timeout=60)
    assert done.stdout == f"{[21] * 8}\nTrue\n"
