"""System calls are recorded and made again, as long as the kernel gives the same answers (kernel/recording.py)."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from stat import S_IFCHR
from typing import Any

import pytest

from rootless.kernel import recording
from rootless.kernel import syscalls as sc
from rootless.kernel.devices import host_path
from rootless.startup import lean_os

SOURCE = Path(recording.__file__).with_name("repeat.S")
pytestmark = pytest.mark.skipif(sc.MACHINE != "x86_64", reason="calls are recorded on x86-64 only")


@pytest.fixture
def made() -> Any:
    """Return a function that makes a recording; its `run` counts how often Python is called."""
    code = recording.load_code()

    class Counted(recording.Recording):
        calls = 0

        def run(self, function: Callable[[], Any]) -> Any:
            def counted() -> Any:
                self.calls += 1
                return function()

            return super().run(counted)

    return lambda *shared: Counted(code, list(shared))


def descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")


def read(path: Path) -> bytes:
    fd = lean_os.open(path, lean_os.O_RDONLY)
    try:
        return lean_os.read(fd, 1 << 20)
    finally:
        lean_os.close(fd)


@pytest.mark.skipif(not shutil.which("as") or not SOURCE.exists(), reason="needs binutils and the source")
def test_the_bytes_are_those_of_the_source(tmp_path: Path) -> None:
    subprocess.run(["as", "-o", tmp_path / "o", SOURCE], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", tmp_path / "o", tmp_path / "bin"], check=True)
    assert (tmp_path / "bin").read_bytes() == recording._CODE


def test_calls_are_made_again_with_new_descriptors(made: Any, tmp_path: Path) -> None:
    def act() -> str:
        directory = lean_os.open(tmp_path, lean_os.O_PATH | lean_os.O_DIRECTORY)
        lean_os.mkdir("new", 0o700, dir_fd=directory)
        fd = sc.openat2(directory, "new/file", lean_os.O_CREAT | lean_os.O_WRONLY, mode=0o600)
        lean_os.write(fd, b"text")
        copy = lean_os.dup(fd)
        lean_os.symlink("new/file", "link", dir_fd=directory)
        for each in (copy, fd, directory):
            lean_os.close(each)
        return "done"

    one = made()
    before = descriptors()
    for _ in range(3):
        assert one.run(act) == "done"
        assert (tmp_path / "link").read_text() == "text"
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
        shutil.rmtree(tmp_path / "new")
        (tmp_path / "link").unlink()
        taken = os.open("/", os.O_PATH)  # so that the next run's descriptors have other numbers
        before.append(str(taken))
    assert one.calls == 1
    assert len(descriptors()) == len(before)
    for number in before[-3:]:
        os.close(int(number))


def test_an_expected_failure_is_expected_again(made: Any, tmp_path: Path) -> None:
    def act() -> int:
        try:
            lean_os.mkdir(tmp_path / "there")
        except FileExistsError as error:
            return error.errno or 0
        return 0

    (tmp_path / "there").mkdir()
    one = made()
    assert [one.run(act) for _ in range(2)] == [errno.EEXIST] * 2
    (tmp_path / "there").rmdir()
    with pytest.raises(recording.Differs):
        one.run(act)
    assert [one.run(act), one.run(act), one.calls] == [errno.EEXIST, errno.EEXIST, 2], "it is recorded anew"


def test_a_link_that_is_not_there_has_to_be_missing_again(made: Any, tmp_path: Path) -> None:
    def act() -> str:
        try:
            return str(lean_os.readlink(tmp_path / "link"))
        except FileNotFoundError:
            return ""

    one = made()
    assert [one.run(act), one.run(act), one.calls] == ["", "", 1]
    (tmp_path / "link").symlink_to("x")
    with pytest.raises(recording.Differs):
        one.run(act)
    assert [one.run(act), one.run(act), one.calls] == ["x", "x", 2]


@pytest.mark.parametrize(
    ("look", "change"),
    [
        (lambda path: lean_os.stat(path).st_mode, lambda path: path.chmod(0o600)),
        (lambda path: lean_os.stat(path, follow_symlinks=False).st_ino, lambda path: replace(path, b"old")),
        (lambda path: lean_os.readlink(path.with_name("link")), lambda path: relink(path.with_name("link"))),
        (read, lambda path: path.write_bytes(b"new")),
        (read, lambda path: path.write_bytes(b"older")),
        (read, lambda path: path.write_bytes(b"")),
    ],
    ids=["mode", "inode", "link", "content", "longer", "empty"],
)
def test_what_was_looked_at_has_to_be_the_same(
    made: Any, tmp_path: Path, look: Callable[[Path], Any], change: Callable[[Path], None]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)
    path.with_name("link").symlink_to("a target of some length")
    one = made()
    assert one.run(lambda: look(path)) == one.run(lambda: look(path)) == look(path)
    assert one.calls == 1
    change(path)
    with pytest.raises(recording.Differs):
        one.run(lambda: look(path))
    assert one.run(lambda: look(path)) == look(path)


def replace(path: Path, content: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(content)
    other.chmod(0o644)
    other.replace(path)


def relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("a target of some lengtH")


def test_two_devices_have_to_differ_again_whatever_they_are(made: Any, tmp_path: Path) -> None:
    place = tmp_path / "link"

    def act() -> tuple[bool, bool]:
        one, other = lean_os.stat("/"), lean_os.stat(place)
        return one.st_dev == other.st_dev, other.st_dev == one.st_dev

    one = made()
    for target in ("/proc", "/dev/shm", "/sys"):
        place.unlink(missing_ok=True)
        place.symlink_to(target)
        assert one.run(act) == (False, False)
    assert one.calls == 1
    place.unlink()
    place.symlink_to("/")
    with pytest.raises(recording.Differs):
        one.run(act)
    assert [one.run(act), one.run(act), one.calls] == [(True, True), (True, True), 2]
    place.unlink()
    place.symlink_to("/proc")
    with pytest.raises(recording.Differs):
        one.run(act)


def test_a_device_that_is_used_as_a_number_has_to_be_the_same(made: Any, tmp_path: Path) -> None:
    place = tmp_path / "link"
    place.symlink_to("/proc")
    one = made()
    assert one.run(lambda: int(lean_os.stat(place).st_dev)) == os.stat("/proc").st_dev
    place.unlink()
    place.symlink_to("/sys")
    with pytest.raises(recording.Differs):
        one.run(lambda: None)


def test_a_descriptor_in_a_path_has_to_have_the_same_number(made: Any, tmp_path: Path) -> None:
    def act() -> int:
        fd = lean_os.open(tmp_path, lean_os.O_PATH)
        lean_os.mkdir(f"/proc/self/fd/{fd}/new")
        lean_os.close(fd)
        return 1

    one = made()
    for _ in range(2):
        one.run(act)
        (tmp_path / "new").rmdir()
    assert one.calls == 1
    taken = os.open("/", os.O_PATH)
    with pytest.raises(recording.Differs):
        one.run(act)
    os.close(taken)
    assert not (tmp_path / "new").exists()


def test_what_was_not_looked_at_may_change(made: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    one = made()
    one.run(lambda: lean_os.stat(path).st_ino)
    path.chmod(0o600)
    one.run(lambda: lean_os.stat(path).st_ino)
    assert one.calls == 1


def test_limits_and_capabilities_are_compared(made: Any) -> None:
    one = made()
    found = one.run(lambda: (sc.prlimit(7), sc.capget(), sc.fstatfs_type(opened("/proc"))))
    assert found == one.run(lambda: None)
    soft, hard = sc.prlimit(7)
    sc.prlimit(7, (soft - 1, hard))
    try:
        with pytest.raises(recording.Differs):
            one.run(lambda: None)
    finally:
        sc.prlimit(7, (soft, hard))


def opened(path: str) -> int:
    fd = lean_os.open(path, lean_os.O_PATH)
    return fd


def test_the_name_of_a_device_is_part_of_a_recording(made: Any) -> None:
    one = made()
    for _ in range(2):
        assert one.run(lambda: host_path("/dev/nothing", S_IFCHR, os.makedev(1, 3))) == "/dev/null"
    assert one.calls == 1


def opened_plainly(path: str) -> str:
    with open(path) as file:
        return file.read()


@pytest.mark.parametrize(
    "act",
    [
        lambda: str(lean_os.getpid()),
        lambda: lean_os.listdir("/"),
        lambda: lean_os.path.exists("/"),
        lambda: lean_os.stat("/").st_mtime,
        lambda: lean_os.fstat(0),
        lambda: lean_os.stat("/proc/self/fd/0").st_mode,
        lambda: lean_os.stat(opened("/")).st_mode,
        lambda: sc.close_range(1000, 1001),
        lambda: read(Path(os.__file__)),
        lambda: opened_plainly("/proc/self/comm"),
    ],
    ids=[
        "getpid",
        "listdir",
        "path",
        "time",
        "stream",
        "path of a stream",
        "number",
        "close_range",
        "long file",
        "plain open",
    ],
)
def test_what_cannot_be_recorded_is_left_to_python(made: Any, act: Callable[[], Any]) -> None:
    one = made()
    for _ in range(3):
        one.run(act)
    assert one.calls == 3


def test_after_an_exception_everything_is_as_before(made: Any, tmp_path: Path) -> None:
    functions = vars(lean_os).copy()
    one = made()
    with pytest.raises(FileNotFoundError):
        one.run(lambda: lean_os.open(tmp_path / "missing", lean_os.O_RDONLY))
    assert vars(lean_os) == functions
    (tmp_path / "missing").touch()
    assert one.run(lambda: read(tmp_path / "missing")) == b""
    assert one.calls == 2


def test_calls_that_failed_do_not_count_as_recordings(made: Any, tmp_path: Path) -> None:
    one = made()
    for _ in range(5):
        with pytest.raises(FileNotFoundError):
            one.run(lambda: read(tmp_path / "late"))
    (tmp_path / "late").write_bytes(b"here")
    assert [one.run(lambda: read(tmp_path / "late")) for _ in range(3)] == [b"here"] * 3
    assert one.calls == 6


def test_no_more_is_recorded_where_the_answers_always_differ(made: Any, tmp_path: Path) -> None:
    def act() -> int:
        lean_os.mkdir(tmp_path / str(len(os.listdir(tmp_path))))
        return 1

    one = made()
    differs = 0
    for _ in range(9):
        try:
            one.run(act)
        except recording.Differs:
            differs += 1
    assert differs == 3
    assert one.calls == 6
