"""Whichever call fails midway, with whatever errno, there is one line and nothing is left.

strace(1) makes the given call fail, in the command and in each of its children.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import archives as a
from tests.support.checkout import LAUNCHER

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="this machine lacks strace")

CALLS = {
    "write": (2, 4, 6), "mkdirat": (1, 3), "openat2": (2, 12), "linkat": (1,), "symlinkat": (1,),
    "fchmod,fchmodat": (1, 8), "utimensat": (1, 8), "renameat,renameat2,rename": (1,), "fchown,fchownat": (1, 5),
}  # fmt: skip


SQUASH = ("--quiet", "--owners", "squash")  # newuidmap loses its set-user-ID bit when it is traced


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Return an archive of two layers with all kinds of members."""
    base = b"".join(a.file(f"dir{n}/file{n}", bytes(70_000 * n)) for n in range(1, 6))
    base += a.symlink("dir1/link", "file1") + a.hard_link("dir1/hard", "dir1/file1") + a.directory("empty", uid=3)
    path = tmp_path / "image.tar"
    path.write_bytes(a.docker_archive([base + a.END, a.file("dir1/file1", b"changed") + a.END]))
    return path


def fail(call: str, errno_name: str, begin: int, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    inject = f"inject={call}:error={errno_name}:when={begin}"
    command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e", inject, LAUNCHER, *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("errno_name", ["EDQUOT", "EPERM", "EIO", "ENOSPC"])
def test_convert(archive: Path, tmp_path: Path, errno_name: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    failed: set[str] = set()
    for call, beginnings in CALLS.items():
        for begin in beginnings:
            done = fail(call, errno_name, begin, "convert", *SQUASH, archive, "-o", "b", cwd=place)
            if done.returncode == 0:  # a call that this user or this archive does not take
                subprocess.run([LAUNCHER, "remove", "b"], cwd=place, check=True)
                continue
            failed.add(call)
            assert done.returncode == 1 and done.stderr.count("\n") == 1, (call, begin, done.stderr)
            assert errno_name in done.stderr, (call, begin, done.stderr)
            assert os.listdir(place) == [], (call, begin)
    assert len(failed) > 5, failed


@pytest.mark.parametrize("errno_name", ["EDQUOT", "EPERM"])
def test_pack(archive: Path, tmp_path: Path, errno_name: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    subprocess.run([LAUNCHER, "convert", *SQUASH, archive, "-o", "b"], cwd=place, check=True)
    (place / "b/rootfs/new").write_bytes(bytes(300_000))
    renames = "renameat,renameat2,rename"
    for call, begin, *flags in (("write", 1), ("write", 3), ("write", 6), (renames, 1, "--force")):
        done = fail(call, errno_name, begin, "pack", "b", "-o", "image.tar", *flags, cwd=place)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, (call, begin, done.stderr)
        assert errno_name in done.stderr, (call, begin, done.stderr)
        assert "image.tar" in done.stderr
        assert os.listdir(place) == ["b"], (call, begin)
    done = fail("link,linkat", errno_name, 1, "pack", "b", "-o", "image.tar", cwd=place)
    assert (done.returncode, done.stderr) == (0, ""), "it renames where it cannot link"
    subprocess.run([LAUNCHER, "remove", "b"], cwd=place, check=True)
