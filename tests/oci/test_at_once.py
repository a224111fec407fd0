"""Several commands write to one name at once: one of them gets it, and what it made is not replaced."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from oci import ConvertRequest, OciError, Owners, build, choose, open_archive, read_images
from oci.pack import PackRequest, pack
from tests.support import archives as a


def convert(
    directory: Path, name: str, *, force: bool = False, finishing: Callable[[], None] = lambda: None, target: str = "b"
) -> None:
    """Make a bundle whose root file system has one file of this name."""
    path = directory / f"{name}.tar"
    path.write_bytes(a.docker_archive([a.file(name) + a.END]))
    ids = [(0, os.geteuid(), 1)]
    with open_archive(str(path)) as archive:
        image = choose(read_images(archive))
        owners, where = Owners("squash"), str(directory / target)
        build(ConvertRequest(image, where, owners, ids, ids, source=str(path), force=force, finishing=finishing))


def left(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if not name.endswith(".tar"))


def test_bundle_that_came_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(OciError, match="the bundle exists already"):
        convert(tmp_path, "late", finishing=lambda: convert(tmp_path, "early"))
    assert os.listdir(tmp_path / "b/rootfs") == ["early"]
    assert left(tmp_path) == ["b"]


def test_bundle_of_another_users_that_came_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a directory like /tmp rename(2) refuses to replace it before it looks whether it is empty."""
    rename = os.rename

    def sticky(source: str, target: str) -> None:
        if os.path.lexists(target):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), source, None, target)
        rename(source, target)

    monkeypatch.setattr(os, "rename", sticky)
    with pytest.raises(OciError, match="the bundle exists already"):
        convert(tmp_path, "late", finishing=lambda: convert(tmp_path, "early"))
    assert os.listdir(tmp_path / "b/rootfs") == ["early"]
    assert left(tmp_path) == ["b"]


@pytest.mark.skipif(not os.geteuid(), reason="root may read everything")
def test_what_nobody_may_look_at_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir(mode=0)
    with pytest.raises(OciError, match=r"the bundle that is there cannot be replaced: .*EACCES.*--output"):
        convert(tmp_path, "f", force=True)
    assert left(tmp_path) == ["b"]


def test_file_that_came_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(OciError, match="there is a file"):
        convert(tmp_path, "late", finishing=lambda: (tmp_path / "b").write_text("mine"))
    assert (tmp_path / "b").read_text() == "mine" and left(tmp_path) == ["b"]


def test_forced_conversion_replaces_a_bundle_that_comes_at_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another command takes the name after the old bundle was moved away from it."""
    convert(tmp_path, "old")
    rename, others = os.rename, ["second", "first"]

    def renames(source: str, target: str, **rest: int) -> None:
        rename(source, target, **rest)
        if target.endswith(".old") and others:
            convert(tmp_path, others.pop(), target="other")
            rename(tmp_path / "other", tmp_path / "b")

    monkeypatch.setattr(os, "rename", renames)
    convert(tmp_path, "last", force=True)
    assert os.listdir(tmp_path / "b/rootfs") == ["last"]
    assert not others and left(tmp_path) == ["b"]


@pytest.mark.parametrize("links", [True, False])
def test_archive_that_came_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def refused(*_args: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    convert(tmp_path, "f")
    if not links:
        monkeypatch.setattr(os, "link", refused)
    out = tmp_path / "out"
    request = PackRequest(str(tmp_path / "b"), str(out), Owners("squash"), finishing=lambda: out.write_text("x"))
    with pytest.raises(OciError, match="the output exists already"):
        pack(request)
    assert out.read_text() == "x" and left(tmp_path) == ["b", "out"]
    out.unlink()
    request.finishing = lambda: None
    pack(request)
    assert out.stat().st_size > 1000 and out.stat().st_nlink == 1 and left(tmp_path) == ["b", "out"]
