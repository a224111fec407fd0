"""Compile `hooks` (config.md#posix-platform-hooks). Pure."""

from __future__ import annotations

from rootless.process.hooks import Hook
from rootless.steps.hooks import MOMENTS, RunHook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node


def compile_hooks(spec: Node) -> dict[str, list[RunHook]]:
    """Return the hooks of each moment that has any, in their order. Raises SpecError.

    crun's annotations run.oci.hooks.stdout and .stderr name files for the streams of all hooks.
    """
    node, annotations = spec["hooks"], spec["annotations"]
    stdout, stderr = (annotations[f"run.oci.hooks.{name}"].string() for name in ("stdout", "stderr"))
    hooks: dict[str, list[RunHook]] = {}
    for moment in MOMENTS:
        for item in node[moment].items():
            path = item["path"].required().string()
            if not path.startswith("/"):
                raise item["path"].wrong("an absolute path")
            args = item["args"].strings() or [path]
            env = item["env"].strings() if item["env"] else None
            timeout = item["timeout"].integer(0, 1, 2**31) if item["timeout"] else 0
            hook = Hook(item.pointer, path, args, env, timeout, stdout, stderr)
            hooks.setdefault(moment, []).append(RunHook(moment, hook))
    return hooks
