"""Give a container's cgroup to the container's user (config-linux.md#cgroup-ownership).

A container that mounts its cgroup writable, in a cgroup namespace of its own, owns the directory and the files that
/sys/kernel/cgroup/delegate lists. So its user may divide the container's resources.
"""

from __future__ import annotations

from rootless import log
from rootless.errors import RootlessError
from rootless.kernel import cgroup_view as view
from rootless.kernel.host import read_id_map
from rootless.startup import lean_os as os
from rootless.userns.idmap import outer_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cgroup.driver import Cgroup
    from rootless.kernel.host import Host

_FALLBACK = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]  # the specification's


def hand_over(group: Cgroup, pid: int, uid: int, host: Host) -> None:
    """Give the cgroup to `uid`, which is an id in the user namespace of process `pid`. Raises RootlessError.

    Nothing is to do for the caller's own uid. Only root can give it to another uid: real root, or root of a user
    namespace with the caller's whole range, because both the old and the new owner must be mapped (chown(2)).
    """
    if not group.path:
        return
    if group.record["files"] and not view.nsdelegate():
        log.warn(
            "the container can lift its own limits: its cgroup is writable, and cgroup2 is mounted without nsdelegate "
            f"({group.path})"
        )
    owner = uid
    # A reader in that namespace itself would be shown ids of the parent namespace (user_namespaces(7)).
    if os.stat(f"/proc/{pid}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino:
        owner = outer_id(read_id_map(f"/proc/{pid}/uid_map"), uid, -1)
    if owner < 0 or owner == os.fstat(group.fd).st_uid:
        return
    if host.is_root_here:
        _change(group, owner)
        return
    from rootless.userns.run import default_maps, run_in_userns

    uid_map, gid_map = default_maps(host)
    inside = next((first + owner - start for first, start, size in uid_map if start <= owner < start + size), -1)
    if run_in_userns(uid_map, gid_map, lambda: _change(group, inside)):
        raise RootlessError(f"cannot give the cgroup to uid {owner}", group.path)


def _change(group: Cgroup, owner: int) -> int:
    try:
        with open("/sys/kernel/cgroup/delegate") as file:
            names = file.read().split()
    except FileNotFoundError:
        names = _FALLBACK
    for name in (".", *names):
        try:
            os.chown(name, owner, -1, dir_fd=group.fd)
        except FileNotFoundError:
            pass  # its controller is not enabled
        except OSError as error:
            raise RootlessError.from_os(
                error, "cannot give the cgroup to the container", f"{group.path}/{name}"
            ) from None
    return 0
