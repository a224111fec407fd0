"""lean_os gives the same results as os."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rootless
from rootless.startup import lean_os, lean_path

PATHS = st.text("ab./", max_size=12)


@given(PATHS)
def test_what_is_made_of_the_text_alone(path) -> None:
    for name in ("dirname", "basename", "normpath", "abspath"):
        assert getattr(lean_path, name)(path) == getattr(os.path, name)(path), name


@pytest.mark.parametrize("name", ["", "file", "directory", "link", "broken", "pipe", "nothing", "a\0b", "file/x"])
def test_what_is_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("directory")
    (tmp_path / "broken").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    path = f"{tmp_path}/{name}" if name else ""
    for question in ("exists", "isdir", "isfile"):
        assert getattr(lean_path, question)(path) == getattr(os.path, question)(path), question


def test_realpath(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    path = f"{tmp_path}/link/../b/."
    assert lean_path.realpath(path) == os.path.realpath(path) == f"{tmp_path}/a/b"


@given(st.binary(max_size=8))
def test_names_in_and_out(name) -> None:
    assert lean_os.fsdecode(name) == os.fsdecode(name)
    assert lean_os.fsencode(os.fsdecode(name)) == name
    assert lean_os.fsencode(Path("/a")) == b"/a"


def test_what_is_not_here_comes_from_os() -> None:
    assert lean_os.makedirs is os.makedirs
    assert lean_path.relpath is os.path.relpath
    assert lean_os.environ is os.environ
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        lean_os.nothing_of_the_kind  # noqa: B018


def test_the_environment_without_os() -> None:
    program = "import sys; sys.path.insert(0, sys.argv[1])\nfrom rootless.startup.lean_os import environ\n"
    program += "assert 'os' not in sys.modules; print(environ['NAME'].encode('utf-8', 'surrogateescape'))"
    command = [sys.executable, "-IS", "-c", program, str(Path(__file__).parents[2])]
    done = subprocess.run(command, env={b"NAME": b"a\xffb"}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == r"b'a\xffb'"


PACKAGE = Path(rootless.__file__).parent
IN_THE_CONTAINER = [
    "init/__init__", "runtime/enter", "outside/device_nodes",
    *(f"{name}/{path.stem}" for name in ("kernel", "process", "steps") for path in (PACKAGE / name).glob("*.py")),
]  # fmt: skip


@pytest.mark.parametrize("module", IN_THE_CONTAINER)
def test_nothing_of_os_is_asked_for_where_an_import_would_read_the_container(module: str) -> None:
    """lean_os itself has all that init uses. Only the runtime uses `makedirs`, for its own cache."""
    source = (PACKAGE / f"{module}.py").read_text()
    asked = set(re.findall(r"\bos\.((?:path\.)?\w+)", source)) - {"path", "makedirs"}
    for name in asked:
        place = vars(lean_path) if name.startswith("path.") else vars(lean_os)
        assert name.removeprefix("path.") in place, name
