"""Threads, asyncio, forks and kills: the launcher leaves nothing of a container behind."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import rootless
from rootless.api import client
from rootless.api.client import Answers, launcher_pid
from tests.support.checkout import TIMEOUT
from tests.support.processes import LONGER_AND_LONGER, begins, ends, is_gone, long_sleep, running, until

CHECKOUT = Path(__file__).resolve().parents[2]
PIPE = subprocess.PIPE


def python(script: str, *args: str) -> subprocess.Popen[str]:
    """Run code in a Python process with a launcher of its own. Its standard input is open, so `input()` waits."""
    program = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); import rootless\n{script}"
    return subprocess.Popen([sys.executable, "-c", program, *args], stdin=PIPE, stdout=PIPE, text=True)


def test_eight_threads_run_a_hundred_containers_each(busybox_root: Path) -> None:
    wrong: list[Any] = []

    def work(number: int) -> None:
        for turn in range(100):
            text = f"{number}-{turn}\n"
            done = rootless.run(["cat"], rootfs=busybox_root, input=text, text=True, stdout=PIPE)
            if (done.returncode, done.stdout) != (0, text):
                wrong.append(done)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_thread_that_ends_does_not_end_its_container() -> None:
    boxes: list[rootless.Popen] = []
    thread = threading.Thread(target=lambda: boxes.append(rootless.Popen(["cat"], stdin=PIPE)))
    thread.start()
    thread.join()
    assert boxes[0].poll() is None
    boxes[0].communicate(b"")
    assert boxes[0].returncode == 0


def test_nothing_is_kept_of_what_has_ended(busybox_root: Path) -> None:
    def figures() -> tuple[int, int, int]:
        """Return the figures of a launcher that has no container left, neither one that is ending nor a spare."""
        gc.collect()
        pid = launcher_pid()
        assert until(lambda: not Path(f"/proc/{pid}/task/{pid}/children").read_text())
        status = Path(f"/proc/{pid}/statm").read_text().split()
        return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir("/proc/self/fd")), int(status[1])

    for _ in range(20):
        rootless.run(["true"], rootfs=busybox_root)
    before = figures()
    for _ in range(200):
        rootless.run(["true"], rootfs=busybox_root)
    assert until(lambda: figures()[0] <= before[0])  # it reports a container's end before it closes its descriptors
    after = figures()
    assert after[0] <= before[0] and after[1] <= before[1]
    assert after[2] - before[2] < 64  # pages; nothing per container


def test_the_launcher_is_no_child_of_this_process() -> None:
    program = """
import os
import rootless
rootless.run(["true"])
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no child")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "no child\n", done


def test_a_forked_child_has_a_launcher_of_its_own() -> None:
    rootless.run(["true"])
    first = launcher_pid()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            done = rootless.run(["echo", "child"], stdout=PIPE)
            os.write(writer, b"%d %s" % (launcher_pid(), done.stdout))
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader, "rb") as file:
        other, text = file.read().split()
    assert (int(other) != first, text) == (True, b"child")
    assert launcher_pid() == first
    assert rootless.run(["true"]).returncode == 0


def answer(number: int) -> str:
    return str(rootless.run(["echo", str(number)], stdout=PIPE, text=True).stdout)


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_multiprocessing(method: str) -> None:
    rootless.run(["true"])
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(answer, range(6)) == [f"{number}\n" for number in range(6)]


def test_a_killed_launcher_is_an_error_and_the_next_call_starts_another() -> None:
    sleep = long_sleep()
    box = rootless.Popen(["sleep", sleep])
    old = launcher_pid()
    os.kill(old, signal.SIGKILL)
    with pytest.raises(rootless.LauncherError):
        box.wait(TIMEOUT)
    box.kill()  # no error: it has ended
    assert ends(f"sleep\0{sleep}")
    assert rootless.run(["true"]).returncode == 0
    assert launcher_pid() != old
    box.returncode = -9


def test_a_call_at_the_moment_of_the_launcher_s_end_is_made_again() -> None:
    rootless.run(["true"])  # kill(0) would end this process and its group

    async def main() -> None:
        for _ in range(5):
            os.kill(launcher_pid(), signal.SIGKILL)
            assert (await rootless.async_run(["echo", "here"], stdout=PIPE)).stdout == b"here\n"

    for _ in range(5):
        os.kill(launcher_pid(), signal.SIGKILL)
        assert rootless.run(["echo", "here"], stdout=PIPE).stdout == b"here\n"
    asyncio.run(main())


def test_a_caller_that_ignores_sigchld_and_blocks_signals() -> None:
    script = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
for _ in range(3):
    print(rootless.run(["sh", "-c", "exit 5"]).returncode, flush=True)
with rootless.Popen(["sleep", "1000"]) as box:
    box.terminate()
    print(box.wait())
"""
    with python(script) as process:
        assert process.communicate(timeout=TIMEOUT)[0].split() == ["5", "5", "5", "-15"]


def test_the_handler_of_a_signal_makes_a_call_while_one_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = rootless.Sandbox(warm=1)
    calls: list[Any] = [rootless.run, sandbox.run]
    codes: list[int] = []
    send = client.Launcher.send

    def interrupted(launcher: client.Launcher, *values: Any) -> None:
        monkeypatch.setattr(client.Launcher, "send", send)
        signal.raise_signal(signal.SIGUSR1)
        send(launcher, *values)

    for call in calls:
        for handlers in calls:
            before = signal.signal(
                signal.SIGUSR1, lambda *_, it=handlers: codes.append(it(["sh", "-c", "exit 3"]).returncode)
            )
            try:
                monkeypatch.setattr(client.Launcher, "send", interrupted)
                codes.append(call(["sh", "-c", "exit 4"]).returncode)
            finally:
                signal.signal(signal.SIGUSR1, before)
    sandbox.close()
    assert codes == [3, 4] * 4


def test_containers_end_with_a_killed_python_process() -> None:
    sleep = long_sleep()
    process = python(
        """
from rootless.api.client import launcher_pid
box = rootless.Popen(["sleep", sys.argv[1]])
print(launcher_pid(), flush=True)
input()
""",
        sleep,
    )
    assert process.stdout
    launcher = int(process.stdout.readline())
    assert begins(f"sleep\0{sleep}")
    process.kill()
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == -signal.SIGKILL
    assert ends(f"sleep\0{sleep}")
    assert is_gone(launcher)


def test_containers_end_when_both_are_killed_at_once() -> None:
    sleep = long_sleep()
    process = python(
        """
import os
from rootless.api.client import launcher_pid
box = rootless.Popen(["sleep", sys.argv[1]])
print("ready", flush=True)
os.kill(launcher_pid(), 9)
os.kill(os.getpid(), 9)
""",
        sleep,
    )
    assert process.communicate(timeout=TIMEOUT)[0] == "ready\n"
    assert ends(f"sleep\0{sleep}")


def test_the_launcher_ends_with_the_interpreter() -> None:
    process = python("from rootless.api.client import launcher_pid; rootless.run(['true']); print(launcher_pid())")
    launcher = int(process.communicate(timeout=TIMEOUT)[0])
    assert process.returncode == 0
    assert is_gone(launcher)


ENDINGS = {
    "a container is left": ("box = rootless.Popen(['sleep', sys.argv[1]])", ""),
    "a sandbox is left": ("box = rootless.Sandbox(warm=2); box.run(['true'])", ""),
    "an exit handler runs one": (
        "import atexit; atexit.register(lambda: print(rootless.run(['echo', 'late'], stdout=-1).stdout)); "
        "rootless.run(['true'])",
        "b'late\\n'\n",
    ),
    "a thread runs one": (
        "import threading, time; "
        "work = lambda: (time.sleep(0.5), print(rootless.run(['echo', 'late'], stdout=-1).stdout)); "
        "threading.Thread(target=work).start()",
        "b'late\\n'\n",
    ),
    "a daemon thread waits for one": (
        "import threading, time; "
        "threading.Thread(target=lambda: rootless.run(['sleep', sys.argv[1]]), daemon=True).start(); time.sleep(0.5)",
        "",
    ),
    "a process of asyncio is left": (
        "import asyncio; box = asyncio.run(rootless.async_popen('sleep', sys.argv[1]))",
        "",
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_the_interpreter_ends_in_silence(name: str) -> None:
    script, expected = ENDINGS[name]
    program = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); import rootless\n{script}"
    command = [sys.executable, "-c", program, sleep := long_sleep()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
    assert ends(f"sleep\0{sleep}")


# --- asyncio


def test_async_run_is_run() -> None:
    sleep = long_sleep()

    async def main() -> None:
        done = await rootless.async_run(["cat"], input="é\r\n", text=True, capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "é\n", "")
        with pytest.raises(FileNotFoundError):
            await rootless.async_run(["nosuch"])
        with pytest.raises(subprocess.CalledProcessError):
            await rootless.async_run("exit 3", shell=True, check=True)
        for seconds in LONGER_AND_LONGER:
            with pytest.raises(subprocess.TimeoutExpired) as caught:
                await rootless.async_run(f"echo begun; sleep {sleep}", shell=True, stdout=PIPE, timeout=seconds)
            if caught.value.stdout:
                break
        assert caught.value.stdout == b"begun\n"

    asyncio.run(main())
    assert ends(f"sleep\0{sleep}")


def test_async_run_takes_what_run_takes() -> None:
    async def main() -> None:
        for args in ("true", ("true",), b"true", Path("/bin/true")):
            assert (await rootless.async_run(args)).args == args
        assert (await rootless.async_run(args=["true"], bufsize=-1)).args == ["true"]
        assert (await rootless.async_run("echo", "a", stdout=PIPE)).args == ["echo", "a"]
        assert (await rootless.async_run(["cat"], input=memoryview(b"x"), stdout=PIPE)).stdout == b"x"
        for error, arguments, keywords in (
            (TypeError, (), {}),
            (TypeError, (["cat"],), {"input": "text"}),
            (TypeError, (["cat"],), {"bufsize": "1"}),
            (LookupError, (["cat"],), {"stdout": PIPE, "encoding": "nosuch"}),
            (subprocess.SubprocessError, (["cat"],), {"text": True, "universal_newlines": False}),
        ):
            with pytest.raises(error):  # before anything has started
                await rootless.async_run(*arguments, **keywords)

    asyncio.run(main())


def test_a_killed_launcher_is_an_error_in_asyncio_too() -> None:
    async def main() -> None:
        process = await rootless.async_popen("sleep", "1000")
        os.kill(launcher_pid(), signal.SIGKILL)
        with pytest.raises(rootless.LauncherError):
            await process.wait()
        assert process.returncode == -signal.SIGKILL
        sleep = long_sleep()
        task = asyncio.create_task(rootless.async_run(["sleep", sleep], stdout=PIPE))
        await asyncio.to_thread(begins, f"sleep\0{sleep}")
        os.kill(launcher_pid(), signal.SIGKILL)
        with pytest.raises(rootless.LauncherError):
            await task

    asyncio.run(main())


def test_async_popen_is_asyncio_s_process() -> None:
    async def main() -> None:
        process = await rootless.async_popen("cat", stdin=PIPE, stdout=PIPE)
        assert isinstance(process, asyncio.subprocess.Process)
        assert await process.communicate(b"x" * 1_000_000) == (b"x" * 1_000_000, None)
        assert process.returncode == 0
        process = await rootless.async_popen("sleep", "1000")
        process.terminate()
        assert await process.wait() == -signal.SIGTERM

    asyncio.run(main())


def test_a_cancelled_task_kills_its_container() -> None:
    sleep = long_sleep()

    async def main() -> None:
        task = asyncio.create_task(rootless.async_run(["sleep", sleep]))
        while not running(f"sleep\0{sleep}"):
            await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for delay in (0, 0.001, 0.005):  # while it is set up
            task = asyncio.create_task(rootless.async_run(["sleep", sleep]))
            await asyncio.sleep(delay)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert ends(f"sleep\0{sleep}")


def test_input_that_is_not_read_is_not_logged() -> None:
    script = """
import asyncio, gc
async def main():
    await rootless.async_run(["true"], input=bytes(1 << 20))
    try:
        await rootless.async_run(["sleep", "1000"], input=bytes(1 << 20), timeout=0.2)
    except Exception as error:
        print(type(error).__name__)
asyncio.run(main())
gc.collect()
"""
    program = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); import rootless\n{script}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=TIMEOUT)
    assert (done.stdout, done.stderr) == ("TimeoutExpired\n", "")


def test_fifty_at_once(busybox_root: Path) -> None:
    async def main() -> set[int]:
        limit = asyncio.Semaphore(50)

        async def one() -> int:
            async with limit:
                return (await rootless.async_run(["true"], rootfs=busybox_root)).returncode

        return set(await asyncio.gather(*(one() for _ in range(200))))

    assert asyncio.run(main()) == {0}


@pytest.mark.parametrize("limit", [18, 20, 25, 30, 35, 40])
def test_a_launcher_that_may_open_no_more_files_keeps_its_containers(limit: int) -> None:
    """A call that it has no descriptors for is refused, and those before it go on."""
    script = """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), hard))
boxes = [rootless.Popen(["sleep", "1000"])]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
errors = []
while len(errors) < 3:
    try:
        boxes.append(rootless.Popen(["sleep", "1000"]))
    except rootless.RootlessError as error:
        errors.append(error)
for error in errors:
    assert "internal error" not in str(error), error
assert not any(box.poll() for box in boxes)
for box in boxes:
    box.kill()
    assert box.wait() == -9
print("kept")
"""
    with python(script, str(limit)) as process:
        assert process.communicate(timeout=TIMEOUT)[0] == "kept\n"


def test_many_descriptors_at_once_wait_for_each_other() -> None:
    """A user's processes may have RLIMIT_NOFILE descriptors on the way together (unix(7), ETOOMANYREFS)."""
    script = """
import os, resource, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (512, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(200)]
codes = []
def work():
    for _ in range(5):
        codes.append(rootless.run(["true"], pass_fds=fds).returncode)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(codes), set(codes))
"""
    with python(script) as process:
        assert process.communicate(timeout=TIMEOUT)[0] == "40 {0}\n"


def test_an_interrupted_set_up_has_left_its_rootfs(
    busybox_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C the caller may remove it at once. A set-up that goes on would make mount points in it again."""
    moments = iter(range(40))

    def interrupt(*_: Any) -> None:
        time.sleep(next(moments) % 10 / 1000)
        raise KeyboardInterrupt

    monkeypatch.setattr(Answers, "await_verdict", interrupt)
    for turn in range(40):
        root = tmp_path / str(turn)
        (root / "bin").mkdir(parents=True)
        os.link(busybox_root / "bin/busybox", root / "bin/sleep")
        with pytest.raises(KeyboardInterrupt):
            rootless.run(["sleep", "1000"], rootfs=root, tmpfs=["/made/below"])
        shutil.rmtree(root)
        time.sleep(0.01)
        assert not root.exists()


def test_an_interrupted_run_waits_until_its_program_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[rootless.Popen[bytes]] = []
    plain = rootless.Popen._wait

    def interrupt(self: rootless.Popen[bytes], timeout: float | None) -> int:
        waited.append(self)
        if len(waited) == 1:
            raise KeyboardInterrupt
        return plain(self, timeout)

    monkeypatch.setattr(rootless.Popen, "_wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        rootless.run(["sleep", "1000"])
    assert waited[0].returncode == -signal.SIGKILL


def test_names_of_users_are_looked_up_again_in_an_image_that_was_rebuilt(busybox_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(busybox_root, root, symlinks=True)

    def home_after(passwd: str) -> str:
        (root / "etc/passwd").write_text(passwd)
        done = rootless.run("echo $(id -u) $HOME", shell=True, rootfs=root, user="bob", stdout=PIPE, text=True)
        return done.stdout

    assert home_after("bob:x:0:0::/old:/bin/sh\n") == "0 /old\n"
    assert home_after("bob:x:0:0::/new:/bin/sh\n") == "0 /new\n"
    assert home_after("root:x:0:0::/root:/bin/sh\nbob:x:0:0::/own:/bin/sh\n") == "0 /own\n"  # two names for one id
    with pytest.raises(KeyError):
        home_after("alice:x:0:0::/old:/bin/sh\n")


@pytest.mark.parametrize("user", [os.getuid(), "daemon", "nobody", "root"])
def test_the_home_in_the_host_s_system_is_private_and_the_user_s(user: int | str) -> None:
    script = 'cd && touch file && stat -c "%a %u" . && id -u && ls -A'
    done = rootless.run(script, shell=True, user=user, capture_output=True, text=True)
    uid = user if isinstance(user, int) else pwd.getpwnam(user).pw_uid
    assert (done.stdout, done.stderr) == (f"700 {uid}\n{uid}\nfile\n", "")
