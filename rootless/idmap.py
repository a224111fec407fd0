"""Writing a new user namespace's id maps: directly for one's own id, by newuidmap(1) for ranges."""

from __future__ import annotations

import os

from rootless import log
from rootless.errors import RootlessError, errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.host import Host, IdMap


def write_maps(proc_fd: int, pid: int, uid_map: IdMap, gid_map: IdMap, host: Host, *, is_default: bool) -> bool:
    """Write both maps of that process. Returns whether setgroups(2) works in it.

    is_default: nobody asked for the range, so where newuidmap is refused the single map serves.
    """
    if host.privileged:
        _write(proc_fd, f"{pid}/gid_map", gid_map)
        _write(proc_fd, f"{pid}/uid_map", uid_map)
        return host.setgroups
    if _is_own(uid_map, host.uid) and _is_own(gid_map, host.gid):
        _write_single(proc_fd, pid, uid_map, gid_map)
        return False
    try:
        _run("newgidmap", pid, gid_map, "/etc/subgid")
        _run("newuidmap", pid, uid_map, "/etc/subuid")
        return True
    except RootlessError as error:
        if not is_default:
            raise
        log.debug(f"only the own id is mapped: {error}")
    _write_single(proc_fd, pid, [(0, host.uid, 1)], [(0, host.gid, 1)])
    return False


def _is_own(id_map: IdMap, own: int) -> bool:
    return len(id_map) == 1 and id_map[0][1] == own and id_map[0][2] == 1


def _write_single(proc_fd: int, pid: int, uid_map: IdMap, gid_map: IdMap) -> None:
    # Without privilege over the parent namespace gid_map can be written only when setgroups is denied:
    # user_namespaces(7), "Defining user and group ID mappings".
    _write_text(proc_fd, f"{pid}/setgroups", "deny")
    _write(proc_fd, f"{pid}/gid_map", gid_map)
    _write(proc_fd, f"{pid}/uid_map", uid_map)


def _write(proc_fd: int, name: str, id_map: IdMap) -> None:
    _write_text(proc_fd, name, "".join(f"{a} {b} {c}\n" for a, b, c in id_map))


def _write_text(proc_fd: int, name: str, text: str) -> None:
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc_fd)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise RootlessError.from_os(
            error,
            "cannot write the id map of the user namespace",
            f"/proc/{name}",
            "user namespaces may be restricted here: see kernel.apparmor_restrict_unprivileged_userns",
        ) from None


def _run(program: str, pid: int, id_map: IdMap, file: str) -> None:
    path = find(program)
    if not path:
        raise RootlessError(f"{program} is not installed", hint="it comes with the package uidmap (shadow-utils)")
    arguments = [program, str(pid), *(str(number) for entry in id_map for number in entry)]
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, writer, 2), (os.POSIX_SPAWN_OPEN, 0, "/dev/null", 0, 0)]
        child = os.posix_spawn(path, arguments, {}, file_actions=actions)
    except OSError as error:
        raise RootlessError(f"cannot run {program}", path, error.errno or 0) from None
    finally:
        os.close(writer)
    with open(reader, "rb", buffering=0) as output:
        said = (output.read() or b"").decode("utf-8", "replace").strip()
    _, status = os.waitpid(child, 0)
    if status:
        code = os.waitstatus_to_exitcode(status)
        raise RootlessError(
            f"{program} refused the map: {said or errno_text(code if code > 0 else 0)}",
            path,
            hint=f"it needs its set-user-ID bit or file capability (no no_new_privs, no nosuid) and a range in {file}",
        )


def find(program: str) -> str:
    """The path of a helper program: PATH, then the usual places (podman gives no PATH). "" if there is none."""
    for directory in [
        *os.environ.get("PATH", "").split(":"),
        "/usr/local/bin",
        "/usr/bin",
        "/bin",
        "/usr/sbin",
        "/sbin",
    ]:
        path = f"{directory}/{program}"
        if directory and os.access(path, os.X_OK):
            return path
    return ""
