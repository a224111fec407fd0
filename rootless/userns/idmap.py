"""Writing a new user namespace's id maps: directly for one's own id, by newuidmap(1) for ranges."""

from __future__ import annotations

import errno

from rootless import log
from rootless.errors import RootlessError, errno_text
from rootless.kernel import channel, child
from rootless.kernel import syscalls as sc
from rootless.kernel.files import write_at_once
from rootless.kernel.host import read_id_map
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import Host, IdMap


_OVERFLOW = 65534  # /proc/sys/kernel/overflowuid
_IGNORED = (13, 25)  # SIGPIPE and SIGXFSZ, by CPython


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


def make_userns(proc_fd: int, uid_map: IdMap, gid_map: IdMap, *, alone: bool = False) -> int:
    """The fd of a new user namespace with these maps, which nobody is in: for mount_setattr(2).

    The ids are this namespace's, all of which its root may map. alone: nobody else can see the process that makes it.
    """
    ours, theirs = channel.pair()

    def hold() -> None:
        try:
            ours.close()
            if alone:  # after a change of ids its files in /proc are the host's root's: proc(5)
                sc.prctl(sc.PR_SET_DUMPABLE, 1)
            # Its number is another in /proc, which need not be of this pid namespace: it shows itself.
            here = os.open("self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc_fd)
            channel.send(theirs, channel.USERNS, fds=(here,))
            channel.receive(theirs)
        except EOFError:  # the namespace's fd is taken
            pass
        except BaseException as error:
            channel.send_failure(theirs, error, "make a user namespace for a mount")

    pid, pidfd = child.clone(sc.CLONE_NEWUSER, hold)
    theirs.close()
    os.close(pidfd)
    try:
        _, _, (there,) = channel.receive(ours, channel.USERNS)
        try:
            _write(there, "gid_map", gid_map)
            _write(there, "uid_map", uid_map)
            return os.open("ns/user", os.O_RDONLY | os.O_CLOEXEC, dir_fd=there)
        finally:
            os.close(there)
    except EOFError:
        raise RootlessError("the process that holds a mount's user namespace was killed") from None
    finally:
        ours.close()
        os.waitpid(pid, 0)


def nested_map(own: IdMap, wanted: IdMap | None) -> IdMap:
    """`wanted`, whose host ids are those outside of this user namespace, as a map of a namespace below this one.

    own: this namespace's map; None wants each id to stay itself. Raises RootlessError.
    """
    if wanted is None:
        return [(inside, inside, size) for inside, _, size in own]
    found = []
    for first, outside, size in wanted:
        for inside, start, count in own:
            if start <= outside and outside + size <= start + count:
                found.append((first, inside + outside - start, size))
                break
        else:
            raise RootlessError(f"the ids {outside}-{outside + size - 1} are not mapped in the container")
    return found


def outer_id(id_map: IdMap, number: int, missing: int = _OVERFLOW) -> int:
    """The host's id for one of the container's, `missing` where it has none: user_namespaces(7), the overflow id."""
    for inside, outside, size in id_map:
        if inside <= number < inside + size:
            return outside + number - inside
    return missing


def _write(proc_fd: int, name: str, id_map: IdMap) -> None:
    _write_text(proc_fd, name, "".join(f"{a} {b} {c}\n" for a, b, c in id_map), id_map)


def _write_text(proc_fd: int, name: str, text: str, id_map: IdMap | None = None) -> None:
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc_fd)
        try:
            write_at_once(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise RootlessError.from_os(
            error,
            "cannot write the id map of the user namespace",
            f"/proc/{name}",
            _explain(error, name.rpartition("/")[2], id_map or []),
        ) from None


def _explain(error: OSError, kind: str, id_map: IdMap) -> str:
    """Return the hint for a map, kind uid_map or gid_map, that was refused: user_namespaces(7), and what else there is.

    Ids that this user namespace has not got come first: in a nested one AppArmor is not to blame.
    """
    if error.errno != errno.EPERM:
        return ""
    missing = explain_missing(kind, id_map)
    if missing:
        return missing
    try:
        with open("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "rb") as file:
            restricted = file.read().strip() == b"1"
    except OSError:
        restricted = False
    if restricted:
        return "AppArmor restricts user namespaces here: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    return f"it takes CAP_SET{kind[:3].upper()} in this user namespace, or a security module refuses it"


def explain_missing(kind: str, id_map: IdMap) -> str:
    """Return the hint that names the host ids of a map that do not exist in this user namespace, "" if all do."""
    try:
        own = read_id_map(f"/proc/self/{kind}")
    except OSError:
        return ""
    missing = []
    for _, first, size in id_map:
        if not any(start <= first and first + size <= start + count for _, start, count in _inside(own)):
            missing.append(f"{first}-{first + size - 1}" if size > 1 else str(first))
    if not missing:
        return ""
    own_ids = ", ".join(f"{first}-{first + size - 1}" if size > 1 else str(first) for first, _, size in own)
    return (
        f"the {kind[:3]}s {', '.join(missing)} do not exist in this user namespace, which has {own_ids or 'none'}: "
        "convert the bundle again here, or take its mappings out"
    )


def _inside(id_map: IdMap) -> IdMap:
    """Return the ids of this namespace as adjoining ranges in one piece: a range that spans two is mapped, too."""
    joined: IdMap = []
    for first, _, size in sorted(id_map):
        if joined and joined[-1][1] + joined[-1][2] == first:
            joined[-1] = (0, joined[-1][1], joined[-1][2] + size)
        else:
            joined.append((0, first, size))
    return joined


def _run(program: str, pid: int, id_map: IdMap, file: str) -> None:
    path = find(program)
    if not path:
        raise RootlessError(f"{program} is not installed", hint="it comes with the package uidmap (shadow-utils)")
    arguments = [program, str(pid), *(str(number) for entry in id_map for number in entry)]
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        # What the caller passed on is for the program of the container, which was cloned before, not for this helper.
        sc.close_range(3, flags=sc.CLOSE_RANGE_CLOEXEC)
        actions = [(os.POSIX_SPAWN_DUP2, writer, 2), (os.POSIX_SPAWN_OPEN, 0, "/dev/null", 0, 0)]
        helper = os.posix_spawn(path, arguments, {}, file_actions=actions, setsigmask=(), setsigdef=_IGNORED)
    except OSError as error:
        raise RootlessError(f"cannot run {program}", path, error.errno or 0) from None
    finally:
        os.close(writer)
    with open(reader, "rb", buffering=0) as output:
        said = (output.read() or b"").decode("utf-8", "replace").strip()
    _, status = os.waitpid(helper, 0)
    if status:
        code = os.waitstatus_to_exitcode(status)
        hint = f"it needs its set-user-ID bit or file capability (no no_new_privs, no nosuid) and a range in {file}"
        raise RootlessError(
            f"{program} refused the map: {said or errno_text(code if code > 0 else 0)}",
            path,
            hint=explain_missing(f"{program[3:6]}_map", id_map) or hint,
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
