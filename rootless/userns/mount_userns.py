"""Make a user namespace without processes, for the ids of a mount (mount_setattr(2), MOUNT_ATTR_IDMAP)."""

from __future__ import annotations

from rootless.errors import RootlessError
from rootless.kernel import channel, child, proc
from rootless.kernel import syscalls as sc
from rootless.kernel.files import close_at_last
from rootless.kernel.host import read_id_map
from rootless.startup import lean_os as os
from rootless.userns.idmap import write_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import IdMap

# With this map no file of a mount has an owner or a group that a process could be: the only id that is mapped is the
# last one, which no file has. Such a file is open to others as its mode says. Root is one of the others, and
# CAP_DAC_OVERRIDE does not count, because the kernel asks for an owner that is mapped (capabilities(7)).
OWNERLESS = [(2**32 - 2, 65534, 1)]


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


def can_hide_owners(path: str) -> bool:
    """Return whether this process can map the ids of all mounts from `path` down with OWNERLESS (mount_setattr(2)).

    It tries on a clone of the mounts that nobody sees.
    """
    proc_fd = tree = userns = -1
    try:
        proc_fd = proc.open_proc()
        tree = sc.open_tree(sc.AT_FDCWD, path, sc.OPEN_TREE_CLONE | sc.AT_RECURSIVE)
        own = [read_id_map(f"/proc/self/{name}") for name in ("uid_map", "gid_map")]
        userns = make_userns(proc_fd, *(nested_map(each, OWNERLESS) for each in own))
        sc.mount_setattr(tree, attr_set=sc.MOUNT_ATTR_IDMAP, userns_fd=userns, recursive=True)
    except (OSError, RootlessError):
        return False
    finally:
        close_at_last(proc_fd, tree, userns)
    return True


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
