"""A Ctrl-C while a failed command is undone waits until all is undone, so that nothing is left."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import TIMEOUT, driver

# A shell starts what runs in the background with SIGINT ignored, and that would be passed on.
INTERRUPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
interrupt = lambda: os.kill(os.getpid(), signal.SIGINT)
"""
MAIN = "\nfrom rootless.__main__ import main\nsys.exit(main())\n"
# The signal comes as the first thing of the undoing.
IN_CREATE = """
from rootless.runtime import create
undo_all = create.undo_all
def interrupted(undo, directory):
    undo.append(interrupt)
    undo_all(undo, directory)
create.undo_all = interrupted
"""
IN_START = """
from rootless.runtime import delete
remove = delete.remove
def interrupted(container, **options):
    interrupt()
    remove(container, **options)
delete.remove = interrupted
"""


def run(program: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = driver(INTERRUPT + program + MAIN, *words)
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


@pytest.mark.parametrize("command", ["run", "create"])
def test_while_create_is_undone(rootless, container, command: str) -> None:
    c = container({"process": {"args": ["nosuch"]}})
    done = run(IN_CREATE, "--root", rootless.state, command, "-b", c.bundle.path, c.id)
    assert (done.returncode, rootless.ids()) == (128 + signal.SIGINT, []), done


@pytest.mark.parametrize("flags", [(), ("--detach",)])
def test_while_a_failed_start_is_undone(rootless, container, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """The container's poststop hook runs all the same."""
    hooks = {
        "startContainer": [{"path": "/bin/false"}],
        "poststop": [{"path": "/usr/bin/touch", "args": ["touch", str(tmp_path / "after")]}],
    }
    c = container({"hooks": hooks})
    done = run(IN_START, "--root", rootless.state, "run", *flags, "-b", c.bundle.path, c.id)
    assert rootless.ids() == [] and (tmp_path / "after").exists(), done
    assert done.returncode in (1, 128 + signal.SIGINT)


def test_while_the_changes_are_saved(rootless, container) -> None:
    """The container goes, too; what it has changed is in its throw-away root."""
    program = """
import site
site.main()
from rootless.userns import job
def interrupted(*_):
    raise KeyboardInterrupt
job.run_interruptible = interrupted
from rootless.cli import save
save.check_saving = lambda *_: None
save.read_image_record = lambda _: {"uidMap": [], "gidMap": [], "owners": "squash", "family": "oci", "source": "x"}
"""
    c = container({"process": {"args": ["true"]}})
    words = ("run", "--ephemeral", "--save-changes", c.bundle.path / "new.tar", "-b", c.bundle.path, c.id)
    done = run(program, "--root", rootless.state, *words)
    assert (done.returncode, rootless.ids()) == (128 + signal.SIGINT, []), done
