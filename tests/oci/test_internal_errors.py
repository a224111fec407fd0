"""Whatever ends a process of the converter, there is one line and no traceback, and nothing is left."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oci.errors import printable
from tests.support import archives as a
from tests.support.checkout import CHECKOUT, LAUNCHER
from tests.support.commands import rootless

# A command line of which one function is made to raise; it runs in the forked child wherever there is one.
SCRIPT = """
import importlib, struct, sys
sys.path.insert(0, sys.argv[1])
module, _, name = sys.argv[2].rpartition(".")
class_name = ""
if module.rpartition(".")[2][:1].isupper():
    module, _, class_name = module.rpartition(".")
place = importlib.import_module(module)
def fail(*args, **more):
    raise eval(sys.argv[3])
setattr(getattr(place, class_name) if class_name else place, name, fail)
from rootless.__main__ import main
sys.exit(main(sys.argv[4:]))
"""
ERRORS = {
    "MemoryError()": "out of memory",
    "ImportError('no module')": "no module",
    "RecursionError('too deep')": "RecursionError: too deep",
    "struct.error('int too large')": "int too large",
    "KeyError('key')": "KeyError",
    "AssertionError()": "AssertionError",
    "OSError(24, 'Too many open files')": "EMFILE",
}
COMMANDS = {
    "convert": ("oci.bundle.build", "convert", "a.tar", "-o", "new"),
    "import": ("oci.bundle.build", "import", "r.tar", "-o", "new"),
    "pack": ("oci.pack._changed", "pack", "b", "-o", "out.tar"),
    "remove": ("rootless.userns.job.remove_tree", "remove", "b"),
    "unshare": ("rootless.process.program.restore_signals", "unshare", "true"),
    "cache": ("oci.cache.Cache.prune", "cache", "prune"),
}
PROCESSES = {
    "reader": ("oci.image.Layer.tar", "convert", "a.tar", "-o", "new"),
    "writer": ("oci.writer.Writer._write", "convert", "a.tar", "-o", "new"),
    "unpacker": ("oci.layer.Tree._add_directory", "convert", "a.tar", "-o", "new"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("place")
    layer = a.directory("d") + b"".join(a.file(f"d{n}/a/b/c/d/f", b"x" * 3000) for n in range(5)) + a.END
    (place / "a.tar").write_bytes(a.docker_archive([layer]))
    (place / "r.tar").write_bytes(layer)
    assert rootless("convert", "a.tar", "-o", "b", cwd=place).returncode == 0
    (place / "b/rootfs/new").write_bytes(b"new")
    return place


def failing(place: Path, error: str, function: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, str(CHECKOUT), function, error, *words]
    environment = {**os.environ, "XDG_CACHE_HOME": str(place / "cache")}
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, env=environment)


def told(done: subprocess.CompletedProcess[str], place: Path, before: list[str]) -> str:
    """Return the one line of a failure, after checking that nothing is left."""
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stderr.startswith("rootless: "), done
    assert sorted(os.listdir(place)) == before
    return done.stderr


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("command", COMMANDS)
def test_an_error_that_nobody_expects_is_one_line(place: Path, command: str, error: str) -> None:
    before = sorted(os.listdir(place))
    line = told(failing(place, error, *COMMANDS[command]), place, before)
    assert ERRORS[error] in line
    if "OSError" not in error:
        assert ".py:" in line, "it says where it happened"
        assert "report" in line, "it asks for a report"


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("process", PROCESSES)
def test_an_error_of_each_process_of_a_conversion_is_one_line(place: Path, process: str, error: str) -> None:
    before = sorted(os.listdir(place))
    line = told(failing(place, error, *PROCESSES[process]), place, before)
    assert ERRORS[error] in line
    if "OSError" not in error:
        assert ".py:" in line


def test_debug_shows_the_traceback(place: Path) -> None:
    function, *words = COMMANDS["convert"]
    done = failing(place, "KeyError('key')", function, "--debug", *words)
    assert done.returncode == 1 and "Traceback" in done.stderr and "KeyError" in done.stderr


@pytest.mark.skipif(not os.geteuid(), reason="root needs no user namespace")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "function", ["rootless.kernel.syscalls.unshare", "rootless.userns.run.write_maps", "os.pidfd_open"]
)
def test_a_user_namespace_that_cannot_be_made_is_one_line(place: Path, command: str, function: str) -> None:
    before = sorted(os.listdir(place))
    done = failing(place, "OSError(1, 'Operation not permitted')", function, *COMMANDS[command][1:])
    assert "EPERM" in told(done, place, before)


def limited(place: Path, limit: int, value: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command under a resource limit, without the shell, which would print errors of its own."""
    return subprocess.run(
        [sys.executable, "-IS", LAUNCHER, *words], cwd=place, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(limit, (value, value)),
    )  # fmt: skip


@pytest.mark.parametrize("words", [COMMANDS[name][1:] for name in ("convert", "import", "pack")], ids=lambda w: w[0])
def test_too_few_descriptors_are_one_line_and_leave_nothing(place: Path, words: tuple[str, ...]) -> None:
    before = sorted(os.listdir(place))
    failed = 0
    for number in range(8, 30):
        done = limited(place, resource.RLIMIT_NOFILE, number, *words)
        if done.returncode == 0:
            assert done.stderr == "", (number, done.stderr)
            target = place / words[-1]
            target.unlink() if target.is_file() else rootless("remove", target, cwd=place)
        else:
            failed += 1
            assert "EMFILE" in told(done, place, before) or "open files" in done.stderr, (number, done.stderr)
    assert failed > 1


@pytest.mark.parametrize("words", [COMMANDS[name][1:] for name in ("convert", "import", "pack")], ids=lambda w: w[0])
def test_too_little_memory_is_one_line_and_leaves_nothing(place: Path, words: tuple[str, ...]) -> None:
    before = sorted(os.listdir(place))
    for megabytes in range(16, 72, 4):
        done = limited(place, resource.RLIMIT_AS, megabytes << 20, *words)
        if done.returncode == 0:
            target = place / words[-1]
            target.unlink() if target.is_file() else rootless("remove", target, cwd=place)
        elif done.returncode == -signal.SIGABRT and "Fatal Python error" in done.stderr:
            # The interpreter has ended itself, because it had no memory for the MemoryError. Nobody can clean up then.
            for name in {*os.listdir(place)} - {*before}:
                subprocess.run(["rm", "-rf", place / name], check=True)
        elif "rootless" in done.stderr:  # otherwise Python itself did not start
            told(done, place, before)


@pytest.mark.parametrize("command", ["convert", "import"])
def test_standard_input_that_is_a_directory_is_one_line(place: Path, command: str) -> None:
    before = sorted(os.listdir(place))
    directory = os.open(place, os.O_RDONLY)
    try:
        process = subprocess.run(
            [LAUNCHER, command, "-", "-o", "new"],
            cwd=place,
            stdin=directory,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(directory)
    line = process.stderr
    assert process.returncode == 1 and line.count("\n") == 1 and "directory" in line, printable(line)
    assert sorted(os.listdir(place)) == before
