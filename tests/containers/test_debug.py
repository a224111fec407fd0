"""--debug logs each step of the plan when it is executed, in any process, with the words and numbers of --dry-run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

STEP = re.compile(r'time="[^"]+" level=debug msg="\+[0-9]+\.[0-9]{3} ms +(.*)"')


def planned_and_logged(c: Any, *flags: str) -> tuple[list[str], list[str]]:
    """Return the lines of --dry-run, and the lines of the steps that --debug logs."""
    planned = c.run("true", flags=("--dry-run", *flags))
    assert planned.returncode == 0, planned.stderr
    done = c.rootless("--debug", "run", *flags, "-b", c.bundle.path, c.id, "--", "true")
    assert done.returncode == 0, done.stderr
    logged = [found[1] for line in done.stderr.splitlines() if (found := STEP.fullmatch(line))]
    return [line.strip() for line in planned.stdout.splitlines()], logged


def test_each_line_of_the_dry_run_is_logged_once(container) -> None:
    planned, logged = planned_and_logged(container())
    assert planned and sorted(logged) == sorted(planned)


def hook(*args: str) -> list[dict[str, Any]]:
    return [{"path": "/bin/sh", "args": ["sh", "-c", *args]}]


MORE: dict[str, dict[str, Any]] = {
    "hooks": {"hooks": {moment: hook("true", moment) for moment in
                        ("prestart", "createRuntime", "createContainer", "startContainer")}},
    "a filter": {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}}},
    "more of the process": {"process": {"oomScoreAdj": 500, "terminal": True, "user": {"umask": 63},
                                        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 5}}},
    "sysctls": {"linux": {"sysctl": {"net.ipv4.ip_forward": "1"}}, "root": {"readonly": False}},
}  # fmt: skip


@pytest.mark.parametrize("name", MORE)
def test_so_is_what_else_a_config_asks_for(container, name: str) -> None:
    planned, logged = planned_and_logged(container(MORE[name]))
    assert sorted(logged) == sorted(planned)


def test_and_the_joiners_steps(container, tmp_path: Path) -> None:
    first = container({"process": {"args": ["sleep", "1000"]}})
    assert first.run_detached().returncode == 0
    c = container({"linux": {"uidMappings": None, "gidMappings": None}})
    for namespace in c.bundle.config["linux"]["namespaces"]:
        if namespace["type"] in ("ipc", "user"):
            namespace["path"] = f"/proc/{first.state()['pid']}/ns/{namespace['type']}"
    c.bundle.write()
    planned, logged = planned_and_logged(c)
    assert sorted(logged) == sorted(planned) and any(line.split()[1] == "join" for line in planned), planned
