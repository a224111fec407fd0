"""A user namespace that nobody is in, for the ids of a mount (mount_setattr(2), MOUNT_ATTR_IDMAP)."""

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
