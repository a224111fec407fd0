"""List the candidates for a container's cgroup in order of preference, and check whether one can be used."""

from __future__ import annotations

import errno

from rootless.cgroup.tree import LEAF
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cgroup.record import Host, Record
    from rootless.config_node import Node


def candidates(cgroups_path: Node, container_id: str, manager: str, host: Host, root: bool) -> list[Record]:
    """Return the possible places of a container's cgroup, the best first; [] for none. Pure.

    Each has "manager", "path" (for systemd also "unit", "slice", "user"), and "condition", which `usable` checks, if
    it is not certain that the place can be used. Raises SpecError.
    """
    path = cgroups_path.string()
    if ".." in path.split("/"):
        raise cgroups_path.error("must not contain ..")
    if path and os.path.normpath(path) in ("/", "//", "."):
        raise cgroups_path.error("is a shared cgroup", hint="name one for the container below it")
    if manager == "disabled" or not host.cgroup_mount:
        return []
    if manager == "systemd":
        return [_scope(cgroups_path, container_id, root, strict=True)]
    if root:
        return [_directory(path, container_id, host, os.path.dirname(host.own_cgroup))]
    places = _delegated(path, container_id, host)
    if manager == "":
        scope = _scope(cgroups_path, container_id, root, strict=False) | {"condition": "session"}
        # slice:prefix:name asks for systemd. Otherwise systemd comes after cgroups that it has delegated, and before
        # directories that are only writable, because systemd may disable controllers there at any time.
        places.insert(0 if _is_triple(path) else sum(c["condition"] == "delegated" for c in places), scope)
    return places


def usable(choice: Record, condition: str, wanted: bool) -> bool:
    """Return whether a candidate can be used on this machine.

    wanted: whether the container asks for limits. Then a session without a D-Bus library counts as usable, so that the
    driver fails and says what is missing.
    """
    if not condition:
        return True
    if condition == "session":
        return session(wanted=wanted)
    # Moving a process between cgroups needs write access to cgroup.procs of their common ancestor too (cgroups(7)).
    if not os.access(f"{choice['base']}/cgroup.procs", os.W_OK):
        return False
    parent = os.path.dirname(choice["path"])
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    if not (os.access(parent, os.W_OK) and os.access(f"{parent}/cgroup.procs", os.W_OK)):
        return False
    return condition == "writable" or _is_delegated(choice["base"])


def can_be_made(path: str) -> bool:
    """Return whether a cgroup exists, or this process may write to the nearest directory above it."""
    if os.path.isdir(path):
        return os.access(f"{path}/cgroup.procs", os.W_OK)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return os.access(path, os.W_OK)


def session(*, wanted: bool) -> bool:
    """Return whether the user's systemd can be asked: it runs, its bus is there, and jeepney is installed."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if not (runtime and os.path.exists(f"{runtime}/bus") and os.path.isdir(f"{runtime}/systemd")):
        return False
    if wanted:
        return True
    from rootless.cgroup import systemd

    return systemd.library_found()


def _is_delegated(directory: str) -> bool:
    """Return whether systemd has marked the cgroup as delegated (Delegate=yes, systemd.resource-control(5)).

    The user manager's own cgroup is marked too, but does not count, because the manager divides it.
    """
    if os.path.basename(directory).startswith("user@"):
        return False
    try:
        return os.getxattr(directory, "user.delegate") == b"1"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.ENOENT, errno.EACCES, errno.EPERM):
            return False
        raise


def _is_triple(path: str) -> bool:
    return path.count(":") == 2 and "/" not in path


def _directory(path: str, container_id: str, host: Host, base: str) -> Record:
    """Return the candidate for a directory. An absolute path starts at the mount, others and the id start at `base`."""
    if not path.startswith("/"):
        path = f"{base.rstrip('/')}/{path or container_id}"
    return {"manager": "cgroupfs", "path": os.path.normpath(f"{host.cgroup_mount}/{path.strip('/')}")}


def _delegated(path: str, container_id: str, host: Host) -> list[Record]:
    """Return candidates for a user: an absolute path, then directories below the user's cgroup or the one above it.

    The one above usually holds no processes. Cgroups that systemd marked as delegated come first.
    """
    places: list[Record] = []
    own = host.own_cgroup
    if not own or own == "/.." or own.startswith("/../"):  # our cgroup is outside of this cgroup namespace
        return places
    if path.startswith("/"):
        common = os.path.commonpath([own, os.path.dirname(os.path.normpath(path))])
        places.append(_below(common, _directory(path, container_id, host, "/"), host, "writable"))
    if os.path.basename(own) == LEAF:
        own = os.path.dirname(own)
        upper = own
    else:
        upper = os.path.dirname(own)
    # systemd 252 does not mark its users' units. systemd divides slices, so prefer a directory inside a unit.
    unmarked = [own, upper] if upper.endswith(".slice") else [upper, own]
    order = [(own, "delegated"), (upper, "delegated"), *((base, "writable") for base in unmarked)]
    for base, condition in dict.fromkeys(order):
        places.append(_below(base, _directory(path.lstrip("/"), container_id, host, base), host, condition))
    return places


def _below(base: str, place: Record, host: Host, condition: str) -> Record:
    return {**place, "base": os.path.normpath(f"{host.cgroup_mount}/{base.strip('/')}"), "condition": condition}


def _scope(cgroups_path: Node, container_id: str, root: bool, *, strict: bool) -> Record:
    """Return the candidate for a transient scope. cgroupsPath is slice:prefix:name. Raises SpecError.

    strict: whether the user chose systemd, so that any other form is refused.
    """
    path = cgroups_path.string()
    if _is_triple(path):
        slice_, prefix, name = path.split(":")
    elif path and strict:
        raise cgroups_path.wrong("slice:prefix:name, as the systemd manager wants it")
    else:
        slice_, prefix, name = "", "rootless", container_id
    if not name:
        raise cgroups_path.error("names no unit", hint="the form is slice:prefix:name")
    slice_ = slice_ or ("system.slice" if root else "user.slice")
    if not slice_.endswith(".slice") or "/" in slice_:
        raise cgroups_path.error(f"{slice_} is not a slice", hint="its name ends in .slice")
    unit = name if name.endswith(".scope") else f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    return {"manager": "systemd", "path": "", "unit": unit, "slice": slice_, "user": not root}
