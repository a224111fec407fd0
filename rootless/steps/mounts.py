"""Describe a mount of config.json as a step, and hold the tables of its options (config.md#mounts, mount(8))."""

from __future__ import annotations

from rootless.errors import printable
from rootless.kernel import syscalls as sc
from rootless.kernel.paths import is_below
from rootless.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import IdMap
    from rootless.steps import Words

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


class MountOptions:
    """The `options` of a mount, sorted by the system call that takes them.

    attr_set, attr_clr: mount attributes; rec_set, rec_clr: attributes for all mounts below, too (mount_setattr(2));
    implied_clr: attributes to clear if the kernel allows it; propagation: MS_* flags in their order; superblock: MS_*
    flags of the file system; data: the file system's own options; extensions: options of crun and runc.
    """

    __slots__ = (
        "attr_clr", "attr_set", "bind", "data", "extensions", "implied_clr", "propagation", "rec_clr", "rec_set",
        "recursive", "superblock",
    )  # fmt: skip

    def __init__(self) -> None:
        self.bind = False
        self.recursive = False
        self.attr_set = 0
        self.attr_clr = 0
        self.rec_set = 0
        self.rec_clr = 0
        self.implied_clr = 0
        self.propagation: list[int] = []
        self.superblock = 0
        self.data: list[str] = []
        self.extensions: list[str] = []

    def names(self) -> list[str]:
        """Return the options as mount(8) prints them, without those for id mapping and label."""
        names = ["rbind" if self.recursive else "bind"] if self.bind else []
        names += _attribute_names(self.attr_set, self.attr_clr)
        names += [f"r{name}" for name in _attribute_names(self.rec_set, self.rec_clr)]
        names += [name for flags in self.propagation for name in propagation_names(flags)]
        names += [name for name, (flag, _) in SUPERBLOCK.items() if self.superblock & flag]
        return [*names, *self.extensions, *self.data]


class IdMapping:
    """The id mapping of a mount (mount_setattr(2), "ID-mapped mounts").

    uid_map, gid_map: None for the container's own maps; userns: the path of a user namespace that has the maps, or "";
    recursive: whether the mounts below are mapped too.
    """

    __slots__ = ("gid_map", "recursive", "uid_map", "userns")

    def __init__(self, uid_map: IdMap | None, gid_map: IdMap | None, *, userns: str, recursive: bool) -> None:
        self.uid_map = uid_map
        self.gid_map = gid_map
        self.userns = userns
        self.recursive = recursive

    def __str__(self) -> str:
        words = (("uid_map", self.uid_map), ("gid_map", self.gid_map), ("userns", repr(self.userns)))
        return ",".join([*(f"{key}={value}" for key, value in words), f"recursive={self.recursive}"])


class Mount(Step):
    """A mount of config.json. Its two kinds are MountFileSystem and BindMount.

    target: the normalised path in the container; fstype: "bind" for a bind mount; source: an absolute path of the host
    for a bind mount, else the file system's source; context: (key, label) of linux.mountLabel, ("", "") for none;
    outside: whether the runtime makes the mount, because init may not; is_mapped: whether config.json asks for mapped
    ids; needs_procfs: "root" if the source of a bind mount must be the root of a real procfs, "piece" if it must be a
    part of one, else "".
    """

    __slots__ = ("context", "fstype", "id_map", "is_mapped", "needs_procfs", "options", "outside", "source", "target")

    def __init__(self, pointer: str, target: str, fstype: str, source: str, options: MountOptions) -> None:
        super().__init__(pointer)
        self.target = target
        self.fstype = fstype
        self.source = source
        self.options = options
        self.context = ("", "")
        self.is_mapped = False
        self.id_map: IdMapping | None = None
        self.outside = False
        self.needs_procfs = ""

    def words(self) -> Words:
        options = self.options.names()
        if self.context[0]:
            options.append("=".join(self.context))
        if self.id_map:
            options.append(str(self.id_map).replace(" ", ""))
        words = ("mount", self.fstype, self.source or "none", self.target)
        return (*words, ",".join(map(printable, options))) if options else words

    def at_target(self, error: OSError) -> OSError:
        """Return the error with the whole target as its file name, instead of the one component that failed."""
        name = error.filename
        if not isinstance(name, str) or not name.startswith("/") or is_below(self.target, name):
            error.filename = self.target
        return error


def propagation_names(flags: int) -> list[str]:
    """Return the option of mount(8) for propagation flags, [] for none."""
    return [name for name, value in PROPAGATION.items() if value == flags]


def _attribute_names(attr_set: int, attr_clr: int) -> list[str]:
    """Return the options for mount attributes. Access times are one field of the attributes and give one name."""
    names = []
    for name in ("ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "nodiratime", "diratime",
                 "nosymfollow", "symfollow"):  # fmt: skip
        setting, clearing = ATTRIBUTES[name]
        if attr_set & setting or attr_clr & clearing:
            names.append(name)
    if attr_clr & sc.MOUNT_ATTR__ATIME == sc.MOUNT_ATTR__ATIME:
        atime = {sc.MOUNT_ATTR_NOATIME: "noatime", sc.MOUNT_ATTR_STRICTATIME: "strictatime"}
        names.append(atime.get(attr_set & sc.MOUNT_ATTR__ATIME, "relatime"))
    return names
