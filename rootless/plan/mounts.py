"""`mounts`: each entry of config.json becomes one mount step (runtime-spec, config.md#mounts). Pure."""

from __future__ import annotations

from rootless.errors import printable
from rootless.kernel import syscalls as sc
from rootless.node import closest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.node import Node

# option: (attributes set, attributes cleared), as mount_setattr(2) takes them.
ATTRIBUTES = {
    "ro": (sc.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, sc.MOUNT_ATTR_RDONLY),
    "nosuid": (sc.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, sc.MOUNT_ATTR_NOSUID),
    "nodev": (sc.MOUNT_ATTR_NODEV, 0),
    "dev": (0, sc.MOUNT_ATTR_NODEV),
    "noexec": (sc.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, sc.MOUNT_ATTR_NOEXEC),
    "nodiratime": (sc.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, sc.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (sc.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, sc.MOUNT_ATTR_NOSYMFOLLOW),
    "relatime": (sc.MOUNT_ATTR_RELATIME, sc.MOUNT_ATTR__ATIME),
    "norelatime": (0, sc.MOUNT_ATTR__ATIME),
    "noatime": (sc.MOUNT_ATTR_NOATIME, sc.MOUNT_ATTR__ATIME),
    "atime": (0, sc.MOUNT_ATTR__ATIME),
    "strictatime": (sc.MOUNT_ATTR_STRICTATIME, sc.MOUNT_ATTR__ATIME),
    "nostrictatime": (0, sc.MOUNT_ATTR__ATIME),
    "defaults": (0, 0),
}
_BIND_FLAGS = (
    sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV | sc.MOUNT_ATTR_NOEXEC | sc.MOUNT_ATTR_NOSYMFOLLOW
)
# Flags of the superblock, for mount(2): (set, cleared).
SUPERBLOCK = {
    "sync": (sc.MS_SYNCHRONOUS, 0), "async": (0, sc.MS_SYNCHRONOUS),
    "dirsync": (sc.MS_DIRSYNC, 0),
    "mand": (sc.MS_MANDLOCK, 0), "nomand": (0, sc.MS_MANDLOCK),
    "lazytime": (sc.MS_LAZYTIME, 0), "nolazytime": (0, sc.MS_LAZYTIME),
    "iversion": (sc.MS_I_VERSION, 0), "noiversion": (0, sc.MS_I_VERSION),
    "silent": (sc.MS_SILENT, 0), "loud": (0, sc.MS_SILENT),
}  # fmt: skip
PROPAGATION = {
    "shared": sc.MS_SHARED,
    "rshared": sc.MS_SHARED | sc.MS_REC,
    "slave": sc.MS_SLAVE,
    "rslave": sc.MS_SLAVE | sc.MS_REC,
    "private": sc.MS_PRIVATE,
    "rprivate": sc.MS_PRIVATE | sc.MS_REC,
    "unbindable": sc.MS_UNBINDABLE,
    "runbindable": sc.MS_UNBINDABLE | sc.MS_REC,
}
# What mount(8) and systemd.mount(5) read in fstab(5) and no file system does; and every x-NAME and X-NAME.
_FSTAB = (
    "nofail", "_netdev", "auto", "noauto", "user", "nouser", "users", "nousers", "owner", "noowner", "group", "nogroup",
    "bootwait", "nobootwait", "quiet_fail",
)  # fmt: skip
_EXTENSIONS = ("tmpcopyup", "idmap", "ridmap", "copy-symlink", "src-nofollow", "dest-nofollow")
# Over and below these only what runc allows may be mounted (CVE-2019-16884, CVE-2023-27561).
_PROC_PIECES = (
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
    "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
)  # fmt: skip


def known_options() -> list[str]:
    """Every mount option by name, for `features`."""
    recursive = ["r" + name for name in ATTRIBUTES if name != "defaults"]
    return sorted({*ATTRIBUTES, *recursive, *SUPERBLOCK, *PROPAGATION, *_EXTENSIONS, "bind", "rbind", "remount"})


def compile_mounts(mounts: Node, bundle: str, rootfs: str) -> list[tuple[Any, ...]]:
    """The `mounts` array as steps ("mount", pointer, {...}), in the order of the config."""
    return [_compile_mount(node, bundle, rootfs) for node in mounts.items()]


def _compile_mount(node: Node, bundle: str, rootfs: str) -> tuple[Any, ...]:
    target = normal_path(node["destination"].required().string())
    if is_below(target, rootfs) and target != rootfs:  # as runc: the place as the host names it
        target = normal_path(target.removeprefix(rootfs))
    fstype = node["type"].string()
    entry: dict[str, Any] = {
        "pointer": node.pointer, "target": target, "fstype": fstype, "source": node["source"].string(),
        "bind": False, "recursive": False,
        "attr_set": 0, "attr_clr": 0, "rec_set": 0, "rec_clr": 0, "propagation": [], "data": [], "extensions": [],
        "superblock": 0,
    }  # fmt: skip
    for option in node["options"].items():
        _read_option(option, entry)
    if fstype == "bind":
        entry["bind"] = True
    if entry["bind"]:
        entry["fstype"] = "bind"
        if not entry["source"]:
            raise node["source"].error("a bind mount needs a source")
        entry["source"] = tidy_path(entry["source"], bundle)
        if entry["data"]:
            _read_bind_data(node["options"], entry)
        if entry["attr_set"] or entry["attr_clr"]:  # as runc: a bind mount with flags has no others
            entry["implied_clr"] = _BIND_FLAGS & ~entry["attr_set"] & ~entry["attr_clr"]
        if entry["recursive"] and is_below(entry["source"], "/sys"):
            # What is mounted on the host's /sys comes along: the cgroups, of which a user owns some (CVE-2023-25809).
            entry["rec_set"] |= entry["attr_set"] & sc.MOUNT_ATTR_RDONLY
    elif not fstype:
        raise node["type"].error("is required for a mount that is no bind mount")
    elif fstype == "cgroup2":
        entry["fstype"] = "cgroup"
    if (
        node["uidMappings"]
        or node["gidMappings"]
        or any(e.startswith(("idmap", "ridmap")) for e in entry["extensions"])
    ):
        entry["idmap"] = {}  # plan/idmaps.py
    if "copy-symlink" in entry["extensions"] and {"src-nofollow", "dest-nofollow"} & set(entry["extensions"]):
        raise node["options"].error("copy-symlink goes with neither src-nofollow nor dest-nofollow")
    _check_proc_and_sys(node, entry)
    return ("mount", node.pointer, entry)


def _read_bind_data(options: Node, entry: dict[str, Any]) -> None:
    """The kernel passes over the data of a bind mount (mount(2), MS_BIND). `mode=755`, which runs everywhere, is said
    to have no effect; but `readonly` is no `ro`, and is refused."""
    for option in options.items():
        if option.value not in entry["data"]:
            continue
        if "=" not in option.value:
            hint = closest(option.string(), known_options()) or "a file system's own options go with its own mount"
            option.refuse(f"found {printable(repr(option.value))}, which is no option of a bind mount", hint)
        entry["ignored"] = [*entry.get("ignored", ()), f"{option.pointer}: {printable(option.value)}"]
    entry["data"] = []


def ignored_options(steps: list[tuple[Any, ...]]) -> list[str]:
    """A line for each option that has no effect."""
    ignored = [found for step in steps if step[0] == "mount" for found in step[2].get("ignored", ())]
    return [f"option without effect on a bind mount: {found}" for found in ignored]


def complete_overlays(mounts: list[tuple[Any, ...]]) -> None:
    """In a user namespace overlay may write no trusted.* attributes, and without them no directory hides the one below
    it: userxattr has it use user.* (mount(8), Documentation/filesystems/overlayfs.rst)."""
    for _, _, entry in mounts:
        if entry["fstype"] == "overlay" and not any(o.startswith("userxattr") for o in entry["data"]):
            entry["data"].append("userxattr")


def _read_option(option: Node, entry: dict[str, Any]) -> None:
    name = option.required().string()
    if name in ("bind", "rbind"):
        entry["bind"] = True
        entry["recursive"] = entry["recursive"] or name == "rbind"
    elif name in ATTRIBUTES:
        _combine(entry, "attr", *ATTRIBUTES[name])
    elif name in PROPAGATION:
        entry["propagation"].append(PROPAGATION[name])
    elif name[:1] == "r" and name[1:] in ATTRIBUTES and name != "rdefaults":
        _combine(entry, "rec", *ATTRIBUTES[name[1:]])
    elif name in _EXTENSIONS or name.startswith(("idmap=", "ridmap=")):
        entry["extensions"].append(name)
    elif name in SUPERBLOCK:
        setting, clearing = SUPERBLOCK[name]
        entry["superblock"] = entry["superblock"] & ~clearing | setting
    elif name not in ("", "remount", *_FSTAB) and not name.startswith(("x-", "X-", "comment=")):
        entry["data"].append(name)


def _combine(entry: dict[str, Any], kind: str, attr_set: int, attr_clr: int) -> None:
    """The later option wins over the earlier one."""
    entry[kind + "_set"] = entry[kind + "_set"] & ~attr_clr | attr_set
    entry[kind + "_clr"] = entry[kind + "_clr"] & ~attr_set | attr_clr


def _check_proc_and_sys(node: Node, entry: dict[str, Any]) -> None:
    target, fstype = entry["target"], entry["fstype"]
    if target == "/" and fstype not in ("bind", "overlay"):
        raise node["destination"].error("a mount cannot replace the root")
    if target == "/proc" and fstype != "proc":
        if fstype != "bind":
            raise node["destination"].error(
                f"{printable(target)} cannot be mounted because it is not of type proc", _ONTO_PROC
            )
        entry["needs_procfs"] = "root"
    elif is_below(target, "/proc") and target != "/proc" and target not in _PROC_PIECES:
        if fstype != "bind" or not is_below(normal_path(entry["source"]), "/proc"):
            hint = f"below /proc only {', '.join(_PROC_PIECES)} can be mounted over"
            raise node["destination"].error(f"{printable(target)} cannot be mounted because it is inside /proc", hint)
        entry["needs_procfs"] = "piece"


_ONTO_PROC = "only a mount of type proc goes there, or a bind mount of the root of one"


def is_below(path: str, top: str) -> bool:
    """Return whether a normal path is `top` or below it, by whole components: `/procsys` is not below `/proc`."""
    return path == top or path.startswith(top.rstrip("/") + "/")


def tidy_path(path: str, base: str) -> str:
    """Return a path of the host as an absolute one, without `.` and empty components.

    A `..` stays, because only the kernel knows where it leads (path_resolution(7)).
    """
    if not path.startswith("/"):
        path = f"{base}/{path}"
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def normal_path(path: str) -> str:
    """An absolute, lexically clean path in the container (a relative destination is below /, as in runc)."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part and part != ".":
            parts.append(part)
    return "/" + "/".join(parts)


def read_mappings(node: Node) -> list[tuple[int, int, int]]:
    """uidMappings or gidMappings as (container id, host id, size): config-linux.md#user-namespace-mappings."""
    mappings = []
    for item in node.items():
        size = item["size"].required().uint32()
        if size == 0:
            raise item["size"].wrong("a size of at least 1")
        mappings.append((item["containerID"].required().uint32(), item["hostID"].required().uint32(), size))
    check_overlap(node, mappings)
    return mappings


def check_overlap(node: Node, mappings: list[tuple[int, int, int]]) -> None:
    """The kernel takes no map with an id twice: user_namespaces(7)."""
    for kind in (0, 1):
        spans = sorted((m[kind], m[kind] + m[2]) for m in mappings)
        for (_, end), (start, _) in zip(spans, spans[1:], strict=False):  # noqa: RUF007 (itertools is no import for this)
            if start < end:
                raise node.error("two ranges overlap")
