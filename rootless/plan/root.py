"""Compile `root` and `rootfsPropagation` (config.md#root, config-linux.md#rootfs-mount-propagation). Pure."""

from __future__ import annotations

from rootless.kernel import syscalls as sc
from rootless.kernel.paths import tidy_path
from rootless.steps.mounts import PROPAGATION
from rootless.steps.root import MakeParentPrivate, SetPropagation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node
    from rootless.steps import Step


def compile_root(root: Node, bundle: str) -> tuple[str, bool]:
    """Return (absolute path of the rootfs, whether it becomes read-only). Raises SpecError."""
    path = root.required()["path"].required().string()
    if not path:
        root["path"].refuse("is empty")
    return tidy_path(path, bundle), root["readonly"].boolean()


def compile_propagation(linux: Node, rootfs: str, *, peers: bool) -> tuple[list[Step], int]:
    """Return (steps for `/` before anything is mounted, propagation that the rootfs gets at the end, 0 for none).

    peers: whether shared mounts may stay peers of the host's, so that mounts in the container reach the host through a
    bind mount that asks for it (Kubernetes' Bidirectional). Otherwise no mount of the container reaches the host, even
    if the host's root is shared (mount_namespaces(7)).
    """
    flags = linux["rootfsPropagation"].choice(PROPAGATION, 0)
    pointer = linux["rootfsPropagation"].pointer
    if flags & sc.MS_PRIVATE:  # set at the start, because setting it at the end would undo mounts that ask to be shared
        return [SetPropagation(pointer, sc.MS_PRIVATE | sc.MS_REC)], 0
    if flags & sc.MS_SHARED and peers:
        return [SetPropagation(pointer, flags), MakeParentPrivate(pointer, rootfs)], flags
    return [SetPropagation(pointer, sc.MS_SLAVE | sc.MS_REC)], flags
