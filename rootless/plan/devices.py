"""Compile the default devices and `linux.devices` (config-linux.md#default-devices, #devices). Pure."""

from __future__ import annotations

from _stat import S_IFBLK, S_IFCHR, S_IFIFO

from rootless.kernel.paths import normal_path
from rootless.steps.devices import AttachDevice, BindDevice, Device, Link, MakeDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node
    from rootless.kernel.host import Host
    from rootless.steps import Step
    from rootless.steps.mounts import Mount

# config-linux.md#default-devices
DEFAULT_DEVICES = {
    "/dev/null": (1, 3), "/dev/zero": (1, 5), "/dev/full": (1, 7), "/dev/random": (1, 8), "/dev/urandom": (1, 9),
    "/dev/tty": (5, 0),
}  # fmt: skip
_LINKS = {
    "/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}  # fmt: skip
_DEVICE_TYPES = {"c": S_IFCHR, "u": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}


def compile_devices(linux: Node, mounts: list[Mount], *, may_make_nodes: bool, outside: bool) -> list[Step]:
    """Return steps for the default devices and links, then for `linux.devices`; [] if /dev is a bind mount, as in runc.

    may_make_nodes: whether init may; outside: whether the runtime can make them for init. Raises SpecError.
    """
    if any(mount.target == "/dev" and mount.fstype == "bind" for mount in mounts):
        return []
    devices: dict[str, Device] = {}
    own_pts = any(mount.target == "/dev/pts" for mount in mounts)
    mounted = {mount.target for mount in mounts}  # a default device must not hide a mount of config.json
    default: type[Device] = MakeDevice if may_make_nodes else BindDevice
    for path, (major, minor) in DEFAULT_DEVICES.items():
        if path not in mounted:
            devices[path] = default("/linux/devices", path, S_IFCHR, major, minor, 0o666, 0, 0, is_default=True)
    for node in linux["devices"].items():
        device = _read_device(node, may_make_nodes=may_make_nodes, outside=outside)
        if device.path != "/dev/ptmx" or not own_pts:  # as in runc it is the link into the container's own devpts
            devices[device.path] = device
    links = [Link("/linux/devices", path, target) for path, target in _LINKS.items()]
    if own_pts:
        links.append(Link("/linux/devices", "/dev/ptmx", "pts/ptmx"))
    return [*devices.values(), *links]


def _read_device(node: Node, *, may_make_nodes: bool, outside: bool) -> Device:
    path = normal_path(node["path"].required().string())
    kind = node["type"].required().choice(_DEVICE_TYPES)
    if kind == S_IFIFO:
        major, minor = node["major"].integer(0, 0, 2**32 - 1), node["minor"].integer(0, 0, 2**32 - 1)
    else:
        major = node["major"].required().integer(0, 0, 2**12 - 1)
        minor = node["minor"].required().integer(0, 0, 2**20 - 1)
    if path == "/":
        raise node["path"].error("is not a path for a device")
    mode = node["fileMode"].integer(0o666, 0, 0o177777) & 0o7777
    ids = node["uid"].uint32(), node["gid"].uint32()
    if outside and kind != S_IFIFO:
        return AttachDevice(node.pointer, path, kind, major, minor, mode, *ids)
    if may_make_nodes or kind == S_IFIFO:
        return MakeDevice(node.pointer, path, kind, major, minor, mode, *ids)
    return BindDevice(node.pointer, path, kind, major, minor, mode if node["fileMode"] else -1, *ids)


def read_warnings(steps: list[Step], host: Host) -> list[str]:
    """Return a line for each device of config.json that is bound from the host and has another mode or owner there."""
    warnings = []
    for step in steps:
        if not isinstance(step, BindDevice) or step.is_default:
            continue
        mode = host.device_mode(step.path, step.kind, step.rdev)
        if mode < 0:
            continue  # `create` fails with the reason
        if step.mode not in (-1, mode):
            what = f"{step.path} has the host's mode {mode:04o}, not {step.mode:04o}"
            warnings.append(f"{what}: {step.pointer}/fileMode; hint: only root makes nodes")
        if step.uid or step.gid:
            what = f"{step.path} has the host's owner, not {step.uid}:{step.gid}"
            warnings.append(f"{what}: {step.pointer}/uid; hint: only root makes nodes")
    return warnings
