"""`root` and `rootfsPropagation` (config.md#root, config-linux.md#rootfs-mount-propagation). Pure."""

from __future__ import annotations

from rootless.kernel import syscalls as sc
from rootless.kernel.paths import tidy_path
from rootless.steps.mounts import PROPAGATION
from rootless.steps.root import MakeParentPrivate, SetPropagation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.node import Node
    from rootless.steps import Step


def compile_root(root: Node, bundle: str) -> tuple[str, bool]:
    """Return the absolute path of the rootfs, and whether it becomes read-only. Raises SpecError."""
    path = root.required()["path"].required().string()
    if not path:
        root["path"].refuse("is empty")
    return tidy_path(path, bundle), root["readonly"].boolean()


def compile_propagation(linux: Node, rootfs: str, *, peers: bool) -> tuple[list[Step], int]:
    """Return the steps for `/` before anything is mounted, and the rootfs's own propagation afterwards (0: none).

    peers: whether what is shared may stay the host's peer, so that a bind mount that asks for it brings the container's
    mounts out (Kubernetes' Bidirectional). Otherwise nothing of the container reaches the host, even if the host's root
    is shared: mount_namespaces(7).
    """
    flags = linux["rootfsPropagation"].choice(PROPAGATION, 0)
    pointer = linux["rootfsPropagation"].pointer
    if flags & sc.MS_PRIVATE:  # from the start, and not at the end: a mount may ask to be shared
        return [SetPropagation(pointer, sc.MS_PRIVATE | sc.MS_REC)], 0
    if flags & sc.MS_SHARED and peers:
        return [SetPropagation(pointer, flags), MakeParentPrivate(pointer, rootfs)], flags
    return [SetPropagation(pointer, sc.MS_SLAVE | sc.MS_REC)], flags
