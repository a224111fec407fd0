"""`ps`: show the processes of a container, with the pids that the host sees."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from rootless.cli.containers import load
from rootless.errors import RootlessError, advice, printable
from rootless.kernel.files import write_out
from rootless.kernel.find_program import find_program
from rootless.runtime.container import Container
from rootless.startup.jsonlite import dumps

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless ps [--format table|json] ID [PS OPTION...]`.

    json prints the pids. The table is the output of ps(1), reduced to the lines of the container's processes.
    """
    form = "json" if getattr(options, "json", False) else options.format
    if form not in ("", "table", "json"):
        raise RootlessError(f"invalid format option {form!r}", hint="table or json")
    container = load(options)
    pids = processes(container)
    if form == "json":
        text = dumps(pids) + "\n"
    else:
        text = _cut(_table(options.args or ["-ef"]), pids)
    write_out(text.encode("utf-8", "surrogateescape"))
    return 0


def processes(container: Container) -> list[int]:
    """Return the pids of a container's processes: those in its cgroup, else those in init's pid namespace."""
    group = container.cgroup()
    if group.path:
        return group.procs()
    if not container.alive():
        return []
    space = _pid_namespace(container.pid)
    if not space or space == _pid_namespace(os.getpid()):
        return [container.pid]
    return sorted(pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _pid_namespace(pid) == space)


def _pid_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or another user's
        return ""


def _table(arguments: list[str]) -> list[str]:
    """Return the lines that ps(1) prints. Raises RootlessError."""
    program = find_program("ps")
    if not program:
        raise RootlessError("ps is not installed", hint=advice("no-ps"))
    try:
        done = subprocess.run([program, *arguments], capture_output=True, check=False)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot run ps", program) from None
    if done.returncode:
        raise RootlessError(f"ps: {os.fsdecode(done.stderr).strip() or f'exit status {done.returncode}'}")
    return os.fsdecode(done.stdout).split("\n")


def _cut(lines: list[str], pids: list[int]) -> str:
    """Return the heading and the lines whose column PID is one of `pids`. Raises RootlessError."""
    heading = lines[0].split() if lines else []
    if "PID" not in heading:
        raise RootlessError("the output of ps has no column PID", hint="use options that print it, such as -ef or aux")
    column = heading.index("PID")
    wanted = {str(pid) for pid in pids}
    kept = [
        line for line in lines[1:] if len(fields := line.split(None, column + 1)) > column and fields[column] in wanted
    ]
    return "\n".join(map(printable, [lines[0], *kept])) + "\n"
