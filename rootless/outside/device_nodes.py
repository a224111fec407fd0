"""Device nodes for a user namespace, made by real root outside of it: mknod(2) is EPERM inside, as is chown(2) to ids
that it lacks. A file system of the host's keeps them usable (user_namespaces(7): others are nodev)."""

from __future__ import annotations

from rootless.errors import RootlessError
from rootless.init import host_path
from rootless.kernel import channel, child
from rootless.kernel import syscalls as sc
from rootless.startup import lean_os as os
from rootless.userns import idmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from rootless.kernel.host import IdMap
    from rootless.plan import Plan


def make_nodes(plan: Plan, place: str) -> dict[str, int]:
    """{path in the container: fd of a detached mount of its node} for the plan's steps "outside_device".

    place: a directory that serves as a mount point, in a mount namespace that ends with this.
    """
    steps = [step for step in plan.prepare if step[0] == "outside_device"]
    ours, theirs = channel.pair()

    def send_nodes() -> None:
        try:
            _send_nodes(theirs, steps, place, plan.namespaces.uid_map, plan.namespaces.gid_map)
        except BaseException as error:
            channel.send_failure(theirs, error, "make a device node", "/linux/devices")

    pid, pidfd = child.clone(sc.CLONE_NEWNS, send_nodes)
    theirs.close()
    os.close(pidfd)
    try:
        return {step[2]: channel.receive(ours, channel.MOUNTED)[2][0] for step in steps}
    except EOFError:
        raise RootlessError("the process that makes device nodes was killed", "/linux/devices") from None
    finally:
        ours.close()
        os.waitpid(pid, 0)


def read_warnings(plan: Plan) -> list[str]:
    """A line for each device of config.json whose node is the host's and is another than what is asked for."""
    warnings = []
    for step in plan.prepare:
        if step[0] != "device" or step[-1] or step[1] == "/linux/devices":
            continue
        _, pointer, path, kind, major, minor, mode, uid, gid, _ = step
        try:
            found = os.stat(host_path(path, kind, major, minor)).st_mode & 0o7777
        except OSError:
            continue  # create says it
        if mode not in (-1, found):
            what = f"{path} has the host's mode {found:04o}, not {mode:04o}"
            warnings.append(f"{what}: {pointer}/fileMode; hint: only root makes nodes")
        if uid or gid:
            what = f"{path} has the host's owner, not {uid}:{gid}"
            warnings.append(f"{what}: {pointer}/uid; hint: only root makes nodes")
    return warnings


def _send_nodes(sock: socket, steps: list[tuple[Any, ...]], place: str, uid_map: IdMap, gid_map: IdMap) -> None:
    os.umask(0)
    sc.mount(None, "/", None, sc.MS_PRIVATE | sc.MS_REC)
    fs_fd = sc.fsopen("tmpfs")
    sc.fsconfig(fs_fd, sc.FSCONFIG_CMD_CREATE)
    folder = sc.fsmount(fs_fd)
    sc.move_mount(folder, os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    for number, (_, _, _, kind, major, minor, mode, uid, gid) in enumerate(steps):
        name = str(number)
        os.mknod(name, kind | mode, os.makedev(major, minor), dir_fd=folder)
        os.chown(name, idmap.outer_id(uid_map, uid), idmap.outer_id(gid_map, gid), dir_fd=folder)
        node = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
        tree = sc.open_tree(node, b"", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE)
        sc.mount_setattr(tree, attr_set=sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NOEXEC)
        channel.send(sock, channel.MOUNTED, fds=(tree,))
