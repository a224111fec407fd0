"""Make device nodes for a user namespace as real root outside of it.

Inside, mknod(2) is EPERM, and so is chown(2) to ids that are not mapped. The nodes lie on a tmpfs of the host's user
namespace, because every file system that the container's own root mounts is nodev (user_namespaces(7)).
"""

from __future__ import annotations

from rootless.errors import RootlessError
from rootless.kernel import channel, child
from rootless.kernel import syscalls as sc
from rootless.startup import lean_os as os
from rootless.userns import idmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from rootless.kernel.host import IdMap
    from rootless.steps.devices import AttachDevice


def make_nodes(steps: list[AttachDevice], place: str, uid_map: IdMap, gid_map: IdMap) -> dict[str, int]:
    """Return {path in the container: fd of a detached mount of its node}. Raises RootlessError.

    place: any directory; a tmpfs is mounted there, in a private mount namespace that ends with this call.
    """
    ours, theirs = channel.pair()

    def send_nodes() -> None:
        try:
            _send_nodes(theirs, steps, place, uid_map, gid_map)
        except BaseException as error:
            channel.send_failure(theirs, error, "make a device node", "/linux/devices")

    pid, pidfd = child.clone(sc.CLONE_NEWNS, send_nodes)
    theirs.close()
    os.close(pidfd)
    try:
        return {step.path: channel.receive(ours, channel.DEVICE)[2][0] for step in steps}
    except EOFError:
        raise RootlessError("the process that makes device nodes was killed", "/linux/devices") from None
    finally:
        ours.close()
        os.waitpid(pid, 0)


def _send_nodes(sock: socket, steps: list[AttachDevice], place: str, uid_map: IdMap, gid_map: IdMap) -> None:
    os.umask(0)
    sc.mount(None, "/", None, sc.MS_PRIVATE | sc.MS_REC)
    fs_fd = sc.fsopen("tmpfs")
    sc.fsconfig(fs_fd, sc.FSCONFIG_CMD_CREATE)
    folder = sc.fsmount(fs_fd)
    sc.move_mount(folder, os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    for number, step in enumerate(steps):
        name = str(number)
        os.mknod(name, step.kind | step.mode, step.rdev, dir_fd=folder)
        os.chown(name, idmap.outer_id(uid_map, step.uid), idmap.outer_id(gid_map, step.gid), dir_fd=folder)
        node = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
        tree = sc.open_tree(node, b"", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE)
        sc.mount_setattr(tree, attr_set=sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NOEXEC)
        channel.send(sock, channel.DEVICE, fds=(tree,))
