"""Places for mounts, when another container with the same rootfs makes the same place at the same moment."""

import os
import stat

import pytest

from rootless.steps import places


@pytest.fixture
def root_fd(tmp_path):
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def test_a_directory_that_was_made_meanwhile_is_the_place(root_fd, tmp_path, monkeypatch) -> None:
    mkdir = places.os.mkdir

    def make_first(name, mode, *, dir_fd):
        mkdir(name, mode, dir_fd=dir_fd)
        mkdir(name, mode, dir_fd=dir_fd)

    monkeypatch.setattr(places.os, "mkdir", make_first)
    fd = places.make_directory(root_fd, "/a/b")
    assert os.path.samestat(os.fstat(fd), (tmp_path / "a/b").stat())
    os.close(fd)


def test_a_file_that_was_made_meanwhile_is_the_place(root_fd, tmp_path, monkeypatch) -> None:
    find, asked = places.sc.open_in_root, []

    def make_after_the_look(fd, path, *flags, **mode):
        try:
            return find(fd, path, *flags, **mode)
        finally:
            asked.append(path)
            (tmp_path / "file").touch()

    monkeypatch.setattr(places.sc, "open_in_root", make_after_the_look)
    fd = places.make_file(root_fd, "/file")
    assert stat.S_ISREG(os.fstat(fd).st_mode) and os.path.samestat(os.fstat(fd), (tmp_path / "file").stat())
    assert len(asked) > 2, "the file was there at the first look"
    os.close(fd)


def test_a_dangling_link_is_followed_inside(root_fd, tmp_path) -> None:
    (tmp_path / "link").symlink_to("/there/it/is")
    os.close(places.make_directory(root_fd, "/link"))
    assert (tmp_path / "there/it/is").is_dir()


def test_links_that_lead_to_each_other_end(root_fd, tmp_path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(OSError, match="symbolic links"):
        places.make_directory(root_fd, "/one")
