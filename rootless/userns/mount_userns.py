"""Make a user namespace without processes, for the ids of a mount (mount_setattr(2), MOUNT_ATTR_IDMAP)."""

from __future__ import annotations

from rootless.errors import RootlessError
from rootless.kernel import channel, child
from rootless.kernel import syscalls as sc
from rootless.startup import lean_os as os
from rootless.userns.idmap import write_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import IdMap


def make_userns(proc_fd: int, uid_map: IdMap, gid_map: IdMap, *, alone: bool = False) -> int:
    """Return the fd of a new user namespace with these maps and without processes. Raises RootlessError, OSError.

    The caller must be root of its own user namespace, because the maps may use all of its ids. alone: whether no other
    process can see the one that makes the namespace.
    """
    ours, theirs = channel.pair()

    def hold() -> None:
        try:
            ours.close()
            if alone:  # otherwise the host's root owns its files in /proc after the change of ids: proc(5)
                sc.prctl(sc.PR_SET_DUMPABLE, 1)
            # Send a directory fd, not a pid: this /proc may belong to another pid namespace with other numbers.
            here = os.open("self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc_fd)
            channel.send(theirs, channel.USERNS, fds=(here,))
            channel.receive(theirs)
        except EOFError:  # the caller has opened the namespace and closed the socket
            pass
        except BaseException as error:
            channel.send_failure(theirs, error, "make a user namespace for a mount")

    pid, pidfd = child.clone(sc.CLONE_NEWUSER, hold)
    theirs.close()
    os.close(pidfd)
    try:
        _, _, (there,) = channel.receive(ours, channel.USERNS)
        try:
            write_map(there, "gid_map", gid_map)
            write_map(there, "uid_map", uid_map)
            return os.open("ns/user", os.O_RDONLY | os.O_CLOEXEC, dir_fd=there)
        finally:
            os.close(there)
    except EOFError:
        raise RootlessError("the process that holds a mount's user namespace was killed") from None
    finally:
        ours.close()
        os.waitpid(pid, 0)


def nested_map(own: IdMap, wanted: IdMap | None) -> IdMap:
    """Return the map `wanted` for a child of this user namespace. Raises RootlessError if an id is not mapped here.

    wanted: its host ids are those of the parent namespace; None maps each id to itself. own: this namespace's map.
    """
    if wanted is None:
        return [(inside, inside, size) for inside, _, size in own]
    nested = []
    for first, outside, size in wanted:
        for inside, start, count in own:
            if start <= outside and outside + size <= start + count:
                nested.append((first, inside + outside - start, size))
                break
        else:
            raise RootlessError(f"the ids {outside}-{outside + size - 1} are not mapped in the container")
    return nested
