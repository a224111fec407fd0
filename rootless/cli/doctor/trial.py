"""Try what matters: run a program in a container, and check the config of a bundle."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from rootless.cli.doctor.line import MISSING, OK, Line
from rootless.kernel.hints import USER, Hint

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 60  # seconds for a container that runs `true`; nothing is measured by it
_PREFIX = "rootless: "


def itself() -> list[str]:
    """Return the words that have started this program, without its arguments."""
    words = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    return [sys.executable or words[0], *words[1:]]


def plain_run(root: str) -> Iterator[Line]:
    """Run `true` of the host's own system in a container, with the same state root."""
    command = [*itself(), "--root", root, "run", "--host", "--", "true"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_PATIENCE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        clean = Hint("doctor --clean removes what is left of it", "rootless doctor --clean", USER)
        detail = f"`run --host -- true` does not end within {_PATIENCE} seconds"
        yield Line("run", MISSING, detail, "nothing runs", clean)
        return
    if done.returncode == 0:
        yield Line("run", OK, "a program runs in a container")
        return
    said, mend = _last_error(done.stderr)
    yield Line("run", MISSING, said or f"exit code {done.returncode}", "no container runs", mend)


def config(path: str, root: str) -> Iterator[Line]:
    """Check config.json against this machine, as `spec --validate` and `run --dry-run` do; a line for each error."""
    checked = _run([*itself(), "spec", "--validate", path])
    errors = [
        line
        for line in checked.stderr.splitlines()
        if line.startswith(_PREFIX) and not line.startswith(f"{_PREFIX}warning")
    ]
    if not checked.returncode:
        planned = _run([*itself(), "--root", root, "run", "--dry-run", "--bundle", path, "doctor"])
        errors = planned.stderr.splitlines()[-1:] if planned.returncode else []
    for line in errors:
        detail, mend = _last_error(line)
        yield Line("config", MISSING, detail, "this bundle does not run here", mend)
    if not errors:
        yield Line("config", OK, f"{path}/config.json can be carried out here")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )


def _last_error(stderr: str) -> tuple[str, Hint | None]:
    """Return (the last line without the program's name, its hint)."""
    lines = [line for line in stderr.splitlines() if line] or [""]
    what, _, mend = lines[-1].removeprefix(_PREFIX).partition("; hint: ")
    return what, Hint(mend) if mend else None
