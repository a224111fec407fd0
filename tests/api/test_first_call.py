"""A process spawns its launcher at the first call, before the call imports the rest, and not earlier."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rootless.api import first_container, spawn
from rootless.init import small_init
from rootless.kernel import mountinfo, vfork
from rootless.steps.binds import BindMount
from rootless.steps.root import AttachRootfs
from tests.support.checkout import TIMEOUT

needs_starter = pytest.mark.skipif(os.uname().machine != "x86_64", reason="there is a starter for x86-64 only")
CHECKOUT = Path(__file__).resolve().parents[2]
BEGIN = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); import rootless\n"


def python(script: str, **keywords: object) -> str:
    """Return what a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=TIMEOUT,
        **keywords,  # type: ignore[call-overload]
    )
    return str(done.stdout)


def test_only_a_call_spawns_the_launcher_and_it_does_so_once() -> None:
    script = """
import os
def children():
    return open(f"/proc/self/task/{os.getpid()}/children").read()
begin = rootless.run
print(begin.__name__, "subprocess" in sys.modules, bool(children()))
spawned = []
sys.addaudithook(lambda event, args: spawned.append(args) if event == "os.posix_spawn" else None)
for run in (begin, rootless.run, begin):
    run(["true"], check=True)
from rootless.api import popen
print(len(spawned), rootless.run is popen.run, bool(children()))
"""
    assert python(script).splitlines() == ["run False False", "1 True False"]


def test_what_is_spawned_for_a_call_that_is_refused_serves_the_next() -> None:
    script = """
from rootless.api.client import launcher_pid
del sys.modules["rootless.api.client"]  # as in a process that has not called yet
begin = rootless.run
try:
    begin(["true"], nosuch=1)
except TypeError:
    print("refused")
print(rootless.run(["true"]).returncode)
"""
    assert python(script).splitlines() == ["refused", "0"]


@pytest.mark.parametrize("executable", ["", None])
def test_a_program_that_embeds_python_has_a_launcher(executable: str | None) -> None:
    assert python(f"sys.executable = {executable!r}; print(rootless.run(['true']).returncode)") == "0\n"


def test_a_star_imports_every_name() -> None:
    assert python("from rootless import *; print(run is rootless.run, Sandbox, async_run)").startswith("True <class")


def test_threads_that_begin_at_once_have_one_launcher() -> None:
    script = """
import threading
from rootless.api import spawn
begin, barrier, codes = rootless.run, threading.Barrier(6), []
spawned = []
sys.addaudithook(lambda event, args: spawned.append(args) if event == "os.posix_spawn" else None)
def call():
    barrier.wait()
    codes.append(begin(["true"]).returncode)
threads = [threading.Thread(target=call) for _ in range(6)]
for each in threads: each.start()
for each in threads: each.join()
print(codes, len(spawned), spawn._early)
"""
    assert python(script) == "[0, 0, 0, 0, 0, 0] 1 None\n"


@pytest.mark.parametrize("closed", [(0,), (1, 2), (0, 1, 2)], ids=str)
def test_streams_that_are_closed_before_the_first_call(closed: tuple[int, ...], tmp_path: Path) -> None:
    script = f"""
import os
for fd in {closed}: os.close(fd)
done = rootless.run(["sh", "-c", "echo here"], stdin=-3, stdout=-1, stderr=-3)
open({str(tmp_path / "said")!r}, "wb").write(done.stdout)
"""
    python(script)
    assert (tmp_path / "said").read_text() == "here\n"


def test_the_launcher_holds_nothing_that_its_caller_has_left_inheritable() -> None:
    script = """
import os
from rootless.api.client import launcher_pid
reader, writer = os.pipe()
os.set_inheritable(writer, True)
rootless.run(["true"])
held = []
for fd in os.listdir(f"/proc/{launcher_pid()}/fd"):
    try:
        held.append(os.readlink(f"/proc/{launcher_pid()}/fd/{fd}"))
    except FileNotFoundError:
        pass  # of the container that has ended: closed meanwhile
print(os.readlink(f"/proc/self/fd/{writer}") in held)
"""
    assert python(script) == "False\n"


def test_a_fork_after_the_spawn_gets_a_launcher_of_its_own() -> None:
    script = """
import os
from rootless.api import spawn
spawn.begin()
pid = os.fork()
done = rootless.run(["sh", "-c", "exit 3"])
from rootless.api.client import launcher_pid
print(done.returncode, launcher_pid(), flush=True)
if not pid:
    os._exit(0)
os.waitpid(pid, 0)
"""
    (one, first), (two, second) = (line.split() for line in python(script).splitlines())
    assert (one, two) == ("3", "3")
    assert first != second


def test_the_launcher_imports_no_heavy_module() -> None:
    """The caller waits while the launcher compiles its first plan."""
    program = """
import sys
sys.path.append(sys.argv[1])
import oci.config, rootless.api.launcher, rootless.api.clones, rootless.api.spares, rootless.api.plans
print(sorted({"enum", "json", "re", "subprocess", "typing"}.intersection(sys.modules)))
"""
    words = [sys.executable, "-IS", "-c", program, str(CHECKOUT)]
    environment = {"PATH": os.environ["PATH"]}
    assert subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout == "[]\n"


def test_the_launchers_code_that_is_hardly_called_is_kept_apart(tmp_path: Path) -> None:
    """Each container would copy its memory (startup/called.py)."""
    report = tmp_path / "report"
    report.touch(mode=0o666)
    notes = f"""
start()
names = [name for name in sys.modules if name[:9] == 'rootless.' and hasattr(sys.modules[name], '__getattr__')]
with open({str(report)!r}, 'w') as file:
    file.write(str(len(names)))
"""
    script = f"""
from rootless.api import spawn
spawn._PROGRAM = spawn._PROGRAM.replace("\\nstart()\\n", {notes!r})
rootless.run(["true"], check=True)
"""
    for _ in range(2):  # the first one may have to make the cache
        python(script)
    assert int(report.read_text()) > 20  # modules that make something late


def test_a_thread_that_begins_late_spawns_nothing() -> None:
    """It has looked for the launcher's module before another thread has imported it."""
    script = """
from rootless.api import spawn
begin = rootless.run
begin(["true"])
client = sys.modules.pop("rootless.api.client")  # what the late thread saw
begin(["true"])
print(spawn._early)
"""
    assert python(script) == "None\n"


# --- how the launcher is started


@needs_starter
@pytest.mark.skipif(not shutil.which("as"), reason="needs binutils")
def test_the_starters_bytes_are_those_of_its_source(tmp_path: Path) -> None:
    source = Path(spawn.__file__).with_suffix(".S")
    subprocess.run(["as", "-o", tmp_path / "o", source], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", tmp_path / "o", tmp_path / "bin"], check=True)
    assert small_init.elf_file((tmp_path / "bin").read_bytes()) == spawn._STARTER


HOW = """
from rootless.api import spawn
spawned = []
take = spawn.take
spawn.take = lambda: spawned.append(take()) or spawned[-1]
from rootless.api.client import launcher_pid
print(rootless.run(["true"]).returncode, spawned[0].is_adopted)
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no child")
"""


@needs_starter
def test_a_small_program_starts_the_launcher() -> None:
    assert python("import os\n" + HOW).splitlines() == ["0 True", "no child"]


# Root's launcher executes a copy of the interpreter, which would be too large, too.
@pytest.mark.parametrize("reason", ["no memfd", "not executed", *(["too large"] if os.geteuid() else [])])
def test_a_host_that_does_not_execute_the_starter_forks_the_launcher(reason: str) -> None:
    script = """
import os, resource
plain = os.memfd_create
def made(name, flags):
    if REASON == "no memfd":
        raise OSError(22, "Invalid argument")
    fd = plain(name, flags)
    os.fchmod(fd, 0o600)
    return fd
if REASON == "too large":
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
else:
    os.memfd_create = made
"""
    assert python(script.replace("REASON", repr(reason)) + HOW).splitlines() == ["0 False", "no child"]


MEMFD_NOEXEC = Path("/proc/sys/vm/memfd_noexec")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the setting")
@pytest.mark.skipif(not MEMFD_NOEXEC.exists(), reason="a kernel before 6.3 has no such setting")
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_system_that_keeps_files_in_memory_from_being_executed(level: int) -> None:
    """Root's containers could write the interpreter's file, so root needs a copy of it in memory.

    The setting is a pid namespace's own (Documentation/admin-guide/sysctl/vm.rst).
    """
    script = f"""
from concurrent.futures import ThreadPoolExecutor
with open("{MEMFD_NOEXEC}", "w") as file:
    file.write("{level}")
for _ in range(2):
    try:
        print(rootless.run(["sh", "-c", "exit 3"]).returncode)
        with ThreadPoolExecutor(8) as pool:
            print({{done.returncode for done in pool.map(lambda _: rootless.run(["sh", "-c", "exit 3"]), range(16))}})
    except rootless.RootlessError as error:
        print(error)
"""
    words = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", BEGIN + script]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, timeout=TIMEOUT)
    why = "a security module, or the sysctl vm.memfd_noexec, keeps files in memory from being executed"
    what = "cannot run from a sealed copy of the interpreter: /proc/self/exe: EACCES (permission denied)"
    refusal = f"{what}; hint: {why}"
    assert done.stdout.splitlines() == ([refusal] * 2 if level == 2 else ["3", "{3}"] * 2)


def test_a_missing_interpreter_is_told_and_the_next_call_tries_again() -> None:
    script = """
real, sys.executable = sys.executable, "/nonexistent/python"
for _ in range(2):
    try:
        rootless.run(["true"])
    except rootless.RootlessError as error:
        print(error)
sys.executable = real
print(rootless.run(["true"]).returncode)
"""
    said = "cannot start the launcher: /nonexistent/python: ENOENT (no such file or directory)"
    assert python(script).splitlines() == [said, said, "0"]


# --- the first container, which shares the launcher's memory (first_container.py)


SHARES = os.geteuid() != 0 and small_init.is_known() and vfork.is_possible()  # root's containers have other ids
BY_COPY = str(not SHARES)
# Whether the launcher has given itself a name says how the first container was made.
NAME = """
def launcher_pid():
    from rootless.api.client import launcher_pid  # later, because a process that has imported it has called already
    return launcher_pid()
def is_copy():
    with open(f"/proc/{launcher_pid()}/cmdline") as file:
        return not file.read().startswith("rootless:launcher")
"""


def test_the_first_container_is_as_any_other(busybox_root: Path) -> None:
    script = f"""
{NAME}
show = "cat /proc/1/cmdline | tr -d '\\\\0' >&2; grep -E 'Sig(Blk|Ign)|Cap|NoNewPrivs' /proc/self/status; "
words = ["sh", "-c", show + "ls /proc/self/fd; id; pwd; exit 7"]
said = [rootless.run(words, rootfs={str(busybox_root)!r}, capture_output=True) for _ in range(3)]
print(is_copy())
for each in said:
    print(each.stderr, each.returncode, each.stdout)
"""
    copied, *said = python(script).splitlines()
    assert copied == BY_COPY
    names, first = zip(*(line.split(" ", 1) for line in said), strict=True)
    assert len(set(first)) == 1 and first[0].startswith("7 "), first
    # Nothing while the kernel exchanges pid 1's memory for that of the small init (execve(2)).
    assert {*names} <= {"b'rootless:init'", "b''"}


def test_the_launcher_is_itself_again_after_the_first_container(busybox_root: Path) -> None:
    script = f"""
{NAME}
import os, signal
rootless.run(["true"], rootfs={str(busybox_root)!r})
with open(f"/proc/{{launcher_pid()}}/status") as file:
    fields = dict(line.rstrip("\\n").split(":\\t", 1) for line in file if ":\\t" in line)
ignored = int(fields["SigIgn"], 16)
print([number for number in range(1, 32) if ignored >> number - 1 & 1], int(fields["SigBlk"], 16), fields["Threads"])
print(os.stat(f"/proc/{{launcher_pid()}}/environ").st_uid == os.geteuid(), fields["NoNewPrivs"])
for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
    os.kill(launcher_pid(), signum)
print(rootless.run(["sh", "-c", "exit 3"]).returncode, is_copy())
"""
    ignored, own, served = python(script).splitlines()
    assert ignored == "[1, 2, 3, 13, 15, 25] 0 1"
    assert own == "True 0"
    assert served == f"3 {BY_COPY}"


@pytest.mark.parametrize(
    ("settings", "copied"),
    [
        ("{}", BY_COPY), ("{'ephemeral': True}", BY_COPY), ("{'seccomp': 'default'}", BY_COPY),
        ("{'volumes': ['/usr:/mnt:ro']}", BY_COPY), ("{'volumes': iter(['/usr:/mnt:ro'])}", "True"),
        ("{'init': False}", "True"), ("{'restore_signals': False}", "True"),
    ],
    ids=str,
)  # fmt: skip
def test_which_first_containers_share_memory(settings: str, copied: str, busybox_root: Path) -> None:
    script = f"""
{NAME}
print(rootless.run(["sh", "-c", "exit 3"], rootfs={str(busybox_root)!r}, **{settings}).returncode, is_copy())
"""
    assert python(script) == f"3 {copied}\n"


MOUNTS = """\
1 1 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:2 / TOP/proc rw - proc proc rw
3 1 0:3 / TOP/net rw - nfs4 server:/ rw
4 1 0:4 / TOP/srv/images rw - fuse.sshfs server:/ rw
5 1 8:2 / TOP/net/disk rw - xfs /dev/sdb1 rw
6 1 0:5 / TOP/data rw - xfs /dev/sdc1 rw
7 1 0:6 / TOP/data rw - lustre server:/ rw
"""


@pytest.mark.parametrize(
    ("places", "local"),
    [
        ("var/root", True), ("net/disk/root", True), ("var/root netdata", True), ("net/root", False), ("net", False),
        ("var/root srv", False), ("data/root", False), (".", False), ("proc", True),
    ],
)  # fmt: skip
def test_a_container_with_a_network_file_system_does_not_share_memory(
    places: str, local: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program on one may take for ever to start, and only a copy can be killed then."""
    mounts = MOUNTS.replace("TOP", str(tmp_path)).encode()
    monkeypatch.setattr(first_container.mountinfo, "read", lambda _: mountinfo.parse(mounts))
    for place in places.split():
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
    root, *sources = [str(tmp_path / place) for place in places.split()]
    binds = [BindMount("", "/mnt", "bind", source, None) for source in sources]  # type: ignore[arg-type]
    plan = SimpleNamespace(prepare=[AttachRootfs("", root), *binds])
    compiled = SimpleNamespace(plan=plan, prepared=SimpleNamespace(proc_fd=-1))
    assert first_container._is_local(compiled) is local  # type: ignore[arg-type]


def test_a_first_container_on_another_file_system_is_a_copy(busybox_root: Path) -> None:
    script = f"""
{NAME}
from rootless.api import spawn
last = "from rootless.api.launcher import main"
nothing = "from rootless.api import first_container; first_container._LOCAL = frozenset()\\n"
spawn._PROGRAM = spawn._PROGRAM.replace(last, nothing + last)
print(rootless.run(["sh", "-c", "exit 3"], rootfs={str(busybox_root)!r}).returncode, is_copy())
"""
    assert python(script) == "3 True\n"


def test_a_host_that_executes_no_file_in_memory_makes_the_first_container_by_a_copy(busybox_root: Path) -> None:
    """Otherwise the container's pid 1, and with it the program, would end without a word."""
    script = f"""
{NAME}
import os
from rootless.api import spawn
refuse = '''
import os
from rootless.init import small_init
small_init.open_program = lambda: os.open("/etc/passwd", os.O_PATH | os.O_CLOEXEC)
'''
last = "from rootless.api.launcher import main"
spawn._PROGRAM = spawn._PROGRAM.replace(last, refuse + last)
plain = os.memfd_create
def made(name, flags):
    fd = plain(name, flags)
    os.fchmod(fd, 0o600)
    return fd
os.memfd_create = made
print(rootless.run(["sh", "-c", "sleep 0.1; exit 3"], rootfs={str(busybox_root)!r}).returncode, is_copy())
"""
    assert python(script) == "3 True\n"


def test_a_process_with_threads_announces_nothing(busybox_root: Path) -> None:
    """Their requests would wait while the launcher sets up the first container."""
    script = f"""
{NAME}
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(rootless.run(["true"], rootfs={str(busybox_root)!r}).returncode, is_copy())
"""
    assert python(script) == "0 True\n"


@pytest.mark.parametrize("words", [["nosuch"], ["/etc/passwd"], ["sh", "-c", "kill -9 $$"]], ids=str)
def test_a_first_call_that_fails_says_so_and_the_next_one_runs(words: list[str], busybox_root: Path) -> None:
    script = f"""
for _ in range(2):
    try:
        print(rootless.run({words}, rootfs={str(busybox_root)!r}).returncode)
    except OSError as error:
        print(type(error).__name__, error)
print(rootless.run(["sh", "-c", "exit 3"], rootfs={str(busybox_root)!r}).returncode)
"""
    first, second, last = python(script).splitlines()
    assert first == second
    assert last == "3"


# Has the first container's process end at a place of its set-up. `begun` counts the launchers.
KILLED = """
import os
from rootless.api import spawn
die = '''
import posix
from rootless.api import launcher
from rootless.init import launched
from rootless.process import program
plain = launched.start_program
def start_program(life, call):
    PLACE = lambda *arguments, **keywords: posix._exit(1)
    return plain(life, call)
launched.start_program = start_program
'''
plain = spawn._PROGRAM
spawn._PROGRAM = plain.replace("from rootless.api.launcher import main", die + "from rootless.api.launcher import main")
begun = []
sys.addaudithook(lambda event, args: event == "os.posix_spawn" and begun.append(1))
"""


@pytest.mark.parametrize("place", ["launched._die_with", "launched._become_user", "program._home_of"])
def test_a_first_container_that_is_killed_while_it_is_set_up_is_made_again(place: str, busybox_root: Path) -> None:
    """It has left the launcher's memory as it was just then, so the launcher ends, too."""
    script = f"""
{NAME}
{KILLED.replace("PLACE", place)}
print(rootless.run(["sh", "-c", "exit 3"], rootfs={str(busybox_root)!r}).returncode, is_copy(), len(begun))
"""
    assert python(script) == f"3 True {2 if SHARES else 1}\n"


@pytest.mark.skipif(not SHARES, reason="the first container is a copy")
def test_a_first_container_that_is_killed_when_its_program_has_begun_is_not_made_again(busybox_root: Path) -> None:
    script = f"""
{KILLED.replace("PLACE", "launched.sockets.send_fds")}
try:
    rootless.run(["true"], rootfs={str(busybox_root)!r})
except rootless.RootlessError as error:
    print(error, len(begun))
print(rootless.run(["sh", "-c", "exit 3"], rootfs={str(busybox_root)!r}).returncode, len(begun))
"""
    assert python(script).splitlines() == ["the container's init ended during set-up: signal 9 1", "3 2"]


@pytest.mark.parametrize("number", [1, 2])
def test_an_announcement_of_what_cannot_be_is_told_by_the_call(number: int, busybox_root: Path) -> None:
    broken = ["bundle='/nonexistent'", f"rootfs={str(busybox_root)!r}, config={{'hostname': 5}}"][number - 1]
    script = f"""
try:
    rootless.run(["true"], {broken})
except rootless.RootlessError as error:
    print(type(error).__name__)
print(rootless.run(["true"], rootfs={str(busybox_root)!r}).returncode)
"""
    assert python(script).splitlines()[1:] == ["0"]
