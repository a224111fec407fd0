"""Explain why the kernel refused an id map (user_namespaces(7))."""

from __future__ import annotations

import errno

from rootless.kernel.host import read_id_map
from rootless.userns.hints import explain_refusal, is_restricted_by_apparmor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import IdMap


def explain(error: OSError, kind: str, id_map: IdMap) -> str:
    """Return the hint for a map that the kernel refused, "" if nothing is known.

    kind: uid_map or gid_map. Ids that do not exist in this user namespace are checked first, because in a nested
    namespace AppArmor is not the reason.
    """
    if error.errno != errno.EPERM:
        return ""
    missing = explain_missing(kind, id_map)
    if missing:
        return missing
    if is_restricted_by_apparmor():
        return explain_refusal(error.errno)
    return f"CAP_SET{kind[:3].upper()} is needed in this user namespace, or a security module refuses it"


def explain_missing(kind: str, id_map: IdMap) -> str:
    """Return the hint that names the host ids of a map that do not exist in this user namespace, "" if all do."""
    try:
        own = read_id_map(f"/proc/self/{kind}")
    except OSError:
        return ""
    missing = []
    for _, first, size in id_map:
        if not any(start <= first and first + size <= start + count for _, start, count in _inside(own)):
            missing.append(f"{first}-{first + size - 1}" if size > 1 else str(first))
    if not missing:
        return ""
    own_ids = ", ".join(f"{first}-{first + size - 1}" if size > 1 else str(first) for first, _, size in own)
    return (
        f"the {kind[:3]}s {', '.join(missing)} do not exist in this user namespace, which has {own_ids or 'none'}: "
        "convert the bundle again here, or remove its mappings"
    )


def _inside(id_map: IdMap) -> IdMap:
    """Return the ids of this namespace with adjoining ranges joined, because a range that spans two is valid, too."""
    joined: IdMap = []
    for first, _, size in sorted(id_map):
        if joined and joined[-1][1] + joined[-1][2] == first:
            joined[-1] = (0, joined[-1][1], joined[-1][2] + size)
        else:
            joined.append((0, first, size))
    return joined
