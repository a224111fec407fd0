"""What goes wrong in a clone of the runtime is said once, by the runtime, and undone once."""

from __future__ import annotations

import subprocess

import pytest
from conftest import TIMEOUT, driver

# Each makes the first call of that name in a process that the command has cloned raise.
BROKEN = """
import os, sys
from rootless import __main__, init
from rootless.process import attributes
from rootless.kernel import caps
from rootless.kernel import channel
from rootless.process import console
from rootless.runtime import enter as join
from rootless.runtime import create as launch
from rootless.process import program
from rootless.runtime import state
home, where, what = os.getpid(), sys.argv.pop(1), sys.argv.pop(1)
module, _, name = where.rpartition(".")
holder = sys.modules["rootless." + module.split(".")[0]]
for part in module.split(".")[1:]:
    holder = getattr(holder, part)
real = getattr(holder, name)
def broken(*args, **kwargs):
    if os.getpid() == home:
        return real(*args, **kwargs)
    raise {"memory": MemoryError(), "io": OSError(5, "injected"), "bug": ZeroDivisionError("injected")}[what]
setattr(holder, name, broken)
sys.exit(__main__.main(sys.argv[1:]))
"""
CREATE = ["state.StateDir.close_copy", "init.pthread_sigmask", "init.signal", "init._become_root", "program.look_up",
          "program.forget_imports", "program.close_all_but", "attributes.apply_process"]  # fmt: skip
EXEC = ["program.forget_imports", "join._adjust_oom_score", "join._become", "join._Gate", "program.close_all_but",
        "program.look_up", "program.become"]  # fmt: skip


def call(rootless, where: str, what: str, *words) -> subprocess.CompletedProcess[str]:
    command = driver(BROKEN, where, what, "--root", rootless.state, *words)
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )


@pytest.mark.parametrize("what", ["memory", "io", "bug"])
@pytest.mark.parametrize("where", CREATE)
def test_in_init(container, rootless, where, what) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    result = call(rootless, where, what, "create", "-b", c.bundle.path, c.id)
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    assert rootless.ids() == []


@pytest.mark.parametrize("what", ["memory", "io", "bug"])
@pytest.mark.parametrize("where", EXEC)
def test_in_execs_process_and_the_joiner(container, rootless, where, what) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    result = call(rootless, where, what, "exec", c.id, "true")
    assert result.returncode == 255 and result.stderr.count("\n") == 1, result.stderr
    assert c.status() == "running"


@pytest.mark.parametrize("where", ["join._adjust_oom_score", "init.pthread_sigmask"])
def test_on_the_way_into_namespaces_by_path(container, rootless, where) -> None:
    first = container({"process": {"args": ["sleep", "1000"]}})
    assert first.run_detached().returncode == 0
    c = container({"linux": {"uidMappings": None, "gidMappings": None}})
    for namespace in c.bundle.config["linux"]["namespaces"]:
        if namespace["type"] in ("ipc", "user"):
            namespace["path"] = f"/proc/{first.state()['pid']}/ns/{namespace['type']}"
    c.bundle.write()
    result = call(rootless, where, "bug", "create", "-b", c.bundle.path, c.id)
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    assert rootless.ids() == [first.id]
