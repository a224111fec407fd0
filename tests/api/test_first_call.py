"""A process spawns its launcher at the first call, before the call imports the rest, and not earlier."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import TIMEOUT

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
codecache.load_for('launcher')
names = [name for name in sys.modules if name[:9] == 'rootless.' and hasattr(sys.modules[name], '__getattr__')]
with open({str(report)!r}, 'w') as file:
    file.write(str(len(names)))
"""
    script = f"""
from rootless.api import spawn
spawn._PROGRAM = spawn._PROGRAM.replace("codecache.load_for('launcher'); ", {notes!r})
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
