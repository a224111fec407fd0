"""Try what matters: run a program in a container, and check the config of a bundle."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any, TextIO

from rootless.cli.doctor.line import MISSING, OK, Line
from rootless.kernel import syscalls
from rootless.kernel.hints import Hint, hint, hint_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 60  # seconds for a container that runs `true`; nothing is measured by it
_PREFIX = "rootless: "
_CAP_NET_ADMIN = 12  # linux/capability.h
_DIRECTORY = ["cgroup", "cgroupfs"]  # the words of --dry-run before the path of a cgroup's directory


def itself() -> list[str]:
    """Return the command line of this program, without its arguments."""
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
    not_tried = ""
    if checked.returncode:
        lines = (line for line in checked.stderr.splitlines() if line.startswith(_PREFIX))
        errors = [line for line in lines if not line.startswith(f"{_PREFIX}warning")] or [_silent("spec", checked)]
    elif (planned := _run([*itself(), "--root", root, "run", "--dry-run", "--bundle", path, "doctor"])).returncode:
        errors = planned.stderr.splitlines()[-1:] or [_silent("run --dry-run", planned)]
    else:
        with open(f"{path}/config.json") as file:
            document = json.load(file)
        not_tried = _touches_others(document, planned.stdout)
        errors = [] if not_tried else _created(path, root, document)
    for line in errors:
        detail, mend = _last_error(line)
        yield Line("config", MISSING, detail, "this bundle does not run here", mend)
    if not errors:
        but = f", as far as the plan tells: no container was created, because {not_tried}" if not_tried else ""
        yield Line("config", OK, f"{path}/config.json can be carried out here{but}")


def _silent(what: str, done: subprocess.CompletedProcess[str]) -> str:
    """Return the error line of a command that has failed without one: something has killed it."""
    return f"{_PREFIX}{what} ended with exit code {done.returncode}, and without an error message"


def _created(path: str, root: str, document: dict[str, Any]) -> list[str]:
    """Create a container of a bundle, and delete it; return the error line, [] for none."""
    name = f"doctor-{os.urandom(4).hex()}"
    command = [*itself(), "--root", root, "create", "--bundle", path]
    try:
        with contextlib.ExitStack() as stack:
            if (document.get("process") or {}).get("terminal"):  # nobody reads from it, because nothing is started
                directory = stack.enter_context(tempfile.TemporaryDirectory())
                listener = stack.enter_context(socket.socket(socket.AF_UNIX))
                listener.bind(f"{directory}/console")
                listener.listen()
                command += ["--console-socket", f"{directory}/console"]
            created = _run([*command, name], timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return [f"{_PREFIX}a container of this bundle is not created within {_PATIENCE} seconds"]
    finally:
        _run([*itself(), "--root", root, "delete", "--force", name])
    return created.stderr.splitlines()[-1:] or [_silent("create", created)] if created.returncode else []


def _touches_others(document: dict[str, Any], plan: str) -> str:
    """Return why creating a container would do something outside of it, "" if it would not.

    plan: --dry-run's output. Hooks run programs. What lies in a namespace or cgroup that config.json names may belong
    to others, unless the cgroup does not exist yet, or is frozen, so that `create` refuses it. A network device or a
    class of resctrl changes hands only if this process has the right; otherwise the kernel says what the trial is for.
    """
    linux = document.get("linux") or {}
    kinds = {namespace["type"]: namespace.get("path") for namespace in linux.get("namespaces") or []}
    if document.get("hooks"):
        return "it has hooks"
    if any(kinds.values()):
        return "it enters a namespace that exists"
    if "mount" not in kinds:
        return "it has no mount namespace of its own"
    if linux.get("cgroupsPath"):
        place = next((words[3] for line in plan.splitlines() if (words := line.split())[1:3] == _DIRECTORY), "")
        if not place or (os.path.exists(place) and not _is_frozen(place)):
            return "its cgroup exists already" if place else "it has a cgroup of its own"
    if linux.get("intelRdt") and os.geteuid() == 0:
        return "it has a class of resctrl"
    if linux.get("netDevices") and syscalls.capget()[0] >> _CAP_NET_ADMIN & 1:
        return "it takes network devices"
    return ""


def _is_frozen(cgroup: str) -> bool:
    try:
        with open(f"{cgroup}/cgroup.freeze") as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def _run(command: list[str], timeout: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Its output goes to files in memory, because a created container keeps them open."""
    with _file_in_memory() as out, _file_in_memory() as said:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=said, timeout=timeout, check=False)
        out.seek(0)
        said.seek(0)
        return subprocess.CompletedProcess(command, done.returncode, out.read(), said.read())


def _file_in_memory() -> TextIO:
    return open(os.memfd_create("rootless-doctor", os.MFD_CLOEXEC), "w+", errors="replace")


def _last_error(stderr: str) -> tuple[str, Hint | None]:
    """Return (the last line without the program's name, its hint)."""
    lines = [line for line in stderr.splitlines() if line] or [""]
    what, _, mend = lines[-1].removeprefix(_PREFIX).partition("; hint: ")
    return what, hint_of(mend) if mend else None
