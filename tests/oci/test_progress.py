"""The progress line of a conversion appears on a terminal only, and says how much time is left."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from oci.progress import ProgressLine
from tests.support import archives as a
from tests.support.checkout import driver
from tests.support.commands import rootless

LIBRARIES = sysconfig.get_path("purelib")  # of this environment: attrs and click


def on_a_terminal(work: Path, *args: str) -> str:
    """Return what a command that shows its progress at once writes to a terminal."""
    program = """
from oci import progress
progress._PATIENCE = progress._INTERVAL = 0
from rootless.__main__ import main
raise SystemExit(main(sys.argv[1:]))
"""
    ours, theirs = os.openpty()
    command = driver(f"sys.path.append({LIBRARIES!r})\n{program}", *args)
    with subprocess.Popen(command, cwd=work, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the last one has closed it
            while more := os.read(ours, 4096):
                shown += more
        os.close(ours)
        assert process.wait() == 0
    return shown.decode()


def test_progress_on_a_terminal_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("f", bytes(1 << 20)) + a.END, a.file("g") + a.END]))
    assert rootless("convert", "image.tar", "-o", "b", cwd=tmp_path).stderr == ""
    rootless("remove", "b", cwd=tmp_path)
    shown = on_a_terminal(tmp_path, "convert", "image.tar", "-o", "b")
    assert re.match(r"\r\x1b\[Klayer 1 of 2  .* of 1\.1 MB  \[#* *\] .*%", shown)
    assert shown.endswith("\r\x1b[K"), "the line is taken away at the end"
    rootless("remove", "b", cwd=tmp_path)
    assert on_a_terminal(tmp_path, "convert", "image.tar", "-o", "b", "--quiet") == ""
    rootless("remove", "b", cwd=tmp_path)


def test_pack_shows_each_part_of_its_work(tmp_path: Path) -> None:
    """Each part can take long: the base and the tree are read, the changes are read, compressed and written."""
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("f", bytes(1 << 20)) + a.file("g", b"1") + a.END]))
    assert rootless("convert", "image.tar", "-o", "b", cwd=tmp_path).returncode == 0
    (tmp_path / "b/rootfs/new").write_bytes(bytes(1 << 20))
    touched = tmp_path / "b/rootfs/g"  # of the same size and time, so that only the base's contents tell
    status = touched.stat()
    touched.write_bytes(b"2")
    os.utime(touched, ns=(status.st_atime_ns, status.st_mtime_ns))
    shown = on_a_terminal(tmp_path, "pack", "b", "-o", "packed.tar")
    for words in ("reading the base  .* of 1.1 MB", "comparing  3 .*files", "comparing  .* of 1.1 MB",
                  "reading  .* of 1.1 MB", "compressing  .* of 1.1 MB", "packing  .* of "):  # fmt: skip
        assert re.search(rf"\r\x1b\[K{words}", shown), (words, shown)
    assert shown.endswith("\r\x1b[K")
    assert on_a_terminal(tmp_path, "pack", "b", "-o", "quiet.tar", "--quiet") == ""
    assert (tmp_path / "packed.tar").stat().st_size == (tmp_path / "quiet.tar").stat().st_size
    rootless("remove", "b", cwd=tmp_path)


def test_progress_tells_the_time_that_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ProgressLine(200_000_000, 4, live=True, clock=iter([0.0, 10.0]).__next__)
    progress.next_layer()
    progress.advance(50_000_000)
    assert (
        capsys.readouterr().err
        == "\r\x1b[Klayer 1 of 4  50.0 MB of 200.0 MB  [#####               ]  25%  5.0 MB/s  30 s left"
    )


@pytest.mark.parametrize("width", [80, 60, 40])
def test_progress_fits_the_terminal_and_keeps_the_time_that_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda _fd: os.terminal_size((width, 24)))
    progress = ProgressLine(339_100_000, 1, live=True, clock=iter([0.0, 10.0]).__next__)
    progress.next_layer()
    progress.advance(35_700_000)
    line = capsys.readouterr().err.removeprefix("\r\x1b[K")
    assert len(line) < width and line.startswith("layer 1 of 1  35.7 MB")
    assert width < 60 or line.endswith("  85 s left")


def test_a_narrow_terminal_loses_the_percent_before_the_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda _fd: os.terminal_size((60, 24)))
    progress = ProgressLine(4_800_000_000, 1, live=True, clock=iter([0.0, 1.0]).__next__)
    progress.next_layer()
    progress.advance(102_800_000)
    line = capsys.readouterr().err.removeprefix("\r\x1b[K")
    assert line == "layer 1 of 1  102.8 MB of 4.8 GB  102.8 MB/s  46 s left"


def test_progress_of_more_than_was_expected_tells_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ProgressLine(10, words="removing", is_bytes=False, live=True, clock=iter([0.0, 10.0]).__next__)
    progress.advance(20)
    assert capsys.readouterr().err == "\r\x1b[Kremoving  20 files  2 files/s"
