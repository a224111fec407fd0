"""docs/reference/commands.md and the man pages are what scripts/reference.py makes of the table of options."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rootless.cli.options import COMMANDS, GLOBAL
from tests.support.checkout import LAUNCHER

CHECKOUT = Path(__file__).resolve().parents[2]
REFERENCE = CHECKOUT / "docs/reference"


def test_they_are_current() -> None:
    done = subprocess.run(
        [sys.executable, CHECKOUT / "scripts/reference.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_page_that_was_changed_by_hand_is_named(tmp_path: Path) -> None:
    for name in ("scripts", "rootless", "oci", "docs"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    page = tmp_path / "docs/reference/man/rootless-run.1"
    page.write_text(page.read_text() + "more\n")
    command = [sys.executable, str(tmp_path / "scripts/reference.py")]
    check = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    assert (check.returncode, check.stdout.split(" ")[0]) == (1, "docs/reference/man/rootless-run.1")
    subprocess.run(command, check=True)
    assert page.read_text() == (REFERENCE / "man/rootless-run.1").read_text()


def test_they_name_every_command_and_every_flag() -> None:
    text = (REFERENCE / "commands.md").read_text()
    assert not [name for name in COMMANDS if f"\n## {name}\n" not in text]
    sections = dict(re.findall(r"\n## (.*?)\n(.*?)(?=\n## |\Z)", text, re.DOTALL))
    tables = {"Global flags": GLOBAL, **{name: table for name, (_, _, table) in COMMANDS.items()}}
    missing = [(name, o[0]) for name, table in tables.items() for o in table if f"--{o[0]}" not in sections[name]]
    assert not missing


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("help", "completion")])
def test_the_page_has_the_usage_line_of_the_help(name: str) -> None:
    done = subprocess.run([LAUNCHER, name, "--help"], capture_output=True, text=True, check=False)
    if done.returncode and name in ("checkpoint", "restore"):
        pytest.skip("needs root and criu, as podman wants")
    assert done.returncode == 0, done.stderr
    expected = done.stdout.partition("\n")[0].removeprefix("Usage: ").replace(" [OPTIONS]", "")
    text = (REFERENCE / "commands.md").read_text()
    assert expected in [line.replace(" [OPTIONS]", "") for line in text.splitlines()]


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    rows = [line for line in (REFERENCE / "commands.md").read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert not [row for row in rows if len(re.findall(r"(?<!\\)\|", row)) != 3]


@pytest.mark.parametrize("page", sorted(path.name for path in (REFERENCE / "man").glob("*.1")))
def test_roff_reads_the_man_pages_without_a_warning(page: str) -> None:
    if not shutil.which("groff"):
        pytest.skip("this machine lacks groff")
    command = ["groff", "-man", "-ww", "-Tutf8", "-rLL=200n", str(REFERENCE / "man" / page)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"}, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    plain = re.sub("\x1b\\[[0-9;]*m|.\x08", "", done.stdout)
    flags = GLOBAL if page == "rootless.1" else COMMANDS[page[len("rootless-") : -len(".1")]][2]
    assert not [option[0] for option in flags if f"--{option[0]}" not in plain]


def test_every_environment_variable_that_is_read_is_listed() -> None:
    pattern = r'environ(?:\.get\(|\[)"([A-Z_]+)"|getenv\("([A-Z_]+)"\)'
    read = {a or b for top in ("rootless", "oci") for path in (CHECKOUT / top).rglob("*.py")
            for a, b in re.findall(pattern, path.read_text())}  # fmt: skip
    private = {"_ROOTLESS_COMPLETE", "HOME"}
    page = (REFERENCE / "environment.md").read_text()
    assert len(read) > 8
    assert not [name for name in sorted(read - private) if f"`{name}`" not in page]
