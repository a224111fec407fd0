"""linux.intelRdt: cache and memory bandwidth classes by the resctrl file system (runtime-spec, config-linux.md).

R does this, as it does cgroups: a group is a directory, a process joins it by its pid in the file `tasks`
(Documentation/filesystems/resctrl.rst). The file system belongs to root.
"""

from __future__ import annotations

import errno

from rootless import log
from rootless.errors import RootlessError, SpecError, printable
from rootless.kernel.files import write_at_once
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.node import Node

    Rdt = dict[str, Any]

_POINTER = "/linux/intelRdt"
_RESERVED = ("info", "mon_groups", "mon_data")  # the kernel's own directories


def read_intel_rdt(node: Node) -> Rdt | None:
    """linux.intelRdt as plain data, None where there is none. Raises SpecError.

    clos_id ("" for the container's id, "/" for the root class), l3_and_mb and schemata (lines, in the order that they
    are written), monitoring.
    """
    if not node:
        return None
    clos = node["closID"]
    clos_id = clos.string()
    if clos_id != "/" and ("/" in clos_id or "\n" in clos_id or clos_id in (".", "..", *_RESERVED)):
        raise clos.wrong('a directory name, or "/" for the default class')
    l3 = node["l3CacheSchema"].string()
    bandwidth = node["memBwSchema"]
    mb = bandwidth.string()
    if bandwidth and (not mb.startswith("MB:") or "\n" in mb):
        raise bandwidth.wrong("one line that starts with MB:")
    lines = []
    for item in node["schemata"].items():
        line = item.required().string()
        if "\n" in line:
            raise item.wrong("one line, an element for each")
        lines.append(line)
    return {
        "clos_id": clos_id,
        "l3_and_mb": [line for line in [*l3.split("\n"), mb] if line],
        "schemata": lines,
        "monitoring": node["enableMonitoring"].boolean(),
    }


def find_resctrl(mountinfo: str = "/proc/self/mountinfo") -> str:
    """Where resctrl is mounted. Raises SpecError where it is not."""
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            if after.startswith("resctrl "):
                return before.split(" ")[4]
    raise SpecError(
        "no resctrl file system is mounted",
        _POINTER,
        hint="root mounts it where the processor has Intel RDT or AMD QoS: mount -t resctrl resctrl /sys/fs/resctrl",
    )


def apply_intel_rdt(rdt: Rdt, container_id: str, pid: int, root: str) -> list[str]:
    """Put a process into its class and monitoring group; `root` is what find_resctrl says.

    Returns the directories made that go with the container, for remove_intel_rdt. Undone as a whole on failure.
    Raises RootlessError.
    """
    made: list[str] = []
    try:
        group = _enter_class(rdt, container_id, root, made)
        _write(f"{group}/tasks", str(pid), root)
        if rdt["monitoring"]:
            monitor = _monitoring_group(group, container_id)
            _make(monitor, root, made)
            _write(f"{monitor}/tasks", str(pid), root)
    except BaseException:
        try:
            remove_intel_rdt(made)
        except RootlessError as error:
            log.debug(str(error))  # the first failure is the one to tell
        raise
    own = own_directories(rdt, container_id, root)
    return [path for path in made if path in own]


def write_schemata(group: str, lines: list[str], root: str) -> None:
    """Change a class, also later by `update`. Raises RootlessError with the kernel's own words."""
    if lines:
        _write(f"{group}/schemata", "".join(f"{line}\n" for line in lines), root)


def remove_intel_rdt(made: list[str]) -> None:
    """Remove directories in reverse order; those gone already are no failure. Raises RootlessError."""
    for path in reversed(made):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RootlessError.from_os(error, "cannot remove the resctrl group", path) from None


def own_directories(rdt: Rdt, container_id: str, root: str) -> list[str]:
    """Those that have the container's name and end with it; a class that config.json names may have other users."""
    group = class_path(rdt, container_id, root)
    monitor = [_monitoring_group(group, container_id)] if rdt["monitoring"] else []
    return monitor if rdt["clos_id"] else [group, *monitor]


def class_path(rdt: Rdt, container_id: str, root: str) -> str:
    """The directory of the container's class."""
    if rdt["clos_id"] == "/":
        return root
    return f"{root}/{rdt['clos_id'] or container_id}"


def _monitoring_group(group: str, container_id: str) -> str:
    return f"{group}/mon_groups/{container_id}"


def _enter_class(rdt: Rdt, container_id: str, root: str, made: list[str]) -> str:
    """The class's directory: made, or checked, as the spec's rules have it."""
    group = class_path(rdt, container_id, root)
    wanted = rdt["l3_and_mb"]
    if rdt["clos_id"] and not wanted and not rdt["schemata"]:
        if not os.path.isdir(group):
            raise RootlessError(
                f"class {printable(rdt['clos_id'])} does not exist",
                f"{_POINTER}/closID",
                hint=f"make the directory {printable(group)}, or give schemata for a new class",
            )
        return group
    is_new = _make(group, root, made)
    if rdt["clos_id"] and not is_new:
        _check_schemata(group, wanted)
        wanted = []
    write_schemata(group, wanted + rdt["schemata"], root)
    return group


def _make(path: str, root: str, made: list[str]) -> bool:
    """Make a directory; False where it is there already."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return False
    except OSError as error:
        raise _failed(error, "cannot make the resctrl group", path, root) from None
    made.append(path)
    return True


def _check_schemata(group: str, wanted: list[str]) -> None:
    """A class that exists keeps its schemata: what is asked for must be there."""
    with open(f"{group}/schemata", encoding="ascii", errors="replace") as file:
        text = file.read()
    found = dict(map(_parse, text.split("\n")))
    for line in wanted:
        resource, domains = _parse(line)
        if not domains.items() <= found.get(resource, {}).items():
            raise RootlessError(
                f"the class exists with other schemata: {printable(line)!r} was asked for", f"{_POINTER}/closID"
            )


def _parse(line: str) -> tuple[str, dict[str, str]]:
    """`L3:0=0ff;1=c0` as ("L3", {"0": "ff", "1": "c0"}): the kernel pads and orders as it likes."""
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
        hint = "resctrl belongs to root: an ordinary user cannot have linux.intelRdt"
    elif error.errno == errno.ENOSPC:
        hint = "the processor has no class or monitoring group left"
    try:
        with open(f"{root}/info/last_cmd_status", encoding="utf-8", errors="replace") as file:
            said = file.read(500).strip()
        if said and said != "ok":
            hint = f"{hint}; the kernel says: {printable(said)}" if hint else f"the kernel says: {printable(said)}"
    except OSError:
        pass
    return RootlessError.from_os(error, what, path, hint)
