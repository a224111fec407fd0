"""The program as one file, alone in a directory, converts, runs and helps, and says in one line what it cannot do."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("zipapp") / "rootless.pyz"
    subprocess.run([sys.executable, CHECKOUT / "scripts/zipapp.py", file], check=True, stdout=subprocess.DEVNULL)
    return file


def test_it_converts_and_runs_in_a_directory_of_its_own(program: Path, tmp_path: Path, busybox: Path) -> None:
    shutil.copy(program, tmp_path)
    subprocess.run([sys.executable, CHECKOUT / "scripts/legacy_archive.py", busybox, tmp_path / "demo.tar"], check=True)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(CHECKOUT)}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["./rootless.pyz", "--root", str(tmp_path / "state"), *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    converted = call("convert", "demo.tar")
    assert (converted.returncode, converted.stdout) == (0, "./demo\n"), converted.stderr
    ran = call("run", "demo", "--", "sh", "-c", "echo it runs; exit 7")
    assert (ran.returncode, ran.stdout) == (7, "it runs\n"), ran.stderr
    # The container's init keeps the streams of `create`, so a pipe would stay open until it ends.
    create = ["./rootless.pyz", "--root", str(tmp_path / "state"), "create", "--bundle", "demo", "one"]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(create, cwd=tmp_path, env=environment, check=True, **streams)
    state = call("state", "one")
    deleted = call("delete", "--force", "one")
    assert deleted.returncode == 0, deleted.stderr
    assert json.loads(state.stdout)["status"] == "created"
    again = call("state", "one")
    assert again.returncode == 1 and again.stderr.count("\n") == 1 and "does not exist" in again.stderr
    helped = call("help", "run")
    assert helped.returncode == 0 and helped.stdout.startswith("Usage: rootless run")
    removed = call("remove", "demo")
    assert removed.returncode == 0, removed.stderr


def test_the_same_sources_give_the_same_bytes(program: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.pyz"
    subprocess.run(
        [sys.executable, CHECKOUT / "scripts/zipapp.py", again], check=True, stdout=subprocess.DEVNULL, umask=0o077
    )
    assert again.read_bytes() == program.read_bytes()
    assert again.stat().st_mode & 0o777 == 0o755
