"""Only the kernel's "there is none" counts as absence; an error that says that descriptors are short does not."""

from __future__ import annotations

import errno
import os
import pwd
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import oci.mounts
import oci.private
from oci.errors import OciError
from rootless.api.users import find_user
from rootless.errors import RootlessError
from rootless.kernel import syscalls as sc
from rootless.kernel.host import Host, read_subids
from rootless.kernel.namespaces import Namespaces
from rootless.process import program
from rootless.runtime import caches, upper
from rootless.steps.builder import RootBuilder
from rootless.steps.file_systems import _fall_back
from rootless.steps.mounts import Mount, MountOptions
from rootless.steps.places import check_place
from rootless.userns import idmap, newuidmap


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Let every open fail with EMFILE."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def refuses(call: Callable[[], object]) -> None:
    with no_descriptor_left(), pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno == errno.EMFILE


def test_a_path_of_the_container(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    root = os.open(tmp_path, os.O_PATH)
    try:
        assert [sc.find_in_root(root, path) for path in ("none", "file/x", "loop", "x" * 300)] == [-1] * 4
        os.close(sc.find_in_root(root, "file"))
        refuses(lambda: sc.find_in_root(root, "file"))
    finally:
        os.close(root)


def test_the_check_that_a_place_is_not_proc(tmp_path: Path) -> None:
    """If the error were taken for absence, an image's link would pass the check (CVE-2019-16884)."""
    (tmp_path / "proc").mkdir()
    root, proc_fd = os.open(tmp_path, os.O_PATH), os.open("/proc", os.O_PATH)
    place = os.open(tmp_path / "proc", os.O_PATH)
    builder = RootBuilder(root, proc_fd, Namespaces(), [], on_host=False)
    try:
        with pytest.raises(OSError, match="leads to /proc"):
            check_place(builder, place, "/data")
        refuses(lambda: check_place(builder, place, "/data"))
    finally:
        for fd in (root, proc_fd, place):
            os.close(fd)


def test_message_queues_of_the_containers_own() -> None:
    """If a mount is refused (by an LSM, for example), a container with queues of its own does not get the host's."""
    mount = Mount("/mounts/4", "/dev/mqueue", "mqueue", "mqueue", MountOptions())
    namespaces = Namespaces()
    namespaces.new = sc.CLONE_NEWIPC
    root = RootBuilder(-1, -1, namespaces, [], on_host=False)
    with pytest.raises(PermissionError):
        _fall_back(root, "mqueue", mount, PermissionError(errno.EPERM, "fsmount"))


def test_the_home_of_a_user() -> None:
    assert program._home_of(4_000_000_000) == "/"
    refuses(lambda: program._home_of(0))


def test_the_name_of_a_user_with_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """getpwuid(3) says "not found" for EMFILE too, and without a check the user would silently get a single id."""
    uid = os.geteuid()
    name = pwd.getpwuid(uid).pw_name

    def fails(_uid: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", fails)
    (tmp_path / "subuid").write_text(f"{name}:100000:65536\n")
    assert read_subids(str(tmp_path / "subuid"), uid) == [(100000, 65536)]
    refuses(lambda: read_subids(str(tmp_path / "subuid"), uid))
    assert read_subids(str(tmp_path / "none"), uid) == []


@pytest.mark.parametrize(("number", "falls_back"), [(errno.ENOENT, True), (errno.EMFILE, False), (errno.ENOMEM, False)])
def test_a_helper_that_cannot_run(monkeypatch: pytest.MonkeyPatch, number: int, falls_back: bool) -> None:
    """The single map is used if newuidmap is missing, and not if memory is short."""

    def fails(*_: object) -> None:
        raise RootlessError("cannot run newgidmap", "/usr/bin/newgidmap", number)

    written: list[str] = []
    monkeypatch.setattr(newuidmap, "run_helper", fails)
    monkeypatch.setattr(idmap, "_write_text", lambda _fd, name, *_rest: written.append(name))
    host = Host(uid=1000, gid=1000, is_root_here=False)
    id_map = [(0, 1000, 1), (1, 100000, 65536)]
    try:
        assert not idmap.write_maps(3, 7, id_map, id_map, host, is_default=True)
    except RootlessError as error:
        assert error.errno == number and not falls_back
    assert bool(written) == falls_back


def test_the_users_of_a_container(tmp_path: Path) -> None:
    """Without its file the group would be that of config.json, which may be root's."""
    assert find_user({"uid": 0, "gid": 0}, {"user": 1000}, str(tmp_path)).gid == 0
    refuses(lambda: find_user({"uid": 0, "gid": 0}, {"user": 1000}, str(tmp_path)))


def fail(number: int) -> Any:
    """Return a function that fails with this errno."""

    def function(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return function


def test_an_image_that_cannot_be_looked_at_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged one is removed, and containers may use it as the lower directory of their root."""
    assert not caches.is_whole(str(tmp_path))
    monkeypatch.setattr(os, "stat", fail(errno.ENOMEM))
    with pytest.raises(OSError, match="memory"):
        caches.is_whole(str(tmp_path))


def test_roots_that_cannot_be_listed_may_lie_over_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cache prune` removes what no root lies over."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert upper.lowers() == upper.abandoned() == []
    monkeypatch.setattr(oci.private, "open_private", fail(errno.EMFILE))
    for function in (upper.lowers, upper.abandoned):
        with pytest.raises(RootlessError, match="EMFILE"):
            function()


def test_mounts_that_cannot_be_read_may_be_in_a_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """`remove` removes a tree in which no process has something mounted."""
    real = os.stat

    def stat(path: Any, *args: Any, **keywords: Any) -> os.stat_result:
        if str(path).startswith("/proc/1/"):
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return real(path, *args, **keywords)

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(OciError, match="ENOMEM"):
        list(oci.mounts._other_namespaces(b"0:0"))
