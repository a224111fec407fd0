"""Standard output that takes nothing: what was to be printed is missing, so the command fails, and says on what.

A command that has made something keeps it, and warns.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import archives as a
from tests.support.checkout import LAUNCHER, TIMEOUT
from tests.support.containers import has_range

LINE = "rootless: cannot write: standard output: ENOSPC (no space left on device)\n"
WARNING = "rootless: warning: cannot write {} to standard output: ENOSPC (no space left on device)\n"
PRINTING = [
    "state ID", "list", "list --json", "ps ID", "features", "--version", "--help", "run --help", "help exec",
    "run --dry-run BUNDLE", "explain BUNDLE", "inspect IMAGE", "inspect --json IMAGE", "convert --list IMAGE",
    "convert --list --json IMAGE", "cache ls", "cache ls --json", "completion bash",
]  # fmt: skip


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "image.tar"
    path.write_bytes(a.docker_archive([a.directory("dir") + a.file("dir/file", b"x") + a.END]))
    return path


def told(rootless, stdout: int, *words: str | Path) -> tuple[int, str]:
    done = rootless(*words, capture_output=False, stdout=stdout, stderr=subprocess.PIPE)
    return done.returncode, done.stderr


@pytest.fixture
def full():
    fd = os.open("/dev/full", os.O_WRONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def words(container, image, full):
    """`words(line)`: the words of a command line, with a running container where it needs one."""

    def split(line: str) -> list[str | Path]:
        c = container({"process": {"args": ["sleep", "1000"]}})
        if "ID" in line.split() or line.startswith("list"):
            assert c.run_detached().returncode == 0
        places = {"ID": c.id, "BUNDLE": c.bundle.path, "IMAGE": image}
        return [places.get(word, word) for word in line.split()]

    return split


@pytest.mark.parametrize("line", PRINTING)
def test_a_full_disk(rootless, words, full: int, line: str) -> None:
    assert told(rootless, full, *words(line)) == (1, LINE)


@pytest.mark.parametrize("line", [*PRINTING, "doctor --clean"])
def test_no_standard_output(rootless, words, tmp_path: Path, line: str) -> None:
    """It is the null device then."""
    command = rootless.command(*words(line))
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["convert", "import", "pack", "cache add"])
def test_what_was_made_stays(rootless, image: Path, tmp_path: Path, full: int, command: str) -> None:
    made = tmp_path / "made"
    words = [*command.split(), image, "-o", made]
    if command == "import":
        image.write_bytes(a.directory("dir") + a.file("dir/file", b"x") + a.END)
    if command == "pack":
        assert rootless("convert", "-q", image, "-o", tmp_path / "packed").returncode == 0
        (tmp_path / "packed/rootfs/dir/new").touch()
        words = ["pack", tmp_path / "packed", "-o", made]
    if command == "cache add":
        words = ["cache", "add", image]
    code, text = told(rootless, full, *words)
    if command == "cache add":
        (made,) = (path.parent for path in (tmp_path / "cache/rootless/images").glob("*/rootfs"))
    assert (code, text.splitlines(keepends=True)[-1]) == (0, WARNING.format(made)) and made.exists()
    if command != "pack":
        assert subprocess.run([LAUNCHER, "remove", made], timeout=TIMEOUT, check=False).returncode == 0


def test_a_container_that_was_started_stays(container, rootless, tmp_path: Path, full: int, monkeypatch) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    monkeypatch.chdir(c.bundle.path.parent)
    with open(tmp_path / "told", "w+") as errors:
        done = rootless("run", "-d", f"./{c.bundle.path.name}", capture_output=False, stdout=full, stderr=errors)
    try:
        assert (done.returncode, (tmp_path / "told").read_text()) == (0, WARNING.format(rootless.ids()[0]))
    finally:
        for name in rootless.ids():
            assert rootless("delete", "--force", name).returncode == 0


@pytest.mark.skipif(os.geteuid() == 0 or not has_range(), reason="a user's map")
def test_a_program_without_a_name(rootless) -> None:
    done = rootless("unshare", "")
    assert (done.returncode, done.stderr) == (
        1,
        "rootless: the program's name is empty; hint: rootless unshare CMD ARG...\n",
    )
