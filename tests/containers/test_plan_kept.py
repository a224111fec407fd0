"""Executing a plan does not write to it: neither the runtime does, nor init to its copy."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import TIMEOUT, driver
from tests.support.golden import CONFIGS as GOLDEN

# Compares the plan with what it was when it was compiled: in init right before the program runs, in the runtime at the
# end of the command.
COMPARING = """
import os
from tests.support.snapshots import snapshot
from rootless import __main__, init
from rootless.plan.describe import describe
from rootless.runtime import create
compile_plan, run_program = create.compile_plan, init.run_program
compiled = []
def look():
    (plan, before), = compiled
    after = snapshot(plan), describe(plan)
    if after != before:
        raise RuntimeError("the plan was written to: " + ascii([a for a in zip(after, before) if a[0] != a[1]]))
def compile_and_note(*args):
    plan = compile_plan(*args)
    compiled.append((plan, (snapshot(plan), describe(plan))))
    return plan
def look_and_run(*args):
    look()
    run_program(*args)
create.compile_plan, init.run_program = compile_and_note, look_and_run
code = __main__.main()
look()
print("unchanged", file=sys.stderr)
os._exit(code)
"""


def hooks(*moments: str) -> dict[str, Any]:
    return {"hooks": {moment: [{"path": "/bin/true", "args": ["true"], "env": ["A=1"]}] for moment in moments}}


SECCOMP = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}
CONFIGS: dict[str, dict[str, Any]] = {
    "default": {},
    "a terminal": {"process": {"terminal": True}},
    "hooks": hooks("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"),
    "a filter": {"linux": {"seccomp": SECCOMP}, "process": {"noNewPrivileges": False}},
    "the process": {
        "process": {"oomScoreAdj": 500, "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}],
                    "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 5}, "user": {"umask": 63}},
        "annotations": {"org.example.key": "value"},
    },
    "sysctls and time": {"linux": {"sysctl": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "8191"}}},
    "no mounts": {"mounts": [], "linux": {"maskedPaths": [], "readonlyPaths": []}, "root": {"readonly": False}},
}  # fmt: skip


def run(c: Any, *flags: str) -> subprocess.CompletedProcess[str]:
    command = driver(COMPARING, "--root", c.rootless.state, "run", *flags, "-b", c.bundle.path, c.id)
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_the_plan_is_the_same_when_it_was_executed(container, name: str) -> None:
    c = container(CONFIGS[name])
    c.bundle.patch({"process": {"args": ["true"]}})
    result = run(c)
    assert (result.returncode, result.stderr) == (0, "unchanged\n")


_OF_THE_MACHINE = ("cgroupsPath", "gidMappings", "resources", "sysctl", "uidMappings")


def runnable(config: dict[str, Any], rootfs: Path) -> dict[str, Any]:
    """Return a client's config as it was reviewed, without what only that client's machine had."""
    linux = {key: value for key, value in config["linux"].items() if key not in _OF_THE_MACHINE}
    linux["namespaces"] = [{"type": namespace["type"]} for namespace in linux.get("namespaces", [])]
    process = {key: value for key, value in config["process"].items()
               if key not in ("apparmorProfile", "oomScoreAdj", "rlimits", "selinuxLabel")}  # fmt: skip
    process |= {"args": ["true"], "terminal": False, "cwd": "/", "user": {"uid": 0, "gid": 0}}
    mounts = [mount for mount in config.get("mounts", []) if os.path.exists(mount.get("source", "/")) or
              "bind" not in (mount.get("type"), *mount.get("options", ()))]  # fmt: skip
    return {**config, "root": {**config["root"], "path": str(rootfs)}, "process": process, "mounts": mounts,
            "linux": linux, "hooks": {}}  # fmt: skip


@pytest.mark.parametrize("path", GOLDEN, ids=[f"{path.parent.name}-{path.stem}" for path in GOLDEN])
def test_the_plans_of_clients_are_the_same_when_they_were_executed(container, path: Path) -> None:
    """A plan is unchanged also after a step has failed, as in a config that asks for more than this user may do."""
    c = container({})
    c.bundle.config = runnable(json.loads(path.read_text()), c.bundle.path / "rootfs")
    c.bundle.write()
    result = run(c)
    assert result.stderr.splitlines()[-1] == "unchanged", result.stderr


def test_with_volumes(container, tmp_path: Path) -> None:
    c = container({"process": {"args": ["ls", "/volume", "/copied", "/etc"]}})
    (tmp_path / "volume").mkdir()
    more = [{"destination": "/volume", "type": "bind", "source": str(tmp_path / "volume"), "options": ["rbind", "ro"]},
            {"destination": "/copied", "type": "tmpfs", "options": ["size=1m"]},
            {"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup"]}]  # fmt: skip
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], *more], "root": {"readonly": False}})
    result = run(c)
    assert (result.returncode, result.stderr) == (0, "unchanged\n")
    assert "passwd" in result.stdout


def test_with_namespaces_by_path(container) -> None:
    first = container({"process": {"args": ["sleep", "1000"]}})
    assert first.run_detached().returncode == 0
    c = container({"process": {"args": ["true"]}, "linux": {"uidMappings": None, "gidMappings": None}})
    for namespace in c.bundle.config["linux"]["namespaces"]:
        if namespace["type"] in ("ipc", "user", "network"):
            namespace["path"] = f"/proc/{first.state()['pid']}/ns/{namespace['type'].replace('network', 'net')}"
    c.bundle.write()
    result = run(c)
    assert (result.returncode, result.stderr) == (0, "unchanged\n")


def test_with_a_time_namespace(container) -> None:
    if not os.path.exists("/proc/self/ns/time"):
        pytest.skip("this kernel lacks time namespaces")
    c = container({"process": {"args": ["true"]}, "linux": {"timeOffsets": {"monotonic": {"secs": 100}}}})
    c.bundle.patch({"linux": {"namespaces": [*c.bundle.config["linux"]["namespaces"], {"type": "time"}]}})
    result = run(c)
    assert (result.returncode, result.stderr) == (0, "unchanged\n")


def test_with_limits(container) -> None:
    """The limit needs no controller, and the driver notes what it makes in a record of its own."""
    c = container({"process": {"args": ["true"]}, "linux": {"resources": {"unified": {"cgroup.max.depth": "5"}}}})
    result = run(c)
    if "there is no cgroup that may be written" in result.stderr:
        pytest.skip("no cgroup can be made here")
    assert (result.returncode, result.stderr) == (0, "unchanged\n")


def test_when_create_fails(container) -> None:
    """The undo functions do not write to the plan either."""
    c = container({"process": {"args": ["no-such-program"]}})
    result = run(c)
    assert result.returncode == 1 and result.stderr.endswith("unchanged\n")
