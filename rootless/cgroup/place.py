"""Where a container's cgroup goes: the candidates in order of preference, and whether one can be used."""

from __future__ import annotations

import errno

from rootless.cgroup.tree import LEAF
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cgroup.record import Host, Record
    from rootless.node import Node


def candidates(cgroups_path: Node, container_id: str, manager: str, host: Host, root: bool) -> list[Record]:
    """The possible places of a container's cgroup, the best first; [] for none. Pure.

    Each has "manager", "path" (and "unit", "slice", "user" for systemd) and, where it is no certainty, "condition": a
    condition for `usable`.
    """
    path = cgroups_path.string()
    if ".." in path.split("/"):
        raise cgroups_path.error("leads out of its place by ..")
    if path and os.path.normpath(path) in ("/", "//", "."):
        raise cgroups_path.error("is a cgroup that others are in", hint="name one for the container below it")
    if manager == "disabled" or not host.cgroup_mount:
        return []
    if manager == "systemd":
        return [_scope(cgroups_path, container_id, root, strict=True)]
    if root:
        return [_directory(path, container_id, host, os.path.dirname(host.own_cgroup))]
    found = _delegated(path, container_id, host)
    if manager == "":
        scope = _scope(cgroups_path, container_id, root, strict=False) | {"condition": "session"}
        # A slice:prefix:name asks for systemd. Otherwise systemd comes after what it gave away itself, and before
        # directories that merely happen to be writable, where it may take back controllers at any time.
        found.insert(0 if _is_triple(path) else sum(c["condition"] == "delegated" for c in found), scope)
    return found


def usable(choice: Record, condition: str, wanted: bool) -> bool:
    """Whether a candidate can be used here and now. With `wanted` (limits are asked for) a session whose D-Bus
    library is missing counts as usable, so that the driver names what is missing."""
    if not condition:
        return True
    if condition == "session":
        return session(wanted=wanted)
    # To move from one cgroup to another takes write access to cgroup.procs of their common ancestor too.
    if not os.access(f"{choice['base']}/cgroup.procs", os.W_OK):
        return False
    parent = os.path.dirname(choice["path"])
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    if not (os.access(parent, os.W_OK) and os.access(f"{parent}/cgroup.procs", os.W_OK)):
        return False
    return condition == "writable" or _is_delegated(choice["base"])


def can_be_made(path: str) -> bool:
    """Return whether a cgroup exists, or the nearest directory above it may be written by this process."""
    if os.path.isdir(path):
        return os.access(f"{path}/cgroup.procs", os.W_OK)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return os.access(path, os.W_OK)


def session(*, wanted: bool) -> bool:
    """Whether the user's systemd can be asked: its run directory and the bus are there, and the library."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if not (runtime and os.path.exists(f"{runtime}/bus") and os.path.isdir(f"{runtime}/systemd")):
        return False
    if wanted:
        return True
    from rootless.cgroup import systemd

    return systemd.library_found()


def _is_delegated(directory: str) -> bool:
    """Whether systemd marked the cgroup as given away (Delegate=yes, systemd.resource-control(5)). The user manager's
    own cgroup is marked too, but it is the manager's to divide."""
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
    """A directory: an absolute cgroupsPath counts from the mount, a relative one or the id from `base`."""
    if not path.startswith("/"):
        path = f"{base.rstrip('/')}/{path or container_id}"
    return {"manager": "cgroupfs", "path": os.path.normpath(f"{host.cgroup_mount}/{path.strip('/')}")}


def _delegated(path: str, container_id: str, host: Host) -> list[Record]:
    """Directories for a user: an absolute path as it stands, then below the own cgroup or the one above it, which
    holds no processes as a rule; first of all what systemd marked as delegated."""
    found: list[Record] = []
    own = host.own_cgroup
    if not own or own == "/.." or own.startswith("/../"):  # outside of this cgroup namespace
        return found
    if path.startswith("/"):
        common = os.path.commonpath([own, os.path.dirname(os.path.normpath(path))])
        found.append(_below(common, _directory(path, container_id, host, "/"), host, "writable"))
    if os.path.basename(own) == LEAF:
        own = os.path.dirname(own)
        upper = own
    else:
        upper = os.path.dirname(own)
    # systemd 252 leaves its users' units unmarked. A slice is systemd's to divide, a unit in it rather ours.
    unmarked = [own, upper] if upper.endswith(".slice") else [upper, own]
    order = [(own, "delegated"), (upper, "delegated"), *((base, "writable") for base in unmarked)]
    for base, condition in dict.fromkeys(order):
        found.append(_below(base, _directory(path.lstrip("/"), container_id, host, base), host, condition))
    return found


def _below(base: str, place: Record, host: Host, condition: str) -> Record:
    return {**place, "base": os.path.normpath(f"{host.cgroup_mount}/{base.strip('/')}"), "condition": condition}


def _scope(cgroups_path: Node, container_id: str, root: bool, *, strict: bool) -> Record:
    """A transient scope. cgroupsPath is slice:prefix:name; nothing else is taken from the user who said systemd."""
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
        raise cgroups_path.error(f"{slice_} is no slice", hint="its name ends in .slice")
    unit = name if name.endswith(".scope") else f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    return {"manager": "systemd", "path": "", "unit": unit, "slice": slice_, "user": not root}
