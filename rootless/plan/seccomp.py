"""Compile `linux.seccomp` and the annotations that belong to it (config-linux.md#seccomp). Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node
    from rootless.process.seccomp_names import Profile


def compile_seccomp(spec: Node) -> Profile | None:
    """Return the filter's profile, None if config.json has none. `create` and `exec` call it. Raises SpecError."""
    if not spec["linux"]["seccomp"]:
        return None
    from rootless.process.seccomp import read_seccomp

    annotations = spec["annotations"]
    profile = read_seccomp(spec["linux"]["seccomp"], annotations["run.oci.seccomp.receiver"].string())
    if profile:
        profile["bpf"] = annotations["run.oci.seccomp_bpf_data"].string()
        profile["strict"] = annotations["run.oci.seccomp_fail_unknown_syscall"].string() == "1"
    return profile
