"""`speedup` changes the first line of an installed script, and of nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rootless.cli import first_line
from rootless.errors import RootlessError

CHECKOUT = Path(__file__).resolve().parents[2]
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
INTERPRETER = os.path.realpath(sys.executable)
TEXT = (CHECKOUT / "bin/rootless").read_bytes()
BELOW = TEXT.partition(b"\n")[2]


def install(top: Path, *, beside: bool = True) -> Path:
    """Lay the program out as pip does in an environment, or, without an interpreter beside it, as `pip --user`."""
    (top / "bin").mkdir(parents=True)
    place = top / "lib" / VERSION / "site-packages/rootless"
    shutil.copytree(CHECKOUT / "rootless", place, ignore=shutil.ignore_patterns("__pycache__"))
    if beside:
        (top / "bin/python3").symlink_to(INTERPRETER)
    script = top / "bin/rootless"
    script.write_bytes(TEXT)
    script.chmod(0o750)
    return script


def call(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in words]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def done(*words: object, **environment: str) -> str:
    """What it prints: one line."""
    said = call(*words, **environment)
    assert said.returncode == 0 and said.stdout.count("\n") == 1 and not said.stderr, said
    return said.stdout


def refused(script: object, *words: object) -> str:
    said = call(script, "speedup", *words)
    assert said.returncode == 1 and said.stderr.count("\n") == 1 and not said.stdout, said
    return said.stderr


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return install(tmp_path / "venv")


def test_there_and_back(script: Path) -> None:
    before = script.stat()
    line = f"#!{script.parent}/python3 -IS"
    assert "would change" in done(script, "speedup", "--dry-run") and script.read_bytes() == TEXT
    assert f"changed the first line of {script} from #!/bin/sh to {line}; rootless" in done(script, "speedup")
    assert script.read_bytes() == line.encode() + b"\n" + BELOW
    assert script.stat().st_mode == before.st_mode and script.stat().st_uid == before.st_uid
    assert "already" in done(script, "speedup") and "already" in done(script, "speedup", "--dry-run")
    assert "does not exist" in call(script, "--root", script.parent / "state", "state", "nope").stderr
    assert "would change" in done(script, "speedup", "--undo", "--dry-run")
    assert "to #!/bin/sh\n" in done(script, "speedup", "--undo")
    assert script.read_bytes() == TEXT
    assert "already" in done(script, "speedup", "--undo")
    assert sorted(os.listdir(script.parent)) == ["python3", "rootless"]


def test_by_pipx_link(script: Path, tmp_path: Path) -> None:
    link = tmp_path / "home/rootless"
    link.parent.mkdir()
    link.symlink_to(script)
    assert f"changed the first line of {script} from" in done(link, "speedup")
    assert link.is_symlink() and script.read_bytes().startswith(b"#!%s/python3 -IS\n" % os.fsencode(script.parent))
    assert "already" in done(link, "speedup")


def test_as_pip_user_installs_it(tmp_path: Path) -> None:
    """Without an interpreter beside it, the line names the one that runs the package of that version."""
    script = install(tmp_path / "home/.local", beside=False)
    path = f"{os.path.dirname(INTERPRETER)}:{os.environ['PATH']}"
    done(script, "speedup", PATH=path)
    line, _, below = script.read_bytes().partition(b"\n")
    assert re.fullmatch(rb"#!/\S*/%s -IS" % VERSION.encode(), line) and below == BELOW
    assert "already" in done(script, "speedup", PATH="/nosuch")


def test_a_script_that_setup_has_changed(script: Path) -> None:
    known = BELOW.replace(
        b"# scripts/setup.sh writes here", f'[ -x {INTERPRETER} ] && exec {INTERPRETER} -IS "$0" "$@" #'.encode()
    )
    script.write_bytes(b"#!/bin/sh\n" + known)
    done(script, "speedup")
    done(script, "speedup", "--undo")
    assert script.read_bytes() == b"#!/bin/sh\n" + known


def test_another_link_to_the_file_keeps_its_line(script: Path) -> None:
    """Uv links a file to its cache, from where other environments get it."""
    os.link(script, script.parent / "cache")
    done(script, "speedup")
    assert (script.parent / "cache").read_bytes() == TEXT


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("closed", ["rootless", "."])
def test_one_who_may_not_write_it(script: Path, closed: str) -> None:
    (script.parent / closed).chmod(0o555)
    try:
        assert "EACCES" in refused(script)
        assert script.read_bytes() == TEXT
    finally:
        (script.parent / closed).chmod(0o755)


def test_what_is_not_an_installed_script(script: Path, tmp_path: Path) -> None:
    assert "checkout" in refused(CHECKOUT / "bin/rootless")
    module = call(sys.executable, "-m", "rootless", "speedup", PYTHONPATH=str(CHECKOUT))
    assert module.returncode == 1 and "was not started by a script" in module.stderr
    for text in (TEXT.replace(b"''':' # A shell", b"''':' # Another"), b"#!/bin/dash\n" + BELOW):
        script.write_bytes(text)
        assert "was not started by a script" in refused(script)
        assert script.read_bytes() == text


@pytest.mark.parametrize(
    ("name", "why"), [("a blank", "ends the path at a space"), ("x" * 250, "bytes, and the kernel")]
)
def test_an_interpreter_that_no_first_line_can_name(tmp_path: Path, name: str, why: str) -> None:
    script = install(tmp_path / name)
    assert why in refused(script) and why in refused(script, "--dry-run")
    assert script.read_bytes() == TEXT


def test_the_longest_line_that_the_kernel_takes(tmp_path: Path) -> None:
    length = 255 - len(f"#!{tmp_path}//bin/python3 -IS")
    if length < 1:
        pytest.skip("the temporary directory has a long name")
    assert len(done(install(tmp_path / ("x" * length)), "speedup")) > 255


def test_a_line_that_does_not_work_is_not_written(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(script)])
    own = first_line.read_own()
    for line in ("#!/bin/false -IS", "#!/nosuch/python3 -IS"):
        with pytest.raises(RootlessError):
            first_line.write(own, line)
        assert script.read_bytes() == TEXT and sorted(os.listdir(script.parent)) == ["python3", "rootless"]


def test_doctor_knows_it(script: Path) -> None:
    (package,) = script.parent.parent.glob("lib/*/site-packages")
    shutil.copytree(CHECKOUT / "oci", package / "oci", ignore=shutil.ignore_patterns("__pycache__"))
    assert "a shell starts it, which rootless speedup saves" in call(script, "doctor").stdout
    done(script, "speedup")
    assert "no shell starts it" in call(script, "doctor").stdout
