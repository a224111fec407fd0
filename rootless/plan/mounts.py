"""Compile `mounts`: each entry of config.json becomes one step (config.md#mounts). Pure."""

from __future__ import annotations

from rootless.config_node import closest
from rootless.errors import printable
from rootless.kernel import syscalls as sc
from rootless.kernel.paths import is_below, normal_path, tidy_path
from rootless.steps.binds import BindMount
from rootless.steps.file_systems import MountFileSystem
from rootless.steps.mounts import ATTRIBUTES, PROPAGATION, SUPERBLOCK, MountOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node
    from rootless.steps.mounts import Mount

_BIND_FLAGS = (
    sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV | sc.MOUNT_ATTR_NOEXEC | sc.MOUNT_ATTR_NOSYMFOLLOW
)
# Options that only mount(8) and systemd.mount(5) read, in fstab(5). Options x-NAME and X-NAME are such, too.
_FSTAB = (
    "nofail", "_netdev", "auto", "noauto", "user", "nouser", "users", "nousers", "owner", "noowner", "group", "nogroup",
    "bootwait", "nobootwait", "quiet_fail",
)  # fmt: skip
_EXTENSIONS = ("tmpcopyup", "idmap", "ridmap", "copy-symlink", "src-nofollow", "dest-nofollow")
# The only places below /proc that may be mounted over, as in runc (CVE-2019-16884, CVE-2023-27561).
_PROC_PIECES = (
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
    "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
)  # fmt: skip


def known_options() -> list[str]:
    """Return the names of all mount options, for `features`."""
    recursive = ["r" + name for name in ATTRIBUTES if name != "defaults"]
    return sorted({*ATTRIBUTES, *recursive, *SUPERBLOCK, *PROPAGATION, *_EXTENSIONS, "bind", "rbind", "remount"})


def compile_mounts(mounts: Node, bundle: str, rootfs: str, warnings: list[str]) -> list[Mount]:
    """Return the `mounts` array as steps, in the order of the config. Adds to `warnings`. Raises SpecError."""
    return [_compile_mount(node, bundle, rootfs, warnings) for node in mounts.items()]


def _compile_mount(node: Node, bundle: str, rootfs: str, warnings: list[str]) -> Mount:
    target = normal_path(node["destination"].required().string())
    if is_below(target, rootfs) and target != rootfs:  # as in runc: a host's path into the rootfs
        target = normal_path(target.removeprefix(rootfs))
    fstype, source = node["type"].string(), node["source"].string()
    options = MountOptions()
    for option in node["options"].items():
        _read_option(option, options)
    options.bind = options.bind or fstype == "bind"
    kind: type[Mount] = MountFileSystem
    if options.bind:
        kind, fstype = BindMount, "bind"
        if not source:
            raise node["source"].error("a bind mount needs a source")
        source = tidy_path(source, bundle)
        _complete_bind(options, source)
        if options.data:
            warnings += _ignored_options(node["options"], options.data)
            options.data = []
    elif not fstype:
        raise node["type"].error("is required for a mount that is not a bind mount")
    elif fstype == "cgroup2":
        fstype = "cgroup"
    if "copy-symlink" in options.extensions and {"src-nofollow", "dest-nofollow"} & set(options.extensions):
        raise node["options"].error("copy-symlink excludes src-nofollow and dest-nofollow")
    mount = kind(node.pointer, target, fstype, source, options)
    mount.is_mapped = bool(node["uidMappings"] or node["gidMappings"]) or any(
        name.startswith(("idmap", "ridmap")) for name in options.extensions
    )
    mount.needs_procfs = _check_proc_and_sys(node, mount)
    return mount


def _complete_bind(options: MountOptions, source: str) -> None:
    if options.attr_set or options.attr_clr:  # as runc: a bind mount with flags has no others
        options.implied_clr = _BIND_FLAGS & ~options.attr_set & ~options.attr_clr
    if options.recursive and is_below(source, "/sys"):
        # rbind includes what is mounted on the host's /sys, such as cgroups that the user may write (CVE-2023-25809).
        options.rec_set |= options.attr_set & sc.MOUNT_ATTR_RDONLY


def _ignored_options(options: Node, data: list[str]) -> list[str]:
    """Return a line for each option of a bind mount that is for a file system, and so has no effect.

    The kernel ignores the data of a bind mount (mount(2), MS_BIND). `mode=755`, which other runtimes accept, gets a
    warning. A word without `=`, such as `readonly`, is refused, because it looks like a flag. Raises SpecError.
    """
    lines = []
    for option in options.items():
        name = option.string()
        if name not in data:
            continue
        if "=" not in name:
            hint = closest(name, known_options()) or "a file system's own options go with its own mount"
            option.refuse(f"found {printable(repr(name))}, which is not an option of a bind mount", hint)
        lines.append(f"option without effect on a bind mount: {option.pointer}: {printable(name)}")
    return lines


def complete_overlays(mounts: list[Mount]) -> None:
    """Add userxattr to overlays of a user namespace, because overlay cannot write trusted.* attributes there.

    Without attributes a new directory does not hide the one below it (Documentation/filesystems/overlayfs.rst).
    """
    for mount in mounts:
        if mount.fstype == "overlay" and not any(o.startswith("userxattr") for o in mount.options.data):
            mount.options.data.append("userxattr")


def _read_option(option: Node, options: MountOptions) -> None:
    name = option.required().string()
    if name in ("bind", "rbind"):
        options.bind = True
        options.recursive = options.recursive or name == "rbind"
    elif name in ATTRIBUTES:
        options.attr_set, options.attr_clr = _combine(options.attr_set, options.attr_clr, *ATTRIBUTES[name])
    elif name in PROPAGATION:
        options.propagation.append(PROPAGATION[name])
    elif name[:1] == "r" and name[1:] in ATTRIBUTES and name != "rdefaults":
        options.rec_set, options.rec_clr = _combine(options.rec_set, options.rec_clr, *ATTRIBUTES[name[1:]])
    elif name in _EXTENSIONS or name.startswith(("idmap=", "ridmap=")):
        options.extensions.append(name)
    elif name in SUPERBLOCK:
        setting, clearing = SUPERBLOCK[name]
        options.superblock = options.superblock & ~clearing | setting
    elif name not in ("", "remount", *_FSTAB) and not name.startswith(("x-", "X-", "comment=")):
        options.data.append(name)


def _combine(attr_set: int, attr_clr: int, setting: int, clearing: int) -> tuple[int, int]:
    """Return (set, cleared) attributes after one more option. A later option wins over an earlier one."""
    return attr_set & ~clearing | setting, attr_clr & ~setting | clearing


def _check_proc_and_sys(node: Node, mount: Mount) -> str:
    """Return what the source of a bind mount onto or below /proc must be: the "root" of a procfs, a "piece", or "".

    Raises SpecError for a mount that is not allowed there.
    """
    target, fstype = mount.target, mount.fstype
    if target == "/" and fstype not in ("bind", "overlay"):
        raise node["destination"].error("a mount cannot replace the root")
    if target == "/proc" and fstype != "proc":
        if fstype != "bind":
            raise node["destination"].error(
                f"{printable(target)} cannot be mounted because it is not of type proc", _ONTO_PROC
            )
        return "root"
    if is_below(target, "/proc") and target != "/proc" and target not in _PROC_PIECES:
        if fstype != "bind" or not is_below(normal_path(mount.source), "/proc"):
            hint = f"below /proc only {', '.join(_PROC_PIECES)} can be mounted over"
            raise node["destination"].error(f"{printable(target)} cannot be mounted because it is inside /proc", hint)
        return "piece"
    return ""


_ONTO_PROC = "mount type proc there, or bind the root of a proc file system"


def read_mappings(node: Node) -> list[tuple[int, int, int]]:
    """Return uidMappings or gidMappings as [(container id, host id, size)]. Raises SpecError.

    (config-linux.md#user-namespace-mappings)
    """
    mappings = []
    for item in node.items():
        size = item["size"].required().uint32()
        if size == 0:
            raise item["size"].wrong("a size of at least 1")
        mappings.append((item["containerID"].required().uint32(), item["hostID"].required().uint32(), size))
    check_overlap(node, mappings)
    return mappings


def check_overlap(node: Node, mappings: list[tuple[int, int, int]]) -> None:
    """Refuse ranges that overlap, because the kernel refuses a map with an id twice (user_namespaces(7))."""
    for kind in (0, 1):
        spans = sorted((m[kind], m[kind] + m[2]) for m in mappings)
        for (_, end), (start, _) in zip(spans, spans[1:], strict=False):  # noqa: RUF007
            if start < end:
                raise node.error("two ranges overlap")
