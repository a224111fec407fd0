"""A signal that ends a conversion, sent to it or to its child, leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sysconfig
from pathlib import Path

import pytest

from oci.progress import ProgressLine
from tests.support import archives as a
from tests.support.checkout import LAUNCHER, driver
from tests.support.processes import until


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("whole_group", [True, False])
def test_interrupt_leaves_nothing(tmp_path: Path, signum: signal.Signals, whole_group: bool) -> None:
    """The signal comes while the archive's pipe stalls in the middle of a layer."""
    data = a.file("f", bytes(1 << 20)) + a.file("g", bytes(8 << 20)) + a.END
    command = [LAUNCHER, "import", "-", "-o", "b"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=-1, stdout=-1, stderr=-1, start_new_session=True) as process:
        assert process.stdin is not None
        process.stdin.write(data[: 5 << 20])
        process.stdin.flush()  # it was taken from the pipe: all but the last 64 kB went to the layer's reader
        partial = [name for name in os.listdir(tmp_path) if name.startswith(".b.")]
        (os.killpg if whole_group else os.kill)(process.pid, signum)
        process.wait()  # its input stays open, because its end would be another reason to stop
        _, errors = process.communicate()
    assert partial, "it was not under way yet"
    assert process.returncode == 128 + signum
    assert b"interrupted" in errors and errors.count(b"\n") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_while_the_archive_comes_in(tmp_path: Path, signum: signal.Signals) -> None:
    """An image archive on standard input is copied first, because its index comes after its layers."""
    command = [LAUNCHER, "convert", "-", "-o", "b"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        process.stdin.write(a.file("layer.tar", bytes(4 << 20))[: 3 << 20])
        process.stdin.flush()
        process.send_signal(signum)
        process.wait()
        _, errors = process.communicate()
    assert process.returncode == 128 + signum
    assert errors == b"rootless: interrupted: nothing is left behind\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_killed_job_is_taken_back_by_its_parent(tmp_path: Path, signum: signal.Signals) -> None:
    """The child dies for any reason, such as too little memory, and its parent cleans up."""
    command = [LAUNCHER, "import", "-", "-o", "b"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        process.stdin.write(a.file("f", bytes(1 << 20)) + a.file("g", bytes(4 << 20)))
        process.stdin.flush()
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signum)
        process.wait()
        _, errors = process.communicate()
    assert process.returncode == 128 + signum
    assert errors.endswith(b": nothing is left behind\n") and errors.count(b"\n") == 1
    assert os.listdir(tmp_path) == []


# The child that does the work stops itself when it has used so many seconds of the processor: it is under way then, and
# cannot end before the test has seen it. Its own children do not stop, and no later child of the command does, which
# takes back what it has made.
STOPPING = f"""
sys.path.append({sysconfig.get_path("purelib")!r})
import os, signal
from rootless.__main__ import launcher
real = os.fork
def fork():
    os.fork = real
    pid = real()
    if pid == 0:
        signal.signal(signal.SIGPROF, lambda *_: os.kill(os.getpid(), signal.SIGSTOP))
        signal.setitimer(signal.ITIMER_PROF, 0.004)
    return pid
os.fork = fork
launcher()
"""


def stopped_child(process: subprocess.Popen[bytes]) -> int:
    """Return the child that does the work, when it has stopped."""

    def find() -> int:
        for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{word}/stat").read_text().rpartition(") ")[2].startswith("T"):
                    return int(word)
        assert process.poll() is None, "it has ended before it could be stopped"
        return 0

    child = until(find)
    assert child, "no child does the work"
    return child


def interrupt(*words: object, cwd: Path, **more: object) -> tuple[int, str]:
    """Send SIGINT to a command and its child, as a terminal does; return the exit code and standard error."""
    with subprocess.Popen(driver(STOPPING, *map(str, words)), cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, start_new_session=True, **more) as process:  # type: ignore[call-overload] # fmt: skip
        child = stopped_child(process)
        os.killpg(process.pid, signal.SIGINT)
        os.kill(child, signal.SIGCONT)
        _, errors = process.communicate()
    return process.returncode, errors.decode()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Return a directory with the bundle b, which has some thousand files."""
    tree = tmp_path / "tree/files"
    tree.mkdir(parents=True)
    for number in range(2000):
        (tree / str(number)).touch()
    with (tree / "large").open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["tar", "-C", tree.parent, "-cSf", tmp_path / "tree.tar", "."], check=True)
    shutil.rmtree(tree.parent)
    subprocess.run(
        [LAUNCHER, "import", "-q", "tree.tar", "-o", "b"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL
    )
    return tmp_path


def test_interrupt_of_pack_leaves_nothing(work: Path) -> None:
    code, errors = interrupt("pack", "b", "--flatten", "-o", "new.tar", cwd=work)
    assert code == 130 and ("interrupted" in errors or not errors)  # silent: before the file was begun
    assert sorted(os.listdir(work)) == ["b", "tree.tar"]
    subprocess.run([LAUNCHER, "remove", "b"], cwd=work, check=True)


def test_interrupt_of_remove_leaves_nothing(work: Path) -> None:
    code, errors = interrupt("remove", "b", cwd=work)
    assert code == 130, errors
    if (work / "b").exists():  # the signal came before the removal had begun
        subprocess.run([LAUNCHER, "remove", "b"], cwd=work, check=True)
    assert os.listdir(work) == ["tree.tar"]


def test_interrupt_of_a_first_run_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    tree = tmp_path / "tree.tar"
    tree.write_bytes(a.docker_archive([a.file("f", bytes(32 << 20)) + a.END]))
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    code, errors = interrupt("--root", tmp_path / "state", "run", tree, cwd=tmp_path, env=environment)
    assert code == 130 and ("interrupted" in errors or not errors), errors  # silent: before the unpacking was begun
    left = [path for path in (tmp_path / "cache/rootless/images").rglob("*") if not path.name.endswith(".lock")]
    assert [path.name for path in left] in ([], ["index"])
    assert not (tmp_path / "state").exists() or os.listdir(tmp_path / "state") == []


def test_progress_tells_rate_and_time_left_after_a_second() -> None:
    now = [100.0]
    out = io.StringIO()
    line = ProgressLine(10_000_000, words="packing", live=True, clock=lambda: now[0])
    with contextlib.redirect_stderr(out):
        line.advance(1_000_000)
        assert out.getvalue() == ""
        now[0] = 102.0
        line.advance(1_000_000)
        assert out.getvalue().endswith("packing  2.0 MB of 10.0 MB  [####                ]  20%  1.0 MB/s  8 s left")
        line.finish()
    assert out.getvalue().endswith("\r\033[K")
    silent = ProgressLine(10, live=False, clock=lambda: now[0])
    with contextlib.redirect_stderr(io.StringIO()) as out:
        now[0] = 200.0
        silent.advance(5)
        silent.finish()
    assert out.getvalue() == ""
