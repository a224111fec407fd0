"""Compile `hostname`, `domainname` and `sysctl`, which belong to the container's own namespaces. Pure."""

from __future__ import annotations

from rootless.errors import SpecError, printable
from rootless.kernel import syscalls as sc
from rootless.steps.names import SetDomainname, SetHostname, WriteSysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node
    from rootless.kernel.namespaces import Namespaces
    from rootless.steps import Step

# Sysctls kernel.NAME that the ipc namespace isolates (ipc_namespaces(7)).
_IPC_SYSCTLS = ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")  # kernel.*
_NAMES: dict[str, type[SetHostname] | type[SetDomainname]] = {"hostname": SetHostname, "domainname": SetDomainname}


def compile_names(spec: Node, namespaces: Namespaces) -> list[Step]:
    """Return the steps for hostname and domainname, then for the sysctls. Raises SpecError."""
    steps: list[Step] = []
    for key, step in _NAMES.items():
        name = spec[key].string()
        if name:
            if not namespaces.has(sc.CLONE_NEWUTS):
                hint = 'add {"type": "uts"} to /linux/namespaces'
                spec[key].refuse(f"a {key} needs a uts namespace", hint, about="/linux/namespaces")
            if len(name.encode("utf-8", "surrogateescape")) > 64:
                raise spec[key].error(f"is longer than 64 bytes: set{key}(2)")
            steps.append(step(spec[key].pointer, name))
    for name_step in compile_sysctl(spec["linux"], namespaces):
        key = {SetHostname: "hostname", SetDomainname: "domainname"}.get(type(name_step), "")
        if key and spec[key].string() not in ("", name_step.words()[1]):
            raise SpecError(f"kernel.{key} differs from /{key}", name_step.pointer, hint="set it once")
        steps.append(name_step)
    return steps


def compile_sysctl(linux: Node, namespaces: Namespaces) -> list[Step]:
    """Return `linux.sysctl` as steps. Raises SpecError for a sysctl whose namespace the container shares."""
    steps: list[Step] = []
    for key, node in linux["sysctl"].members():
        value = node.required().string()
        parts = _read_sysctl_name(key, node)
        # Messages and checks use the dotted form, in which a dot inside a component (eth0.1) is a slash (sysctl(8)).
        name = ".".join(part.replace(".", "/") for part in parts)
        kind, flag = _sysctl_namespace(parts)
        if not flag:
            raise node.error(f"sysctl {printable(name)} belongs to no namespace: it would change the host")
        if not namespaces.has(flag):
            hint = f'add {{"type": "{kind}"}} to /linux/namespaces'
            node.refuse(f"sysctl {printable(name)} needs a {kind} namespace", hint, about="/linux/namespaces")
        if kind == "uts":  # sethostname(2) and setdomainname(2) do it without /proc/sys
            if len(value.encode("utf-8", "surrogateescape")) > 64:
                raise node.error("is longer than 64 bytes")
            steps.append(_NAMES[parts[1]](node.pointer, value))
        else:
            steps.append(WriteSysctl(node.pointer, "/".join(parts), value))
    return steps


def _read_sysctl_name(key: str, node: Node) -> list[str]:
    """Return the components of the path below /proc/sys.

    A name may use dots or slashes, as in sysctl(8). The first separator decides; the other character then belongs to a
    component. Raises SpecError for a component that is empty, `.` or `..`, because it would lead to another file.
    """
    dot, slash = key.find("."), key.find("/")
    if slash >= 0 and (dot < 0 or slash < dot):
        parts = key.split("/")
    else:
        parts = [part.replace("/", ".") for part in key.split(".")]
    if any(part in ("", ".", "..") for part in parts):
        raise node.error(
            f"{printable(repr(key))} is not the name of a sysctl: a part of it is empty, `.` or `..`, "
            "so that it could belong to no namespace"
        )
    return parts


def _sysctl_namespace(parts: list[str]) -> tuple[str, int]:
    """Return (the kind of namespace that isolates a sysctl, its clone flag); ("", 0) for a sysctl of the host."""
    if parts[0] == "kernel" and len(parts) == 2 and parts[1] in _IPC_SYSCTLS:
        return "ipc", sc.CLONE_NEWIPC
    if parts[:2] == ["fs", "mqueue"] and len(parts) > 2:
        return "ipc", sc.CLONE_NEWIPC
    if parts[0] == "net" and len(parts) > 1:
        return "network", sc.CLONE_NEWNET
    if parts[0] == "user" and len(parts) > 1:
        return "user", sc.CLONE_NEWUSER
    if parts in (["kernel", "domainname"], ["kernel", "hostname"]):
        return "uts", sc.CLONE_NEWUTS
    return "", 0
