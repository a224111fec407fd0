"""`root`, default devices, `maskedPaths`, `readonlyPaths`, `sysctl`: what is done inside the root file system. Pure."""

from __future__ import annotations

from rootless.errors import printable
from rootless.kernel import syscalls as sc
from rootless.plan.mounts import PROPAGATION, normal_path, tidy_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.node import Node
    from rootless.plan.namespaces import Namespaces

    Step = tuple[Any, ...]

# config-linux.md#default-devices
DEFAULT_DEVICES = {
    "/dev/null": (1, 3), "/dev/zero": (1, 5), "/dev/full": (1, 7), "/dev/random": (1, 8), "/dev/urandom": (1, 9),
    "/dev/tty": (5, 0),
}  # fmt: skip
_LINKS = {
    "/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}  # fmt: skip
_DEVICE_TYPES = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}
# sysctl(8) names by the namespace that isolates them: ipc_namespaces(7), network_namespaces(7), namespaces(7).
_IPC_SYSCTLS = ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")  # kernel.*


def compile_root(root: Node, bundle: str) -> tuple[str, bool]:
    """(absolute path of the rootfs, readonly)."""
    path = root.required()["path"].required().string()
    if not path:
        root["path"].refuse("is empty")
    return tidy_path(path, bundle), root["readonly"].boolean()


def compile_devices(linux: Node, mounts: list[Step], *, privileged: bool, outside: bool) -> list[Step]:
    """The default devices and links, then `linux.devices`; nothing where /dev is a bind mount (as in runc).

    privileged: whether I may make nodes; outside: whether R can make those of config.json for it.
    """
    if any(m[2]["target"] == "/dev" and m[2]["fstype"] == "bind" for m in mounts):
        return []
    wanted: dict[str, Step] = {}
    own_pts = any(m[2]["target"] == "/dev/pts" for m in mounts)
    mounted = {m[2]["target"] for m in mounts}  # a mount that config.json names is not hidden by a default device
    for path, (major, minor) in DEFAULT_DEVICES.items():
        if path not in mounted:
            wanted[path] = ("device", "/linux/devices", path, 0o020000, major, minor, 0o666, 0, 0, privileged)
    for node in linux["devices"].items():
        path = normal_path(node["path"].required().string())
        kind = node["type"].required().choice(_DEVICE_TYPES)
        fifo = node["type"].value == "p"
        major = node["major"].integer(0, 0, 2**32 - 1) if fifo else node["major"].required().integer(0, 0, 2**12 - 1)
        minor = node["minor"].integer(0, 0, 2**32 - 1) if fifo else node["minor"].required().integer(0, 0, 2**20 - 1)
        if path == "/":
            raise node["path"].error("is no path for a device")
        mode = node["fileMode"].integer(0o666, 0, 0o177777) & 0o7777
        is_bound = not (
            privileged or outside or fifo
        )  # the host's node, whose mode stays: rootless/outside/device_nodes.py warns
        if is_bound and not node["fileMode"]:
            mode = -1
        ids = node["uid"].uint32(), node["gid"].uint32()
        made = (path, kind, major, minor, mode, *ids)
        if path == "/dev/ptmx" and own_pts:
            continue  # as in runc: it is the link to the container's own
        if outside and not fifo:
            wanted[path] = ("outside_device", node.pointer, *made)
        else:
            wanted[path] = ("device", node.pointer, *made, not is_bound)
    steps = list(wanted.values())
    steps += [("link", "/linux/devices", path, target) for path, target in _LINKS.items()]
    if own_pts:
        steps.append(("link", "/linux/devices", "/dev/ptmx", "pts/ptmx"))
    return steps


def compile_paths(linux: Node) -> list[Step]:
    """`readonlyPaths`, then `maskedPaths` (so that a path in both is masked)."""
    steps: list[Step] = []
    for op, key in (("readonly_path", "readonlyPaths"), ("mask", "maskedPaths")):
        for node in linux[key].items():
            path = node.required().string()
            if not path.startswith("/"):
                raise node.wrong("an absolute path")
            if not any(step[0] == op and step[2] == normal_path(path) for step in steps):
                steps.append((op, node.pointer, normal_path(path)))
    return steps


def compile_propagation(linux: Node, rootfs: str, *, peers: bool) -> tuple[list[Step], int]:
    """The steps for `/` before anything is mounted, and the rootfs's own propagation afterwards (0: none).

    peers: whether what is shared may stay the host's peer, so that a bind mount that asks for it brings the container's
    mounts out (Kubernetes' Bidirectional). Otherwise nothing of the container reaches the host, even if the host's root
    is shared: mount_namespaces(7).
    """
    flags = linux["rootfsPropagation"].choice(PROPAGATION, 0)
    pointer = linux["rootfsPropagation"].pointer
    if flags & sc.MS_PRIVATE:  # from the start, and not at the end: a mount may ask to be shared
        return [("propagation", pointer, sc.MS_PRIVATE | sc.MS_REC)], 0
    if flags & sc.MS_SHARED and peers:
        return [("propagation", pointer, flags), ("private_parent", pointer, rootfs)], flags
    return [("propagation", pointer, sc.MS_SLAVE | sc.MS_REC)], flags


def compile_sysctl(linux: Node, namespaces: Namespaces) -> list[Step]:
    """`linux.sysctl`: each belongs to a namespace, and the container must have that namespace for itself."""
    steps: list[Step] = []
    for key, node in linux["sysctl"].members():
        value = node.required().string()
        parts = _read_sysctl_name(key, node)
        # One form of the name is checked, told and opened: a dot inside a component (eth0.1) is told as a slash.
        name = ".".join(part.replace(".", "/") for part in parts)
        kind, flag = _sysctl_namespace(parts)
        if not flag:
            raise node.error(f"sysctl {printable(name)} belongs to no namespace: it would change the host")
        if not namespaces.has(flag):
            hint = f'add {{"type": "{kind}"}} to /linux/namespaces'
            node.refuse(f"sysctl {printable(name)} needs a {kind} namespace", hint, about="/linux/namespaces")
        if kind == "uts":  # by its system call, which needs no /proc/sys: uname(2)
            if len(value.encode("utf-8", "surrogateescape")) > 64:
                raise node.error("is longer than 64 bytes")
            steps.append((parts[1], node.pointer, value))
        else:
            steps.append(("sysctl", node.pointer, "/".join(parts), value))
    return steps


def _read_sysctl_name(key: str, node: Node) -> list[str]:
    """Return the components of the path below /proc/sys.

    The dotted form is taken, and the slash form, as in sysctl(8): the first separator decides, and the other character
    belongs to a component. Raises SpecError for a component that is empty, `.` or `..`: the kernel would open another
    file than the name says.
    """
    dot, slash = key.find("."), key.find("/")
    if slash >= 0 and (dot < 0 or slash < dot):
        parts = key.split("/")
    else:
        parts = [part.replace("/", ".") for part in key.split(".")]
    if any(part in ("", ".", "..") for part in parts):
        raise node.error(
            f"{printable(repr(key))} is not the name of a sysctl: a part of it is empty, `.` or `..`, "
            "so that it could belong to no namespace"
        )
    return parts


def _sysctl_namespace(parts: list[str]) -> tuple[str, int]:
    """Return (the kind of namespace that isolates a sysctl, its clone flag); ("", 0) for a sysctl of the host."""
    if parts[0] == "kernel" and len(parts) == 2 and parts[1] in _IPC_SYSCTLS:
        return "ipc", sc.CLONE_NEWIPC
    if parts[:2] == ["fs", "mqueue"] and len(parts) > 2:
        return "ipc", sc.CLONE_NEWIPC
    if parts[0] == "net" and len(parts) > 1:
        return "network", sc.CLONE_NEWNET
    if parts[0] == "user" and len(parts) > 1:
        return "user", sc.CLONE_NEWUSER
    if parts in (["kernel", "domainname"], ["kernel", "hostname"]):
        return "uts", sc.CLONE_NEWUTS
    return "", 0
