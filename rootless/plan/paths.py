"""Compile `readonlyPaths` and `maskedPaths` (config-linux.md#masked-paths). Pure."""

from __future__ import annotations

from rootless.kernel.paths import normal_path
from rootless.steps.masks import MakePathReadonly, MaskPath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node
    from rootless.steps import Step


def compile_paths(linux: Node, context: tuple[str, str]) -> list[Step]:
    """Return steps for `readonlyPaths`, then for `maskedPaths`, so that a path in both is masked; each path once.

    context: the mount label (Mount.context) of the tmpfs that masks a directory. Raises SpecError.
    """
    readonly = {path: MakePathReadonly(pointer, path) for path, pointer in _read_paths(linux["readonlyPaths"]).items()}
    masks = {path: MaskPath(pointer, path, context) for path, pointer in _read_paths(linux["maskedPaths"]).items()}
    return [*readonly.values(), *masks.values()]


def _read_paths(paths: Node) -> dict[str, str]:
    """Return {normalised path: JSON pointer of its first entry}. Raises SpecError."""
    pointers: dict[str, str] = {}
    for node in paths.items():
        path = node.required().string()
        if not path.startswith("/"):
            raise node.wrong("an absolute path")
        pointers.setdefault(normal_path(path), node.pointer)
    return pointers
