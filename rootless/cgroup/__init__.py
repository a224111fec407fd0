"""cgroup v2: where a container's cgroup lies, who makes it, and what is written to it.

`compile` is pure and gives a record, plain data that the state directory keeps; `open` gives the driver for a
record. Drivers: cgroupfs (driver.py) and a systemd scope (systemd.py); a record whose manager is "disabled" has a
driver too, one that has no cgroup to work on.
"""

from __future__ import annotations

from rootless.cgroup import place
from rootless.cgroup.driver import Cgroup
from rootless.errors import RootlessError
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cgroup.record import Entry, Host, Record, Rule
    from rootless.node import Node


MANAGERS = ("cgroupfs", "systemd", "disabled")


def compile(linux: Node, *, container_id: str, manager: str, host: Host, annotations: Node | None = None) -> Record:
    """The record of a container's cgroup. Pure.

    manager: one of MANAGERS, or "" to choose. annotations: the config's, for systemd's properties. The record:
    "manager"; "path", the absolute directory ("" where it is systemd's to say, or where there is none); "files", the
    [file, value, pointer] entries in the order of writing, without the defaults; "devices", the rules
    for a device program ([] where none is to be loaded); for systemd also "unit", "slice", "user", "properties".
    Where the choice depends on what can be written here, "choices" holds the candidates in order of preference until
    `open` has settled it. Raises SpecError.
    """
    if manager and manager not in MANAGERS:
        raise RootlessError(f"unknown cgroup manager {manager!r}", hint=f"one of {', '.join(MANAGERS)}")
    root = host.uid == 0 and not host.in_userns
    entries, rules = _compile_resources(linux, root) if linux["resources"] else ([], [])
    record: Record = {"manager": "disabled", "path": "", "files": entries, "devices": rules}
    if annotations and any(key.startswith("org.systemd.property.") for key, _ in annotations.members()):
        from rootless.cgroup import properties

        record["properties"] = properties.compile_properties(annotations)
    choices = place.candidates(linux["cgroupsPath"], container_id, manager, host, root)
    if len(choices) == 1 and "condition" not in choices[0]:
        record.update(choices[0])
    elif choices:
        record["choices"] = choices
        first = choices[0].copy()
        first.pop("condition", None)
        record.update(first)
    return record


def _compile_resources(linux: Node, root: bool) -> tuple[list[Entry], list[Rule]]:
    """(files to write, device rules)."""
    from rootless.cgroup import devices, files

    resources = linux["resources"]
    entries = [e for e in files.compile_files(resources) if not files.is_default(e[0], e[1])]
    if root:
        return entries, devices.compile_rules(resources["devices"])
    devices.refuse_narrower(resources["devices"], linux["devices"])
    return entries, []


def open(record: Record) -> Cgroup:
    """The driver for a record. Settles the record's choices first, if it has any: what cannot be used for a container
    that asks for no limits is left out with one debug line.

    Raises RootlessError where limits are asked for and there is no cgroup to set them in.
    """
    if "choices" in record:
        _settle(record)
    if record["manager"] == "disabled" and (wanted := _wanted(record)):
        raise _refusal(wanted[0])
    if record["manager"] == "systemd":
        from rootless.cgroup.systemd import Scope

        return Scope(record)
    return Cgroup(record)


def settle(record: Record) -> str:
    """Decide which cgroup a container would really have here and now, without making it: for `--dry-run`.

    Returns why the container cannot have the limits that it asks for, "" if it can.
    """
    if "choices" in record:
        _settle(record)
    if record["manager"] == "cgroupfs" and not place.can_be_made(record["path"]) and not _wanted(record):
        record["manager"], record["path"] = "disabled", ""
    if record["manager"] == "disabled" and (wanted := _wanted(record)):
        return _refusal(wanted[0]).message()
    return ""


def _settle(record: Record) -> None:
    """Replace the record's choices by the first that can be used."""
    wanted = bool(_wanted(record))
    for choice in record.pop("choices"):
        condition = choice.pop("condition", "")
        if place.usable(choice, condition, wanted):
            record.update(choice)
            return
    record["manager"], record["path"] = "disabled", ""
    if not wanted:
        from rootless import log

        log.debug("no cgroup can be written here: the container runs without one")


def _wanted(record: Record) -> list[Entry]:
    """The files that the container cannot do without."""
    if not record["files"]:
        return []
    from rootless.cgroup import files

    return files.required(record["files"])


def _refusal(entry: Entry) -> RootlessError:
    file, _, pointer = entry
    if os.path.exists("/sys/fs/cgroup/memory") and not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        hint = "this host's limits belong to cgroup v1, which rootless does not use; boot it with cgroup v2 alone"
    elif not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        hint = "no cgroup v2 is mounted at /sys/fs/cgroup"
    else:
        hint = (
            "run it in a delegated cgroup, such as `systemd-run --user --scope -p Delegate=yes`, "
            "or use --cgroup-manager systemd with a user session"
        )
    return RootlessError(f"{file} cannot be set: there is no cgroup that may be written", pointer, hint=hint)
