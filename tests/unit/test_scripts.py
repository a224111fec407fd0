"""The project's scripts say what they will do to the machine before they do it, and the
Makefile passes arguments on.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def programs(directory: Path, **scripts: str) -> dict[str, str]:
    """Return an environment in which these programs are shell scripts, found before those of the machine."""
    directory.mkdir()
    for name, text in scripts.items():
        file = directory / name.replace("_", "-")
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
    return {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}


def test_a_user_is_added_after_a_line_says_so(tmp_path: Path) -> None:
    environment = programs(tmp_path / "bin", id="exit 1", useradd='echo "useradd $*"')
    script = ". scripts/ordinary_user.sh; user=somebody; make_user"
    done = subprocess.run(
        ["sh", "-c", script], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert "adding the user somebody" in first
    assert second == "useradd -m -s /bin/sh somebody"


def test_a_user_that_exists_is_not_added(tmp_path: Path) -> None:
    environment = programs(tmp_path / "bin", id="echo 1000", useradd="echo added")
    done = subprocess.run(
        ["sh", "-c", ". scripts/ordinary_user.sh; make_user"],
        cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == ""


def test_packages_are_installed_after_a_line_says_so(tmp_path: Path) -> None:
    """The scripts run in a copy with an interpreter that lacks venv, and stop where apt-get would have installed it."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(CHECKOUT / "scripts/setup.sh", tmp_path / "scripts/setup.sh")
    environment = programs(
        tmp_path / "bin", id="echo 0", apt_get='echo "apt-get $*" >&2',
        python='case $* in *ensurepip*) exit 1 ;; *"-m venv"*) exit 9 ;; esac',
    )  # fmt: skip
    environment |= {"PYTHON": str(tmp_path / "bin/python"), "PYTHON_CHOSEN": "1"}
    done = subprocess.run(
        ["sh", "scripts/setup.sh"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    first, update, install, *_ = done.stdout.splitlines()
    assert done.returncode == 9
    assert first.startswith("setup: installing these Debian packages") and "python3-venv" in first
    assert update.startswith("apt-get update") and "python3-venv" in install


@pytest.mark.parametrize(("given", "tests"), [("T=tests/oci/test_tar.py", "tests/oci/test_tar.py"), ("", "tests/unit")])
def test_make_check_runs_what_it_is_given(given: str, tests: str) -> None:
    if not shutil.which("make"):
        pytest.skip("this machine lacks make")
    done = subprocess.run(
        ["make", "--dry-run", "check", *given.split()], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout.rstrip().endswith(f"-m pytest -p no:cacheprovider -q {tests}")


def test_the_workflow_and_the_makefile_run_scripts_that_are_there() -> None:
    import re

    for name in (".github/workflows/ci.yml", "Makefile", ".ci/run", "README.md"):
        text = (CHECKOUT / name).read_text()
        scripts = set(re.findall(r"(?:\./)?((?:scripts|tests|\.ci)/[\w./-]+)", text)) - {
            "tests/containers/test_hooks.py"
        }
        assert scripts, name
        assert not [script for script in scripts if not (CHECKOUT / script).exists()], name
