"""The list of modules that the hot path imports is fixed, because every container pays for a new one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
HEAVY = {
    "click", "attr", "attrs", "json", "typing", "re", "argparse", "logging", "subprocess", "dataclasses", "enum",
    "socket", "signal", "shutil", "tempfile", "pathlib", "contextlib", "threading", "inspect", "collections",
    "os", "_collections_abc", "stat", "jeepney",
}  # fmt: skip
PROGRAM = """
import posix, sys
sys.path.insert(0, sys.argv.pop(1))
report = sys.argv.pop(1)
from rootless.__main__ import main
code = main()
with open(report, "a") as file:
    file.write("\\n".join(sys.modules) + "\\n")
posix._exit(code)
"""


def imports(tmp_path: Path, *args: object) -> set[str]:
    report = tmp_path / "modules"
    report.unlink(missing_ok=True)
    # In a user's session the manager would be systemd's, which imports jeepney and half of the standard library.
    places = ["--root", tmp_path / "state", "--cgroup-manager", "cgroupfs"]
    command = [sys.executable, "-IS", "-c", PROGRAM, CHECKOUT, report, *places, *args]
    errors = tmp_path / "errors"  # no pipe: a created container would hold it open
    with errors.open("w") as file:
        nothing = subprocess.DEVNULL
        done = subprocess.run(list(map(str, command)), stdin=nothing, stdout=nothing, stderr=file, check=False)
    assert done.returncode == 0, errors.read_text()
    return set(report.read_text().split())


def test_no_heavy_module_on_the_hot_path(tmp_path: Path, bundle: Any) -> None:
    bundle.patch({"process": {"args": ["sleep", "1000"]}})
    (tmp_path / "state").mkdir(0o700)  # to make it takes os.makedirs, once
    name = f"hot{os.getpid()}"
    calls: list[list[object]] = [
        ["create", "-b", bundle.path, name],
        ["state", name],
        ["start", name],
        ["exec", name, "true"],
        ["kill", name, "KILL"],
        ["delete", "--force", name],
        ["run", "-b", bundle.path, name, "--", "true"],
    ]
    found = {str(call[0]): imports(tmp_path, *call) & HEAVY for call in calls}
    assert found == {command: set() for command in found}
