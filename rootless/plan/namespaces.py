"""Compile `linux.namespaces`, the id maps and `timeOffsets` (config-linux.md#namespaces). Pure."""

from __future__ import annotations

from rootless.config_node import closest
from rootless.errors import advice, printable
from rootless.kernel import syscalls as sc
from rootless.kernel.host import default_id_map
from rootless.kernel.namespaces import NAMESPACES, Join, Namespaces
from rootless.plan.mounts import read_mappings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node
    from rootless.kernel.host import Host, IdMap


def compile_namespaces(linux: Node, host: Host) -> Namespaces:
    """Return the container's namespaces. Raises SpecError.

    An ordinary user's container gets a user namespace even if none is listed, because the others need one.
    """
    result = Namespaces()
    joins = {}
    seen = set()
    for node in linux["namespaces"].items():
        kind = node["type"].choice(NAMESPACES.keys())
        if kind in seen:
            raise node.error(f"the {kind} namespace is listed twice")
        seen.add(kind)
        flag = NAMESPACES[kind][0]
        if node["path"].string():
            if not node["path"].string().startswith("/"):
                raise node["path"].wrong("an absolute path")
            joins[kind] = Join(flag, node["path"].string(), node["path"].pointer)
        else:
            result.new |= flag
    result.joins = [joins[kind] for kind in NAMESPACES if kind in joins]
    if host.is_root_here:  # join the user namespace last: its rights are lost then, and other namespaces may need them
        result.joins.sort(key=lambda join: join.flag == sc.CLONE_NEWUSER)
    if not result.has(sc.CLONE_NEWNS) and not host.is_root_here:
        linux["namespaces"].refuse(
            "no mount namespace is listed",
            hint='add {"type": "mount"}: a container without one mounts where its caller is, which takes root',
            about="/linux/namespaces",
        )
    _read_maps(linux, host, result)
    if not result.has(sc.CLONE_NEWUSER) and host.in_userns:
        result.uids, result.gids = host.uid_map, host.gid_map
        result.setgroups = host.setgroups
    else:
        result.uids, result.gids = result.uid_map, result.gid_map
    _read_time_offsets(linux["timeOffsets"], result)
    return result


def _read_maps(linux: Node, host: Host, result: Namespaces) -> None:
    uid, gid = linux["uidMappings"], linux["gidMappings"]
    if result.joins_one(sc.CLONE_NEWUSER):
        if uid.items() or gid.items():
            (uid or gid).refuse("mappings cannot be set for a user namespace that is joined by path")
        return
    if not result.new & sc.CLONE_NEWUSER:
        if host.is_root_here:
            if uid.items() or gid.items():
                hint = 'add {"type": "user"} to /linux/namespaces'
                (uid or gid).refuse("mappings need a user namespace", hint, about="/linux/namespaces")
            return
        result.new |= sc.CLONE_NEWUSER
    if bool(uid.items()) != bool(gid.items()):
        missing = gid if uid.items() else uid
        missing.refuse("is required: uidMappings and gidMappings go together", about=missing.pointer)
    if uid.items() or gid.items():
        result.uid_map, result.gid_map = read_mappings(uid), read_mappings(gid)
        _check_permitted(uid, result.uid_map, host, "uid")
        _check_permitted(gid, result.gid_map, host, "gid")
        return
    result.map_is_default = True
    ranges = bool(host.subuid and host.subgid)
    result.uid_map = default_id_map(host.uid, host.subuid if ranges else [])
    result.gid_map = default_id_map(host.gid, host.subgid if ranges else [])


def _explain_missing(kind: str, first: int, size: int) -> str:
    from rootless.userns.refusals import explain_missing

    return explain_missing(f"{kind}_map", [(0, first, size)])


def _check_permitted(node: Node, id_map: IdMap, host: Host, kind: str) -> None:
    """Refuse host ids that are neither the user's own nor its subordinate ids (user_namespaces(7), newuidmap(1))."""
    if host.is_root_here:
        return
    own = host.uid if kind == "uid" else host.gid
    for item, (inside, first, size) in zip(node.items(), id_map, strict=True):
        if first == own and size == 1:
            continue
        ranges = host.subuid if kind == "uid" else host.subgid
        if not any(start <= first and first + size <= start + count for start, count in ranges):
            last = first + size - 1
            if host.in_userns and (elsewhere := _explain_missing(kind, first, size)):
                item.refuse(f"the host {kind}s {first}-{last} are not yours to map", hint=elsewhere)
                continue
            if inside == 0 and size == 1:  # `convert` writes such a map: the maker's own id is root in the container
                item.refuse(f"this bundle maps ids of {kind} {first}, who converted it", hint=advice("others-bundle"))
                continue
            item.refuse(
                f"the host {kind}s {first}-{last} are not yours to map",
                hint=advice("others-ids", kind=kind, own=own),
            )


def _read_time_offsets(node: Node, result: Namespaces) -> None:
    for clock, offset in node.members():
        if clock not in ("monotonic", "boottime"):
            hint = closest(clock, ("monotonic", "boottime"))
            raise offset.error(f"found {printable(repr(clock))}, allowed is monotonic, boottime", hint)
        seconds = offset["secs"].integer(0, -(2**63), 2**63 - 1)
        result.offsets.append((clock, seconds, offset["nanosecs"].integer(0, 0, 999_999_999)))
    if result.offsets and not result.new & sc.CLONE_NEWTIME:
        hint = 'add {"type": "time"} to /linux/namespaces'
        node.refuse("needs a new time namespace", hint, about="/linux/namespaces")


def has_one_id(namespaces: Namespaces, host: Host) -> bool:
    """Return whether the container has one id because the user has no others."""
    has_one = all(len(id_map) == 1 and id_map[0][2] == 1 for id_map in (namespaces.uid_map, namespaces.gid_map))
    return has_one and not host.is_root_here and not (host.subuid and host.subgid)
