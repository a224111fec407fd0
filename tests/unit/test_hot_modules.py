"""Compare the list of hot modules and the byte-code caches with what each hot command really imports.

An audit hook (sys.addaudithook) reports every import, also in init and the joiner, which are copies of the runtime.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rootless.startup import codecache, hot

CHECKOUT = Path(__file__).resolve().parents[2]
# Runs bin/rootless, and notes in a file what is imported; what the cache holds is not, as it is made without an import.
PROGRAM = """
import posix, sys
report, launcher = sys.argv[1:3]
fd = posix.open(report, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC, 0o600)
def note(event, arguments):
    if event == "import":
        try:
            posix.write(fd, (arguments[0] + "\\n").encode())
        except OSError:  # init has closed what is not the program's
            pass
with open(launcher) as file:
    code = compile(file.read(), launcher, "exec")
sys.argv = sys.argv[2:]
sys.addaudithook(note)
exec(code, {"__name__": "__main__"})
"""
IDIOMS = re.compile(r"^TYPE_CHECKING = False|^\s*from _(socket|signal|stat) import|import lean_os", re.MULTILINE)


class Commands:
    """Run the hot commands of a copy of the checkout, in which caches may be written."""

    def __init__(self, tmp_path: Path, bundle: Any) -> None:
        self.copy = tmp_path / "copy"
        for name in ("bin", "rootless", "oci"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(CHECKOUT / name, self.copy / name, ignore=ignored)
        (tmp_path / "state").mkdir(0o700)  # to make it takes os.makedirs, once
        self.report = tmp_path / "imported"
        self.errors = tmp_path / "errors"
        self.bundle = bundle
        bundle.patch({"process": {"args": ["sleep", "1000"]}})
        # In a user's session the manager would be systemd's, which imports jeepney and half of the standard library.
        self.flags = ["--root", tmp_path / "state", "--cgroup-manager", "cgroupfs"]

    def all(self) -> dict[str, set[str]]:
        """Return what each hot command imports in the life of one container, and in `run` of another one."""
        name = f"hot{os.getpid()}"
        calls: list[list[object]] = [
            ["create", "-b", self.bundle.path, name],
            ["state", name],
            ["start", name],
            ["exec", name, "true"],
            ["kill", name, "KILL"],
            ["delete", "--force", name],
            ["run", "-b", self.bundle.path, name, "--", "true"],
        ]
        return {str(call[0]): self._imports(*call) for call in calls}

    def _imports(self, *words: object) -> set[str]:
        self.report.unlink(missing_ok=True)
        command = [sys.executable, "-IS", "-c", PROGRAM, self.report, self.copy / "bin/rootless", *self.flags, *words]
        nothing = subprocess.DEVNULL
        with self.errors.open("w") as errors:  # a created container would hold a pipe open
            done = subprocess.run(
                list(map(str, command)), stdin=nothing, stdout=nothing, stderr=errors, check=False, timeout=60
            )
        assert done.returncode == 0, self.errors.read_text()
        return set(self.report.read_text().split())


@pytest.fixture
def commands(tmp_path: Path, bundle: Any) -> Commands:
    return Commands(tmp_path, bundle)


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.partition(".")[0] in ("rootless", "oci")}


def test_a_hot_command_imports_what_the_list_names(commands: Commands) -> None:
    imported = commands.all()
    making = {f"rootless.startup.{name}" for name in ("hot", "leancode", "linking", "making", "called")}  # of the cache
    for command, names in imported.items():
        assert ours(names) - making - {*hot.ON_DEMAND.get(command, ())} <= hot.ALWAYS, command
    # Without the modules that make the cache, which the first call of each needs.
    for command, names in commands.all().items():
        assert {name for name in names - ours(names)} <= hot.STANDARD_LIBRARY, command


def test_no_module_that_a_hot_command_imports_is_missing_from_its_cache(commands: Commands) -> None:
    """With a cache no module of ours is searched for, because LAZY and LATER of hot.py have those that are imported
    lazily.
    """
    assert set(hot.LAZY) == set(codecache.COMMANDS)
    commands.all()
    cached = {path.name.partition(".")[0] for path in (commands.copy / "rootless/__pycache__").glob("*.code")}
    assert cached == {*codecache.COMMANDS, "launch"}  # and bin/rootless' own
    missing = {
        command: ours(names).difference(hot.ON_DEMAND.get(command, ())) for command, names in commands.all().items()
    }
    assert missing == {command: set() for command in codecache.COMMANDS}


def test_a_lazy_module_that_the_list_forgets_is_noticed(commands: Commands) -> None:
    """This shows that the test before can fail."""
    source = commands.copy / "rootless/startup/hot.py"
    source.write_text(
        source.read_text().replace(
            '("rootless.cgroup", "rootless.cgroup.freezer", "rootless.runtime.interpreter")', "()"
        )
    )
    commands.all()
    assert "rootless.runtime.interpreter" in commands.all()["exec"]


def test_the_idioms_of_hot_code_stand_in_hot_modules_alone() -> None:
    for package in ("rootless", "oci"):
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            name = ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")
            text = path.read_text()
            if name not in hot.MODULES and not name.startswith("rootless.api"):
                assert not IDIOMS.search(text), f"{name} is not hot: write it as ordinary Python"
            elif name in hot.MODULES:
                assert not re.search(r"^from typing import|^import (os|socket|signal|stat|json|re)$", text, re.M), name


def test_every_name_of_the_list_is_a_module() -> None:
    for name in hot.MODULES | {n for names in (*hot.LAZY.values(), *hot.LATER.values()) for n in names}:
        path = CHECKOUT / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), name
