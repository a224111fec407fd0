"""The hot path's import list is pinned: what creeps in is paid by every container."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
HEAVY = {
    "click", "attr", "attrs", "json", "typing", "re", "argparse", "logging", "subprocess", "dataclasses", "enum",
    "socket", "signal", "shutil", "tempfile", "pathlib", "contextlib", "threading", "inspect", "collections",
}  # fmt: skip
PROGRAM = """
import atexit, os, sys
sys.path.insert(0, sys.argv.pop(1))
report = sys.argv.pop(1)
from rootless.__main__ import main
code = main()
with open(report, "a") as file:
    file.write("\\n".join(sys.modules) + "\\n")
os._exit(code)
"""


def imports(tmp_path: Path, *args: object) -> set[str]:
    report = tmp_path / "modules"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-IS", "-c", PROGRAM, CHECKOUT, report, "--root", tmp_path / "state", *args]
    done = subprocess.run(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(report.read_text().split())


def test_no_heavy_module_on_the_hot_path(tmp_path: Path, bundle: object) -> None:
    place = getattr(bundle, "path", None)
    config = json.loads((Path(str(place)) / "config.json").read_text())
    config["process"]["args"] = ["true"]
    (Path(str(place)) / "config.json").write_text(json.dumps(config))
    name = f"hot{os.getpid()}"
    calls: list[list[object]] = [
        ["create", "-b", place, name],
        ["state", name],
        ["start", name],
        ["delete", "--force", name],
        ["run", "-b", place, name],
        ["list"],
    ]
    for call in calls:
        if call[0] == "create":
            with open(os.devnull) as nothing:
                subprocess.run(
                    [sys.executable, "-IS", CHECKOUT / "bin/rootless", "--root", tmp_path / "state", *map(str, call)],
                    stdin=nothing, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
                )  # fmt: skip
            continue
        assert not imports(tmp_path, *call) & HEAVY, call


@pytest.mark.parametrize("command", ["kill"])
def test_kill_is_light(tmp_path: Path, command: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); import rootless.commands.{command}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & HEAVY
