"""Functions of which there were several copies give the one right answer on which the copies disagreed."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rootless.kernel import files, mountinfo, sockets
from rootless.kernel.find_program import find_program, search
from rootless.kernel.host import Host
from rootless.userns import hints

CHECKOUT = Path(__file__).resolve().parents[2]
BLANK = rb"30 21 0:33 / /mnt/my\040own\011file\134system rw shared:1 - TYPE none rw,nsdelegate" + b"\n"
NAME = b"/mnt/my own\tfile\\system"


# --- mountinfo


def test_a_blank_in_a_mount_point_is_undone(tmp_path: Path) -> None:
    text = BLANK.replace(b"TYPE", b"resctrl") + b"31 21 0:34 / /other rw - cgroup2 cgroup2 rw\n"
    (tmp_path / "mountinfo").write_bytes(text)
    (mount,) = mountinfo.find(b"resctrl", str(tmp_path / "mountinfo"))
    assert (mount.path, mount.options) == (NAME, [b"rw", b"nsdelegate"])


def test_resctrl_is_found_under_a_path_with_a_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    (mount,) = mountinfo.parse(BLANK.replace(b"TYPE", b"resctrl"))
    monkeypatch.setattr(mountinfo, "find", lambda fstype: [mount] if fstype == b"resctrl" else [])
    assert Host().resctrl == NAME.decode()


def test_cgroup2_is_found_under_a_path_with_a_blank(tmp_path: Path) -> None:
    """The mount namespace has no cgroup2 at the usual places."""
    place = tmp_path / "my own\tcgroups"
    place.mkdir()
    look = "from rootless.kernel import cgroup_view; print(cgroup_view.read().mount)"
    script = 'mount -t tmpfs none /sys/fs/cgroup && mount -t cgroup2 none "$1" && exec "$2" -c "$3"'
    command = ["unshare", "-UrmC", "sh", "-ec", script, "sh", str(place), sys.executable, look]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert (done.stdout, done.stderr) == (f"{place}\n", "")


# --- sockets


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory whose path alone is longer than sun_path."""
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


def test_connect_takes_a_path_of_any_length_and_an_abstract_address(deep: Path) -> None:
    name = f"rootless-test-{os.getpid()}"
    for bound, path in (("s", f"{deep}/s"), ("t", "t"), ("\0" + name, f"@{name}")):
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(bound)
            server.listen()
            sockets.connect(client, path)


def test_a_path_is_measured_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "é" * 60  # 120 bytes
    Path(name).mkdir()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        monkeypatch.chdir(name)
        server.bind("s")
        server.listen()
        monkeypatch.chdir(tmp_path)
        sockets.connect(client, f"{name}/s")


def test_fds_arrive_close_on_exec() -> None:
    ours, theirs = sockets.pair()
    with open("/dev/null") as file, open("/dev/zero") as other:
        assert sockets.send_fds(ours, b"two", (file.fileno(), other.fileno())) == 3
        data, fds = sockets.receive_fds(theirs, 100)
    try:
        assert data == b"two" and [os.readlink(f"/proc/self/fd/{fd}") for fd in fds] == ["/dev/null", "/dev/zero"]
        assert not any(map(os.get_inheritable, fds))
    finally:
        for fd in fds:
            os.close(fd)
        ours.close()
        theirs.close()


# --- PATH


def test_a_directory_and_a_plain_file_are_not_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("directory/tool", "plain", "real"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "plain/tool").touch(0o644)
    (tmp_path / "real/tool").touch(0o755)
    path = ":".join(f"{tmp_path}/{place}" for place in ("nowhere", "directory", "plain", "real"))
    passed = [f"{tmp_path}/directory/tool", f"{tmp_path}/plain/tool"]
    assert search("tool", path) == (f"{tmp_path}/real/tool", [], passed)
    monkeypatch.setenv("PATH", path)
    assert find_program("tool") == f"{tmp_path}/real/tool"


def test_a_helper_is_not_taken_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tool").touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ":")
    assert find_program("tool") == ""
    assert search("tool", "")[0] == "./tool"  # a program of the container is: execvp(3)


def test_a_helper_is_found_without_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH", raising=False)
    assert find_program("sh") in ("/usr/bin/sh", "/bin/sh")


# --- hints


SYSCTLS = (
    "kernel.unprivileged_userns_clone",
    "user.max_user_namespaces",
    "kernel.apparmor_restrict_unprivileged_userns",
)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_a_refused_user_namespace_names_all_sysctls(tmp_path: Path, number: int) -> None:
    hint = hints.explain_refusal(number, str(tmp_path))
    assert all(name in hint for name in SYSCTLS)


@pytest.mark.parametrize(("name", "value"), list(zip(SYSCTLS, ("0\n", "0\n", "1\n"), strict=True)))
def test_the_sysctl_that_forbids_is_named_alone(tmp_path: Path, name: str, value: str) -> None:
    for each in SYSCTLS:
        file = tmp_path / each.replace(".", "/")
        file.parent.mkdir(exist_ok=True)
        file.write_text(value if each == name else "0\n" if "apparmor" in each else "9\n")
    hint = hints.explain_refusal(errno.EPERM, str(tmp_path))
    assert [each for each in SYSCTLS if each in hint] == [name]
    assert hints.is_restricted_by_apparmor(str(tmp_path)) == ("apparmor" in name)


def test_other_errors_of_clone_have_their_own_hints() -> None:
    assert "user.max_user_namespaces" in hints.explain_refusal(errno.ENOSPC)
    assert "5.12" in hints.explain_refusal(errno.ENOSYS) and hints.explain_refusal(errno.EIO) == ""


# --- files


def test_a_value_that_is_taken_in_part_is_no_success(tmp_path: Path) -> None:
    """write_at writes one value or fails; write_all continues until all is written."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with pytest.raises(OSError) as error:
            files.write_at_once(writer, b"x" * (1 << 20))  # a pipe holds 64 KiB
        assert error.value.errno == errno.EIO
    finally:
        os.close(reader)
        os.close(writer)


def test_files_below_a_directory(tmp_path: Path) -> None:
    (tmp_path / "value").write_text("old and long")
    directory = os.open(tmp_path, files.READ_DIRECTORY)
    try:
        files.write_at(directory, "value", b"new")
        assert (tmp_path / "value").read_bytes() == b"new and long"  # as a file of /proc, it is not truncated
        with pytest.raises(FileNotFoundError):
            files.write_at(directory, "missing", b"new")
    finally:
        os.close(directory)


@pytest.mark.parametrize("flags", [files.READ_DIRECTORY, files.PATH_DIRECTORY])
def test_a_directory_is_not_opened_through_a_link(tmp_path: Path, flags: int) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").touch()
    os.close(os.open(tmp_path / "real", flags))
    for name in ("link", "file"):
        with pytest.raises(OSError):
            os.open(tmp_path / name, flags)
