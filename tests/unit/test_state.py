"""The state directory: ids, one writer at a time, files replaced in one step."""

import errno
import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import NoSuchContainer, RootlessError
from rootless.runtime.state import StateDir, check_id, default_root, ids


@pytest.mark.parametrize("name", ["a", "A-b_c.d+e", "0", "x" * 255, "a..b"])
def test_ids_that_are_taken(name: str) -> None:
    assert check_id(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "a/b", "/", "a b", "a\n", "é", "a\0", "x" * 256, "a:b", "\udcff"]
)
def test_ids_that_are_not(name: str) -> None:
    with pytest.raises(RootlessError) as caught:
        check_id(name)
    assert caught.value.message().isprintable()


@given(st.text(max_size=12))
def test_an_id_is_one_plain_file_name(name: str) -> None:
    try:
        check_id(name)
    except RootlessError:
        return
    assert name.isascii() and "/" not in name and name not in ("", ".", "..")


def test_make_read_write_remove(tmp_path: Path) -> None:
    root = str(tmp_path / "a/state")
    directory = StateDir.make(root, "c")
    assert os.stat(root).st_mode & 0o7777 == 0o1700
    directory.write("state.json", b'{"a": 1}')
    directory.write("state.json", b'{"a": 2}')
    assert directory.read("state.json") == {"a": 2}
    assert directory.read("nothing") is None
    assert os.listdir(f"{root}/c") == ["state.json"]
    assert ids(root) == ["c"]
    directory.remove()
    directory.close()
    directory.close()
    assert ids(root) == []


def test_large_files_are_written_whole(tmp_path: Path) -> None:
    directory = StateDir.make(str(tmp_path / "s"), "c")
    directory.write("config.json", b'{"key": "' + b"x" * 300000 + b'"}')
    assert directory.read("config.json") == {"key": "x" * 300000}
    directory.close()


def test_a_file_that_is_cut_short_is_no_success(tmp_path: Path) -> None:
    """Under RLIMIT_FSIZE write(2) takes a part, and Python ignores the signal that comes with the next call."""
    directory = StateDir.make(str(tmp_path / "s"), "c")
    directory.write("config.json", b"{}")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(OSError, match=r"config.json") as caught:
            directory.write("config.json", b" " * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert directory.read("config.json") == {}
    directory.close()


def test_an_id_in_use(tmp_path: Path) -> None:
    StateDir.make(str(tmp_path / "s"), "c").close()
    with pytest.raises(RootlessError, match="already exists"):
        StateDir.make(str(tmp_path / "s"), "c")


def test_an_id_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoSuchContainer):
        StateDir.open(str(tmp_path), "c")
    assert ids(str(tmp_path / "nowhere")) == []


def test_a_link_is_no_state_directory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "c").symlink_to("real")
    with pytest.raises(RootlessError):
        StateDir.open(str(tmp_path), "c")


def test_a_linked_file_is_not_followed(tmp_path: Path) -> None:
    """No file in a state directory makes the runtime read or write elsewhere."""
    directory = StateDir.make(str(tmp_path / "s"), "c")
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "s/c/.state.json.new").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=r"."):
        directory.write("state.json", b"{}")
    assert (tmp_path / "victim").read_text() == "kept"
    directory.close()


@pytest.mark.parametrize("text", ["", "{", "[1", '{"a"', "\0", "[]", "null", "7"])
def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path, text: str) -> None:
    directory = StateDir.make(str(tmp_path / "s"), "c")
    directory.write("state.json", text.encode())
    with pytest.raises(RootlessError, match="damaged") as caught:
        directory.read("state.json")
    assert "delete --force c" in caught.value.hint
    directory.close()


def test_a_command_that_notes_itself_while_the_directory_is_removed_keeps_nothing(tmp_path: Path) -> None:
    """The command makes its note before it has the lock, when the one that removes the directory may have listed it
    already.
    """
    directory = StateDir.make(str(tmp_path / "s"), "c")
    empty, late = directory._empty, ["1 2", "3 4"]

    def empty_too_early() -> None:
        empty()
        if late:
            (tmp_path / "s/c/.lock.7").symlink_to(late.pop())

    directory._empty = empty_too_early  # type: ignore[method-assign]
    directory.remove()
    directory.close()
    assert os.listdir(tmp_path / "s") == []
    assert not late


def test_the_own_note_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the note no command could end one that stops while it removes the directory."""
    directory = StateDir.make(str(tmp_path / "s"), "c", (os.getpid(), 1))
    directory.write("state.json", b"{}")
    gone: list[str] = []
    unlink = directory.unlink
    monkeypatch.setattr(directory, "unlink", lambda name: (gone.append(name), unlink(name)))
    directory.remove()
    directory.close()
    assert sorted(gone[:-1]) == ["state.json"] and gone[-1] == f".lock.{os.getpid()}"


def test_a_directory_that_stays_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = StateDir.make(str(tmp_path / "s"), "c")
    monkeypatch.setattr(directory, "_empty", (tmp_path / "s/c/late").touch)
    with pytest.raises(RootlessError, match=r"ENOTEMPTY .*; hint: rootless delete --force c$"):
        directory.remove()
    monkeypatch.undo()
    directory.remove()
    directory.close()
    assert os.listdir(tmp_path / "s") == []


def test_a_close_that_fails_leaves_no_command_undone(tmp_path: Path) -> None:
    """close(2) may report an earlier write, as on NFS; the descriptor is closed all the same."""
    directory = StateDir.make(str(tmp_path / "s"), "c")
    for fd in (directory.fd, directory.root_fd):
        os.close(fd)
    directory.close_copy()
    assert (directory.fd, directory.root_fd) == (-1, -1)


def test_default_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = os.geteuid()
    monkeypatch.delenv("ROOTLESS_ROOT", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_root(0, False) == "/run/rootless"
    assert default_root(uid or 1, True) == (f"{tmp_path}/rootless" if uid else "/tmp/rootless-1")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert default_root(5, False) == "/tmp/rootless-5"
    monkeypatch.setenv("ROOTLESS_ROOT", "/elsewhere")
    assert default_root(5, False) == "/elsewhere"
