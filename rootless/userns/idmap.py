"""Write the id maps of a new user namespace: directly for the user's own id, with newuidmap(1) for ranges."""

from __future__ import annotations

import errno

from rootless import log
from rootless.errors import RootlessError
from rootless.kernel.files import write_at
from rootless.kernel.host import default_id_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import Host, IdMap


_OVERFLOW = 65534  # /proc/sys/kernel/overflowuid


def default_maps(host: Host) -> tuple[IdMap, IdMap]:
    """Return (uid map, gid map): 0 is the user, 1 and up are subordinate ids. Root keeps its ids: both are []."""
    if host.is_root_on_host:
        return [], []
    ranges = bool(host.subuid and host.subgid)
    return (
        default_id_map(host.uid, host.subuid if ranges else []),
        default_id_map(host.gid, host.subgid if ranges else []),
    )


def write_maps(proc_fd: int, pid: int, uid_map: IdMap, gid_map: IdMap, host: Host, *, is_default: bool) -> bool:
    """Write both maps of the process `pid`; return whether setgroups(2) works in it. Raises RootlessError.

    proc_fd: a descriptor of /proc. is_default: config.json did not ask for these maps. If newuidmap(1) then refuses
    them, the process gets only the user's own id.
    """
    if host.is_root_here:
        write_map(proc_fd, f"{pid}/gid_map", gid_map)
        write_map(proc_fd, f"{pid}/uid_map", uid_map)
        return host.setgroups
    if _is_own(uid_map, host.uid) and _is_own(gid_map, host.gid):
        _write_single(proc_fd, pid, uid_map, gid_map)
        return False
    from rootless.userns.newuidmap import run_helper

    try:
        run_helper("newgidmap", pid, gid_map, "/etc/subgid")
        run_helper("newuidmap", pid, uid_map, "/etc/subuid")
        return True
    except RootlessError as error:
        # newuidmap is missing, refuses, or may not run. Any other error, such as ENOMEM, does not mean that there is
        # no range.
        if not is_default or error.errno not in (0, errno.ENOENT, errno.EACCES):
            raise
        log.debug(f"only the own id is mapped: {error}")
    _write_single(proc_fd, pid, [(0, host.uid, 1)], [(0, host.gid, 1)])
    return False


def _is_own(id_map: IdMap, own: int) -> bool:
    return len(id_map) == 1 and id_map[0][1] == own and id_map[0][2] == 1


def _write_single(proc_fd: int, pid: int, uid_map: IdMap, gid_map: IdMap) -> None:
    # Without privileges in the parent namespace, gid_map can be written only after setgroups is denied:
    # user_namespaces(7), "Defining user and group ID mappings".
    _write_text(proc_fd, f"{pid}/setgroups", "deny")
    write_map(proc_fd, f"{pid}/gid_map", gid_map)
    write_map(proc_fd, f"{pid}/uid_map", uid_map)


def outer_id(id_map: IdMap, number: int, missing: int = _OVERFLOW) -> int:
    """Return the host's id for an id of the container, `missing` if it is not mapped (user_namespaces(7))."""
    for inside, outside, size in id_map:
        if inside <= number < inside + size:
            return outside + number - inside
    return missing


def write_map(proc_fd: int, name: str, id_map: IdMap) -> None:
    """Write a map to a file of /proc, such as `PID/uid_map`. Raises RootlessError with the reason of a refusal."""
    _write_text(proc_fd, name, "".join(f"{a} {b} {c}\n" for a, b, c in id_map), id_map)


def _write_text(proc_fd: int, name: str, text: str, id_map: IdMap | None = None) -> None:
    try:
        write_at(proc_fd, name, text.encode())
    except OSError as error:
        from rootless.userns.refusals import explain

        raise RootlessError.from_os(
            error,
            "cannot write the id map of the user namespace",
            f"/proc/{name}",
            explain(error, name.rpartition("/")[2], id_map or []),
        ) from None
