"""Read crun's annotations, run.oci.*: warn of those without effect, and refuse those that must not be ignored. Pure."""

from __future__ import annotations

from rootless.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node

PREFIX = "run.oci."
_FOLLOWED = (
    "hooks.stdout", "hooks.stderr", "keep_original_groups", "mount_context_type", "pidfd_receiver",
    "seccomp.receiver", "seccomp_bpf_data", "seccomp_fail_unknown_syscall",
)  # fmt: skip
# Annotations that change what the container is, so that they cannot be ignored: {name: hint what to do instead}.
_REFUSED = {
    "handler": "a container of its own kind (a virtual machine, WebAssembly) is crun's",
    "seccomp.plugins": "an agent at /linux/seccomp/listenerPath does what a plugin does",
    "systemd.force_cgroup_v1": "cgroup v1 is not used here",
}


def read_annotation_warnings(annotations: Node) -> list[str]:
    """Return a line for each of crun's annotations that has no effect here. Raises SpecError for _REFUSED ones."""
    warnings = []
    for key, node in annotations.members():
        name = key.removeprefix(PREFIX)
        if not key.startswith(PREFIX) or name in _FOLLOWED:
            continue
        if name in _REFUSED:
            node.refuse("is not supported", hint=_REFUSED[name])
        else:
            warnings.append(f"annotation without effect: {printable(node.pointer)}")
    return warnings
