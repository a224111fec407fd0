"""Compile id-mapped mounts: `uidMappings` and `gidMappings` of a mount, the options `idmap` and `ridmap`. Pure.

config.md#mounts; mount_setattr(2), "ID-mapped mounts". A mount's mapping turns the ids of its file system (containerID)
into ids of the host (hostID).
"""

from __future__ import annotations

from rootless.kernel import syscalls as sc
from rootless.plan.mounts import check_overlap, read_mappings
from rootless.steps.mounts import IdMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node
    from rootless.kernel.host import Host, IdMap
    from rootless.kernel.namespaces import Namespaces
    from rootless.steps.mounts import Mount


def compile_idmaps(mounts: Node, steps: list[Mount], namespaces: Namespaces, host: Host) -> None:
    """Give each mount that asks for it its id mapping. Raises SpecError.

    If only the runtime may map files of the caller's user namespace, the runtime makes the bind mount (`outside`).
    """
    for node, mount in zip(mounts.items(), steps, strict=True):
        extensions = mount.options.extensions
        if not mount.is_mapped:
            continue
        inline = next((e for e in extensions if e.startswith(("idmap=", "ridmap="))), "")
        if bool(node["uidMappings"]) != bool(node["gidMappings"]):
            raise node.error("uidMappings and gidMappings go together")
        uid_map, gid_map = _read_inline(node, inline) if inline else (None, None)
        if node["uidMappings"]:
            uid_map, gid_map = read_mappings(node["uidMappings"]), read_mappings(node["gidMappings"])
        userns = next((join.path for join in namespaces.joins if join.flag == sc.CLONE_NEWUSER), "")
        # In the caller's own user namespace init may map it too, and does so in the order of the mounts.
        mount.outside = mount.fstype == "bind" and host.is_root_here and namespaces.has(sc.CLONE_NEWUSER)
        if uid_map is None:
            if not namespaces.has(sc.CLONE_NEWUSER):
                raise node.error(
                    "an id-mapped mount has no mapping",
                    hint="give it uidMappings and gidMappings, or the container a user namespace",
                )
            if mount.outside and not userns:
                uid_map, gid_map = namespaces.uid_map, namespaces.gid_map
        recursive = "ridmap" in extensions or inline.startswith("ridmap")
        mount.id_map = IdMapping(uid_map, gid_map, userns=userns if uid_map is None else "", recursive=recursive)


def _read_inline(node: Node, option: str) -> tuple[IdMap, IdMap]:
    """Return the maps of crun's `idmap=uids=0-1000-1#1-2000-5;gids=0-1000-1`: container id, host id, size."""
    maps: dict[str, IdMap] = {"uids": [], "gids": []}
    for part in option.partition("=")[2].split(";"):
        kind, _, ranges = part.partition("=")
        for words in (each.split("-") for each in ranges.split("#")):
            if kind not in maps or len(words) != 3 or not all(word.isascii() and word.isdecimal() for word in words):
                raise node["options"].error(f"found {option!r}, allowed is such as idmap=uids=0-1000-1;gids=0-1000-1")
            maps[kind].append((int(words[0]), int(words[1]), int(words[2])))
    if not maps["uids"] or not maps["gids"]:
        raise node["options"].error(f"{option!r} lacks uids or gids")
    for id_map in maps.values():
        check_overlap(node["options"], id_map)
    return maps["uids"], maps["gids"]
