"""Put a container into a class of cache and memory bandwidth, by resctrl (linux.intelRdt, config-linux.md#intelrdt).

A group is a directory, and a process joins it when its pid is written to the file `tasks`
(Documentation/filesystems/resctrl.rst). The file system belongs to root.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from rootless import log
from rootless.errors import RootlessError, advice, printable
from rootless.kernel.files import write_at_once

if TYPE_CHECKING:
    from rootless.steps.outside import EnterResctrlGroup

_POINTER = "/linux/intelRdt"


def apply_intel_rdt(group: EnterResctrlGroup, container_id: str, pid: int, mount: str) -> list[str]:
    """Put a process into its class and monitoring group. mount: where resctrl is mounted.

    Return the new directories that end with the container, for remove_intel_rdt. A failure removes all that was made.
    Raises RootlessError.
    """
    created: list[str] = []
    try:
        directory = _enter_class(group, container_id, mount, created)
        _write(f"{directory}/tasks", str(pid), mount)
        if group.monitoring:
            monitor = _monitoring_group(directory, container_id)
            _make(monitor, mount, created)
            _write(f"{monitor}/tasks", str(pid), mount)
    except BaseException:
        try:
            remove_intel_rdt(created)
        except RootlessError as error:
            log.debug(str(error))  # the first failure is the one to raise
        raise
    own = own_directories(group, container_id, mount)
    return [path for path in created if path in own]


def write_schemata(group: str, lines: list[str], root: str) -> None:
    """Write the schemata of a class, for `create` and `update`. Raises RootlessError with the kernel's own words."""
    if lines:
        _write(f"{group}/schemata", "".join(f"{line}\n" for line in lines), root)


def remove_intel_rdt(created: list[str]) -> None:
    """Remove directories in reverse order; a missing one is fine. Raises RootlessError."""
    for path in reversed(created):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RootlessError.from_os(error, "cannot remove the resctrl group", path) from None


def own_directories(group: EnterResctrlGroup, container_id: str, mount: str) -> list[str]:
    """Return the directories that end with the container, because they have its name.

    A class that config.json names stays, because other containers may use it.
    """
    directory = class_path(group, container_id, mount)
    monitor = [_monitoring_group(directory, container_id)] if group.monitoring else []
    return monitor if group.clos_id else [directory, *monitor]


def class_path(group: EnterResctrlGroup, container_id: str, mount: str) -> str:
    """Return the directory of the container's class."""
    if group.clos_id == "/":
        return mount
    return f"{mount}/{group.clos_id or container_id}"


def _monitoring_group(group: str, container_id: str) -> str:
    return f"{group}/mon_groups/{container_id}"


def _enter_class(group: EnterResctrlGroup, container_id: str, mount: str, created: list[str]) -> str:
    """Make the class's directory, or check an existing one (config-linux.md#intelrdt); return it."""
    directory = class_path(group, container_id, mount)
    wanted = group.l3_and_mb
    if group.clos_id and not wanted and not group.schemata:
        if not os.path.isdir(directory):
            raise RootlessError(
                f"class {printable(group.clos_id)} does not exist",
                f"{_POINTER}/closID",
                hint=f"make the directory {printable(directory)}, or give schemata for a new class",
            )
        return directory
    is_new = _make(directory, mount, created)
    if group.clos_id and not is_new:
        _check_schemata(directory, wanted)
        wanted = []
    write_schemata(directory, wanted + group.schemata, mount)
    return directory


def _make(path: str, root: str, created: list[str]) -> bool:
    """Make a directory; return False if it existed. Raises RootlessError."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return False
    except OSError as error:
        raise _failed(error, "cannot make the resctrl group", path, root) from None
    created.append(path)
    return True


def _check_schemata(group: str, wanted: list[str]) -> None:
    """Refuse an existing class with other schemata than config.json asks for, because the class keeps its own."""
    with open(f"{group}/schemata", encoding="ascii", errors="replace") as file:
        text = file.read()
    current = dict(map(_parse, text.split("\n")))
    for line in wanted:
        resource, domains = _parse(line)
        if not domains.items() <= current.get(resource, {}).items():
            raise RootlessError(
                f"the class exists with other schemata: {printable(line)!r} was asked for", f"{_POINTER}/closID"
            )


def _parse(line: str) -> tuple[str, dict[str, str]]:
    """Return `L3:0=0ff;1=c0` as ("L3", {"0": "ff", "1": "c0"}), without padding and order, which the kernel changes."""
    resource, _, values = line.strip().partition(":")
    pairs = (value.partition("=") for value in values.split(";") if value)
    return resource, {a.strip().lstrip("0"): b.strip().lstrip("0").lower() for a, _, b in pairs}


def _write(path: str, text: str, root: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_at_once(fd, os.fsencode(text))
        finally:
            os.close(fd)
    except OSError as error:
        raise _failed(error, f"cannot write {printable(text.strip())!r}", path, root) from None


def _failed(error: OSError, what: str, path: str, root: str) -> RootlessError:
    hint = ""
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = advice("resctrl-of-root")
    elif error.errno == errno.ENOSPC:
        hint = advice("resctrl-full")
    try:
        with open(f"{root}/info/last_cmd_status", encoding="utf-8", errors="replace") as file:
            said = file.read(500).strip()
        if said and said != "ok":
            hint = f"{hint}; the kernel says: {printable(said)}" if hint else f"the kernel says: {printable(said)}"
    except OSError:
        pass
    return RootlessError.from_os(error, what, path, hint)
