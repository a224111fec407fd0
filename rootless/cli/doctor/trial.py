"""Try what matters: run a program in a container, and check the config of a bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from rootless.cli.doctor.line import MISSING, OK, Line
from rootless.kernel.hints import Hint, hint

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
        detail = f"`run --host -- true` does not end within {_PATIENCE} seconds"
        yield Line("run", MISSING, detail, "nothing runs", hint("trial-hangs"))
        return
    if done.returncode == 0:
        yield Line("run", OK, "a program runs in a container")
        return
    said, mend = _last_error(done.stderr)
    yield Line("run", MISSING, said or f"exit code {done.returncode}", "no container runs", mend)


def config(path: str, root: str) -> Iterator[Line]:
    """Check config.json against this machine; a line for each error.

    `spec --validate` finds all that is wrong in the file, `run --dry-run` what the plan cannot have here, and a
    container that is created and deleted what the kernel refuses. Its program never starts.
    """
    checked = _run([*itself(), "spec", "--validate", path])
    errors = [
        line
        for line in checked.stderr.splitlines()
        if line.startswith(_PREFIX) and not line.startswith(f"{_PREFIX}warning")
    ]
    if not checked.returncode:
        planned = _run([*itself(), "--root", root, "run", "--dry-run", "--bundle", path, "doctor"])
        errors = planned.stderr.splitlines()[-1:] if planned.returncode else _created(path, root)
    for line in errors:
        detail, mend = _last_error(line)
        yield Line("config", MISSING, detail, "this bundle does not run here", mend)
    if not errors:
        yield Line("config", OK, f"{path}/config.json can be carried out here")


def _created(path: str, root: str) -> list[str]:
    """Create a container of a bundle, and delete it; return the error line, [] for none.

    Return [] without a try if creating would do something outside of the container: hooks run programs, and what lies
    in a cgroup or namespace that config.json names may belong to others.
    """
    with open(f"{path}/config.json") as file:
        document = json.load(file)
    linux, process = document.get("linux") or {}, document.get("process") or {}
    kinds = {namespace["type"]: namespace.get("path") for namespace in linux.get("namespaces") or []}
    touches = [linux.get(name) for name in ("cgroupsPath", "intelRdt", "netDevices")]
    if document.get("hooks") or process.get("terminal") or any(touches) or any(kinds.values()) or "mount" not in kinds:
        return []
    name = f"doctor-{os.urandom(4).hex()}"
    try:
        created = _run([*itself(), "--root", root, "create", "--bundle", path, name], timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return [f"{_PREFIX}a container of this bundle is not created within {_PATIENCE} seconds"]
    finally:
        _run([*itself(), "--root", root, "delete", "--force", name])
    return created.stderr.splitlines()[-1:] if created.returncode else []


def _run(command: list[str], timeout: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Its output goes to a file, because a created container keeps it open."""
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, timeout=timeout, check=False
        )
        said.seek(0)
        return subprocess.CompletedProcess(command, done.returncode, "", said.read())


def _last_error(stderr: str) -> tuple[str, Hint | None]:
    """Return (the last line without the program's name, its hint)."""
    lines = [line for line in stderr.splitlines() if line] or [""]
    what, _, mend = lines[-1].removeprefix(_PREFIX).partition("; hint: ")
    return what, Hint(mend) if mend else None
