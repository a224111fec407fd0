"""A failure in a clone of the runtime is reported once and undone once, by the runtime."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.checkout import TIMEOUT, driver

# Each makes the first call of that name in a process that the command has cloned raise.
BROKEN = """
import os, sys
from rootless import __main__
home, where, what = os.getpid(), sys.argv.pop(1), sys.argv.pop(1)
module, _, path = where.partition(":")
__import__("rootless." + module)
holder = sys.modules["rootless." + module]
*parts, name = path.split(".")
for part in parts:
    holder = getattr(holder, part)
real = getattr(holder, name)
def broken(*args, **kwargs):
    if os.getpid() == home:
        return real(*args, **kwargs)
    raise {"memory": MemoryError(), "io": OSError(5, "injected"), "bug": ZeroDivisionError("injected")}[what]
setattr(holder, name, broken)
sys.exit(__main__.main(sys.argv[1:]))
"""
CREATE = ["runtime.state:StateDir.close_copy", "init:pthread_sigmask", "init:signal", "init:_become_root",
          "steps.root:AttachRootfs.execute", "steps.root:PivotRoot.execute", "steps.process:ChangeUser.execute",
          "process.program:look_up", "process.program:forget_imports", "process.program:close_all_but"]  # fmt: skip
EXEC = ["process.program:forget_imports", "process.attributes:write_oom_score", "runtime.exec:_become",
        "runtime.exec:_Gate", "process.program:close_all_but", "steps.process:ChangeUser.execute",
        "process.program:look_up", "steps.program:Execute.execute"]  # fmt: skip


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
    c = container({"process": {"args": ["sleep", "1000"], "oomScoreAdj": 500}})
    assert c.run_detached().returncode == 0
    result = call(rootless, where, what, "exec", c.id, "true")
    assert result.returncode == 255 and result.stderr.count("\n") == 1, result.stderr
    assert c.status() == "running"


@pytest.mark.parametrize("where", ["process.attributes:write_oom_score", "init:pthread_sigmask"])
def test_on_the_way_into_namespaces_by_path(container, rootless, where) -> None:
    first = container({"process": {"args": ["sleep", "1000"]}})
    assert first.run_detached().returncode == 0
    c = container({"linux": {"uidMappings": None, "gidMappings": None}, "process": {"oomScoreAdj": 500}})
    for namespace in c.bundle.config["linux"]["namespaces"]:
        if namespace["type"] in ("ipc", "user"):
            namespace["path"] = f"/proc/{first.state()['pid']}/ns/{namespace['type']}"
    c.bundle.write()
    result = call(rootless, where, "bug", "create", "-b", c.bundle.path, c.id)
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    assert rootless.ids() == [first.id]
