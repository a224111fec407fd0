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
    from rootless.kernel.hints import hint

    return hint("no-map-right", kind=kind[:3].upper()).text


def explain_missing(kind: str, id_map: IdMap) -> str:
    """Return the hint that names the host ids of a map that do not exist in this user namespace, "" if all do."""
    try:
        own = read_id_map(f"/proc/self/{kind}")
    except OSError:
        return ""
    missing = []
    for _, first, size in id_map:
        if not any(start <= first and first + size <= start + count for _, start, count in _inside(own)):
            missing.append(_range(first, size))
    if not missing:
        return ""
    from rootless.kernel.hints import hint

    here = ", ".join(_range(first, size) for first, _, size in own)
    return hint("ids-not-here", kind=kind[:3], ids=", ".join(missing), own=here or "none").text


def _range(first: int, size: int) -> str:
    return f"{first}-{first + size - 1}" if size > 1 else str(first)


def _inside(id_map: IdMap) -> IdMap:
    """Return the ids of this namespace with adjoining ranges joined, because a range that spans two is valid, too."""
    joined: IdMap = []
    for first, _, size in sorted(id_map):
        if joined and joined[-1][1] + joined[-1][2] == first:
            joined[-1] = (0, joined[-1][1], joined[-1][2] + size)
        else:
            joined.append((0, first, size))
    return joined
