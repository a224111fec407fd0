"""The byte-code cache of the hot commands changes nothing but the time."""

import dis
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rootless.kernel import syscalls
from rootless.startup import codecache, hot
from rootless.startup.leancode import Store, compile_lean
from rootless.startup.linking import Linker
from tests.support.code_cache import read_cache, write_cache

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a checkout that may be written."""
    for name in ("bin", "rootless", "oci"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def state(copy: Path, *flags: str) -> str:
    """Return what `state` prints for a container that does not exist."""
    launcher = os.path.relpath(copy / "bin/rootless")  # found by whatever path
    command = [sys.executable, "-IS", *flags, launcher, "--root", str(copy / "state"), "state", "nope"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr


def caches(copy: Path) -> list[Path]:
    return sorted((copy / "rootless/__pycache__").glob("state.*.code"))


def is_used(copy: Path) -> bool:
    """Return whether `state` imports none of our modules in the usual way."""
    lines = state(copy, "-X", "importtime").splitlines()
    imported = [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")]
    return not [name for name in imported if name.startswith("rootless")]


def test_the_second_call_takes_what_the_first_left(copy) -> None:
    first = state(copy)
    (cache,) = caches(copy)
    kept = cache.stat()
    assert state(copy) == first and "does not exist" in first
    assert (cache.stat().st_ino, cache.stat().st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns)
    assert is_used(copy)


def test_one_process_at_a_time_makes_a_cache(copy) -> None:
    """Many that begin without one would only make the same cache."""
    folder = copy / "rootless/__pycache__"
    folder.mkdir()
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert "does not exist" in state(copy) and not caches(copy)
    os.close(other)
    assert "does not exist" in state(copy) and len(caches(copy)) == 1


def test_run_takes_what_comes_later_too(copy, bundle) -> None:
    """The later modules are loaded while the container is set up. If a source has changed, that one is used."""
    bundle.patch({"process": {"args": ["true"]}})
    command = [sys.executable, "-IS", "-X", "importtime", str(copy / "bin/rootless"), "--root", str(copy / "state")]
    command += ["run", "-b", str(bundle.path), f"later{os.getpid()}"]

    def imported() -> list[str]:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        names = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
        return [name for name in names if name.startswith("rootless") and name not in hot.ON_DEMAND["run"]]

    assert "rootless.runtime.foreground" in imported()
    assert imported() == []
    for name in ("runtime.foreground", "steps.mounts"):
        (copy / f"rootless/{name.replace('.', '/')}.py").touch()
        assert f"rootless.{name}" in imported()
        assert imported() == []


def test_a_changed_source_counts_at_once(copy) -> None:
    state(copy)
    source = copy / "rootless/errors.py"
    source.write_text(source.read_text().replace("does not exist", "is nowhere"))
    assert "is nowhere" in state(copy)
    assert "is nowhere" in state(copy)


def test_a_copy_is_not_taken_for_the_original(copy, tmp_path_factory) -> None:
    """A cache that was made by a relative path holds no path of the directory in which it was made."""
    state(copy)
    moved = tmp_path_factory.mktemp("moved")
    for name in ("bin", "rootless", "oci"):
        shutil.copytree(copy / name, moved / name)  # times and caches too
    source = moved / "rootless/errors.py"
    source.write_text(source.read_text().replace("does not exist", "is nowhere"))
    assert "is nowhere" in state(moved)
    assert "does not exist" in state(copy)


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_cache_is_made_anew(copy, damage) -> None:
    first = state(copy)
    (cache,) = caches(copy)
    whole = cache.read_bytes()
    cache.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert state(copy) == first
    assert cache.read_bytes() == whole


def test_a_cache_of_another_build_of_this_version_is_made_anew(copy) -> None:
    """Builds of one version have different modules built in, and the cache names those that need no file."""
    first = state(copy)
    (cache,) = caches(copy)
    (magic, *parts), rest = read_cache(cache)
    assert magic == codecache.MAGIC and sys.version.encode() in magic
    write_cache(cache, [magic[:-1] + b"?", *parts], rest)
    assert state(copy) == first
    assert read_cache(cache)[0][0] == codecache.MAGIC


def test_where_none_may_be_written_none_is(copy) -> None:
    first = state(copy, "-B")
    assert not caches(copy)
    assert state(copy) == first


@pytest.fixture
def closed(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout where nobody can keep byte code, root included, and a user with a directory for caches."""
    (copy / "rootless/__pycache__").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(copy / "cache"))
    return copy


def users_caches(copy: Path) -> list[Path]:
    return sorted((copy / "cache").glob("rootless/code/*"))


def test_a_user_who_may_not_write_beside_the_sources_has_a_folder(closed: Path) -> None:
    first = state(closed)
    (cache,) = users_caches(closed)
    assert state(closed) == first and "does not exist" in first
    assert users_caches(closed) == [cache] and is_used(closed)
    assert [cache.parent.stat().st_mode & 0o777, cache.parent.parent.stat().st_mode & 0o777] == [0o700, 0o700]
    (closed / "rootless/errors.py").touch()
    assert not is_used(closed) and is_used(closed)  # made anew


def test_the_folder_is_in_the_users_home(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(closed / "home"))
    state(closed)
    assert not (closed / "home").exists()  # only its owner makes it
    (closed / "home").mkdir()
    state(closed)
    assert is_used(closed) and list((closed / "home/.cache/rootless/code").iterdir())


def plant(cache: Path, marker: Path) -> None:
    """Exchange the first module's code for some that leaves a file."""
    parts, rest = read_cache(cache)
    entries = parts[2]
    number = next(number for number, entry in enumerate(entries) if entry[3])
    planted = compile(f"open({str(marker)!r}, 'w')", "planted", "exec")
    entries[number] = (*entries[number][:3], planted, *entries[number][4:])
    write_cache(cache, parts, rest)


@pytest.mark.parametrize("how", ["the folder is open", "the file is open", "a link to a folder", "a link to a file"])
def test_code_that_others_may_have_planted_is_not_run(closed: Path, how: str) -> None:
    first = state(closed)
    (cache,) = users_caches(closed)
    folder = cache.parent
    plant(cache, closed / "marker")
    if how == "the folder is open":
        folder.chmod(0o777)
    elif how == "the file is open":
        cache.chmod(0o666)
    else:
        link = folder if "folder" in how else cache
        link.rename(closed / "elsewhere")
        link.symlink_to(closed / "elsewhere")
    assert state(closed) == first
    assert not (closed / "marker").exists()


@pytest.mark.parametrize("whose", ["directory above", "folder", "file"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_users_code_is_not_run(closed: Path, whose: str) -> None:
    """sudo may leave HOME as it was, and root neither runs code from there nor writes there."""
    first = state(closed)
    (cache,) = users_caches(closed)
    plant(cache, closed / "marker")
    os.chown({"directory above": closed / "cache", "folder": cache.parent, "file": cache}[whose], 12345, 12345)
    before = cache.stat()
    assert state(closed) == first
    assert not (closed / "marker").exists()
    if whose != "file":  # root replaces a file in its own folder
        assert cache.stat() == before and users_caches(closed) == [cache]


@pytest.mark.parametrize("how", ["mapped", "read"])
def test_what_is_not_read_at_the_start_outlives_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Init can read it when it has another root and has closed its files.

    A command without ctypes has read it before.
    """
    if how == "read":
        monkeypatch.delitem(sys.modules, syscalls.__name__)
    file = tmp_path / "file"
    file.write_bytes(b"first part" + bytes(range(256)) * 40)
    fd = os.open(file, os.O_RDONLY)
    read = codecache._held(fd, len("first part"), file.stat().st_size)
    os.close(fd)
    file.unlink()
    assert [read(0, 3), read(256, 2), read(10239, 1)] == [b"\0\1\2", b"\0\1", b"\xff"]
    assert read(0, 10240) == bytes(range(256)) * 40


def test_a_file_that_cannot_be_mapped_is_an_error(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="mmap: No such device"):
        syscalls.map_file(fd, 10)
    os.close(fd)


SOURCE = b'''
from __future__ import annotations
"""A docstring."""
TYPE_CHECKING = False
if TYPE_CHECKING:
    import nothing
else:
    answer: int = 42
unset: int

class Thing:
    """One more."""
    size: int
    kind: str = "k"

    def method(self: Thing, *many: int, key: str = "x", **more: int) -> str:
        """And one."""
        inner: int = len(many)
        return f"{key}{inner}{sorted(more)}"
'''


def test_lean_code_does_the_same() -> None:
    found: dict[str, Any] = {}
    exec(compile_lean(SOURCE, "source.py"), found)
    thing = found["Thing"]()
    assert (found["answer"], thing.kind, thing.method(1, 2, key="y", z=3)) == (42, "k", "y2['z']")
    assert "unset" not in found and found["Thing"].__doc__ is None
    assert not found["Thing"].method.__annotations__ and not found["Thing"].method.__code__.co_linetable


FUNCTIONS = b"""
def hot(x):
    return x + 1

def cold(a, /, b, c=3, *rest, d, e=5, **more):
    "Is long enough to be stored apart: a stand-in for a short function would not be shorter."
    words = [f"{name}: {value}" for name, value in sorted(more.items())]
    return [a, b, c, rest, d, e, words, hot(a), "a constant that makes the code longer than its stand-in"]

def generator(count):
    for number in range(count):
        yield number, "another constant that makes the code longer than its stand-in would be", hot(number)

def outer(x):
    text = "one more constant that makes the code of this function longer than its stand-in would be, " * 2
    def inner(y):
        return x + y, text
    return inner

class Base:
    def __init__(self, value):
        self.value = value

class Thing(Base):
    def __init__(self, value):
        super().__init__(value)
        self.text = "yet another constant that makes the code of this method longer than its stand-in would be"

    def __secret(self, *, __key=1):
        return self.value, __key, "yet another constant that makes the code of this method longer than its stand-in"

    def tell(self):
        return self.__secret()

    @property
    def double(self):
        return self.value * 2, "yet another constant that makes the code of this property longer than its stand-in is"
"""


def test_a_function_that_is_stored_apart_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds for all kinds of parameters, defaults, generators, closures, methods, properties and private names."""
    whole: dict[str, Any] = {"__name__": "whole"}
    thin: dict[str, Any] = {"__name__": "thin"}
    code = compile_lean(FUNCTIONS, "functions.py")
    exec(code, whole)
    store = Store()
    exec(store.thin(code, ["hot"]), thin)
    monkeypatch.setattr(codecache, "_rest", lambda begin, size: bytes(store.data[begin : begin + size]), raising=False)
    monkeypatch.setattr(codecache, "_functions", {})
    sizes = {name: len(thin[name].__code__.co_code) < len(whole[name].__code__.co_code) for name in ("hot", "cold")}
    assert sizes == {"hot": False, "cold": True}
    for _ in range(2):  # the first call loads it
        for found in (whole, thin):
            found["said"] = [
                found["cold"](1, 2, d=4),
                found["cold"](1, b=2, c=7, d=4, e=8, z=1, y=2),
                found["cold"](1, 2, 3, 4, 5, d=6),
                list(found["generator"](3)),
                found["outer"](1)(2),
                found["Thing"](5).tell(),
                found["Thing"](5).double,
            ]
            with pytest.raises(TypeError, match="d"):
                found["cold"](1, 2)
        assert thin["said"] == whole["said"]
    assert codecache._functions


IMPORTS = b"""
import errno
import errno as numbers
import os.path
import not_in_the_cache
from posix import O_RDONLY, open
from posix import close as closed
from rootless.startup import codecache
from rootless import startup
from struct import *

def number():
    from errno import EPERM
    return EPERM
"""


def test_the_imports_at_the_top_become_links() -> None:
    """Only imports of modules that the cache loads before become links, because another module may import this one
    first.
    """
    loaded = ("errno", "posix", "struct", "os", "os.path", "rootless", "rootless.startup")
    code, links, late = Linker(loaded).compile("imports", IMPORTS, "imports.py")
    modules = ("errno", "errno", "numbers", "errno", "startup", "rootless.startup")
    assert links == (modules, (("posix", "O_RDONLY", "open"),))
    left = [instruction.argval for instruction in dis.get_instructions(code) if instruction.opname == "IMPORT_NAME"]
    assert left == ["os.path", "not_in_the_cache", "posix", "rootless.startup", "struct"] and not late


def test_no_hot_command_imports_at_the_top_what_its_cache_has(copy: Path) -> None:
    state(copy)
    entries = read_cache(caches(copy)[0])[0][2]
    known = {name for name, *_ in entries} | {"posix", "sys", codecache.__name__}
    for name, _, _, code, (modules, taken), _ in entries:
        assert {*modules[1::2], *(source for source, *_ in taken)} <= known, name
        for instruction in dis.get_instructions(code or (lambda: None)):
            if instruction.opname == "IMPORT_NAME" and instruction.argval not in ("posix", "_struct"):  # import *
                assert instruction.argval not in known, name


FIRST = b"""
class Failed(Exception):
    def __init__(self, text, number=5):
        super().__init__(text)
        self.number = number

class Late(Failed):
    "Is based on a late class, and names itself and its module's late function."
    kind = "late"
    def told(self):
        return Late.kind, isinstance(self, Late), helper(self.number)

class Base:
    pass

class Called(Base):
    def method(self):
        try:
            raise Late("text", number=7)
        except Failed as error:
            return error.told()

class Decorated:
    @staticmethod
    def answer():
        return 42

def in_table(x):
    return x * 3

def helper(x, more=(1, 2)):
    return [x, *more]

def called(x):
    return helper(x), TABLE["in"](x)

TABLE = {"in": in_table}
SHORT = [1, 2]
LONG = [%s]
READ = [%s]

def reads():
    return LONG, SHORT

def reads_too():
    return READ
""" % (b"1, " * 200, b"2, " * 200)
SECOND = b"""
from first import Called, Failed, Late as Renamed, helper

class Own(Renamed):
    pass

def shadows(helper):
    return helper

def called(x):
    own = Own("own", number=x)
    said = own.told(), helper(x), isinstance(own, Failed), Renamed.kind, shadows(3), Called().method()
    return *said, type(own).__mro__[1]
"""


def test_what_is_made_late_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes, their bases and functions are found by their module, by another one of the cache, and by one outside."""
    called = ["called", "reads_too", "Called.method"]
    names = ("first", "second")
    whole: dict[str, Any] = {}
    for name, source in zip(names, (FIRST, SECOND), strict=True):
        module = whole[name] = type(sys)(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile_lean(source, name), module.__dict__)
    linker, store, entries = Linker(()), Store(), []
    for name, source in zip(names, (FIRST, SECOND), strict=True):
        monkeypatch.delitem(sys.modules, name)
        code, links, late = linker.compile(name, source, name, called)
        places = {each: store.add(store.thin(part, called)) for each, part in late.items()}
        entries.append((name, f"/{name}.py", False, store.thin(code, called), links, places))
    late = [sorted(entry[5]) for entry in entries]
    assert late == [["Decorated", "Failed", "LONG", "Late", "helper", "reads"], ["Own", "shadows"]]
    monkeypatch.setattr(codecache, "_rest", lambda begin, size: bytes(store.data[begin : begin + size]), raising=False)
    monkeypatch.setattr(codecache, "_functions", {})
    for name in names:
        monkeypatch.setitem(sys.modules, name, sys)  # so that what is loaded in its place is taken back
    codecache._import(entries)
    first, second = (sys.modules[name] for name in names)
    assert not {"Failed", "Late", "Decorated"} & vars(first).keys() and "Own" not in vars(second)
    assert vars(second)["helper"] is first.helper  # because a parameter has its name
    for _ in range(2):
        ours, theirs = second.called(4), whole["second"].called(4)
        assert ours[:-1] == theirs[:-1] and ours[-1] is first.Late and theirs[-1] is whole["first"].Late
        assert first.called(5) == whole["first"].called(5)
    assert vars(first)["Late"].__mro__[1] is first.Failed and first.Failed.__module__ == "first"
    assert "LONG" not in vars(first) and first.reads() == whole["first"].reads() and first.reads_too() == [2] * 200
    assert first.LONG is first.reads()[0]
    namespace: dict[str, Any] = {}
    exec("from first import Decorated", namespace)
    assert namespace["Decorated"].answer() == 42
    with pytest.raises(AttributeError, match="module 'first' has no attribute 'missing'"):
        _ = first.missing
    with pytest.raises(ImportError, match="cannot import name 'missing' from 'first'"):
        exec("from first import missing", {})
