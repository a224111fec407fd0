"""Choose, make and fill a container's cgroup (cgroup v2 only).

`compile` is pure and returns a record (record.py), plain data that the state directory keeps. `open` returns the driver
for a record: cgroupfs (driver.py) or a systemd scope (systemd.py). A record whose manager is "disabled" has a driver
without a cgroup.
"""

from __future__ import annotations

from rootless.cgroup import place
from rootless.cgroup.driver import Cgroup, check_controllers
from rootless.errors import RootlessError, advice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cgroup.record import Entry, Host, Record, Rule
    from rootless.config_node import Node
    from rootless.kernel.hints import Hint


MANAGERS = ("cgroupfs", "systemd", "disabled")


def compile(linux: Node, *, container_id: str, manager: str, host: Host, annotations: Node | None = None) -> Record:
    """Return the record of a container's cgroup. Pure.

    manager: one of MANAGERS, or "" to choose; annotations: those of config.json, for systemd's properties. If the
    choice depends on what can be written on this machine, the record has "choices", the candidates, until `open` or
    `settle` decides. Raises SpecError, and RootlessError for an unknown manager.
    """
    if manager and manager not in MANAGERS:
        raise RootlessError(f"unknown cgroup manager {manager!r}", hint=f"one of {', '.join(MANAGERS)}")
    root = host.uid == 0 and not host.in_userns
    entries, rules = _compile_resources(linux, root) if linux["resources"] else ([], [])
    record: Record = {"manager": "disabled", "path": "", "files": entries, "devices": rules}
    if annotations and any(key.startswith("org.systemd.property.") for key, _ in annotations.members()):
        from rootless.cgroup import properties

        record["properties"] = properties.compile_properties(annotations)
    if manager == "disabled":
        record["unwanted"] = True
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
    """Return (files to write, device rules)."""
    from rootless.cgroup import devices, files

    resources = linux["resources"]
    entries = [e for e in files.compile_files(resources) if not files.is_default(e[0], e[1])]
    if root:
        return entries, devices.compile_rules(resources["devices"])
    devices.refuse_narrower(resources["devices"], linux["devices"])
    return entries, []


def open(record: Record) -> Cgroup:
    """Return the driver for a record, after settling the record's choices.

    A container that asks for no limits runs without a cgroup if none can be used; a debug line says so. Raises
    RootlessError if the container asks for limits and no cgroup can be used.
    """
    if "choices" in record:
        _settle(record)
    if record["manager"] == "disabled" and (wanted := _wanted(record)):
        raise _refusal(record, wanted[0])
    if record["manager"] == "systemd":
        from rootless.cgroup.systemd import Scope

        return Scope(record)
    return Cgroup(record)


def check_limits(record: Record) -> None:
    """Refuse limits that no cgroup here can have, before anything is made. Raises RootlessError.

    systemd enables the controllers of its scopes itself, so only it knows what they can have.
    """
    if not record["files"]:
        return
    if "choices" in record:  # the plan keeps them: nobody writes to it
        record = {**record, "choices": [choice.copy() for choice in record["choices"]]}
        _settle(record)
    if record["manager"] == "systemd":
        return
    wanted = _wanted(record)
    if wanted and record["manager"] == "disabled":
        raise _refusal(record, wanted[0])
    if record["manager"] == "disabled":
        return
    check_controllers(record["path"], wanted)


def settle(record: Record) -> str:
    """Decide, for --dry-run, which cgroup the container would have on this machine, without making it.

    Return why the container cannot have the limits that it asks for, "" if it can.
    """
    if "choices" in record:
        _settle(record)
    if record["manager"] == "cgroupfs" and not place.can_be_made(record["path"]) and not _wanted(record):
        record["manager"], record["path"] = "disabled", ""
    if record["manager"] == "disabled" and (wanted := _wanted(record)):
        return _refusal(record, wanted[0]).message()
    return ""


def _settle(record: Record) -> None:
    """Replace the record's choices by the first one that can be used."""
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
    """Return the files without which the container must not start."""
    if not record["files"]:
        return []
    from rootless.cgroup import files

    # An error names the first file. --memory sets a limit of swap, too, so put that last: the user asked for the other.
    return sorted(files.required(record["files"]), key=lambda entry: entry[0] == "memory.swap.max")


def _refusal(record: Record, entry: Entry) -> RootlessError:
    file, _, pointer = entry
    if record.get("unwanted"):
        what = f"{file} cannot be set: cgroups are disabled by --cgroup-manager"
        return RootlessError(what, pointer, hint=advice("cgroups-disabled"))
    return RootlessError(
        f"{file} cannot be set: there is no cgroup that may be written", pointer, hint=without_cgroup().text
    )


def without_cgroup() -> Hint:
    """Return the hint for a user who may make no cgroup."""
    from rootless.cgroup.nowhere import why_none

    return why_none()
