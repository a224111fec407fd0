"""An option of `create` goes through the packages one after the other, and seldom comes back to one that it left."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def trips(*arguments: str | Path) -> dict[str, tuple[int, list[str]]]:
    """Return {option: (returns, packages in their order)}, as scripts/trips.py prints them; `all` has the sum."""
    command = [sys.executable, CHECKOUT / "scripts/trips.py", *arguments]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    rows = [line.split() for line in lines]
    return {name: (int(count), packages) for name, count, *packages in rows}


def test_the_options_of_create_seldom_come_back() -> None:
    found = trips()
    assert {"bundle", "container_id", "console_socket", "no_pivot", "pid_file", "preserve_fds"} <= found.keys()
    assert found["no_pivot"] == (0, ["cli", "runtime", "steps"])  # it is followed into init
    assert found["all"][0] <= 15, found


def test_a_return_is_counted(tmp_path: Path) -> None:
    for name, text in {
        "cli/options.py": "class Options:\n    pass\n",
        "cli/commands/go.py": "from rootless.cli.options import Options\nfrom rootless.runtime import there\n\n"
        "def main(options: Options) -> None:\n    path = there.look(options.bundle)\n    check(path)\n"
        "    there.look(options.bundle)\n\ndef check(path: str) -> None:\n    pass\n",
        "runtime/there.py": "def look(path: str) -> str:\n    return path\n",
    }.items():
        (tmp_path / "rootless" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "rootless" / name).write_text(text)
    found = trips("--tree", tmp_path, "rootless.cli.commands.go:main")
    assert found["bundle"] == (2, ["cli", "runtime", "cli", "runtime"])
