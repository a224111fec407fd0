"""From config.json and host facts to a flat, printable plan. Pure: nothing here changes anything.

`compile` gives a Plan, which rootless/init/__init__.py runs; plan/describe.py says it for people. A step is a tuple (operation,
JSON pointer, arguments...).
"""

from __future__ import annotations

from rootless.errors import SpecError, printable
from rootless.kernel import syscalls as sc
from rootless.node import Node
from rootless.plan.mounts import compile_mounts, complete_overlays, ignored_options, is_below
from rootless.plan.namespaces import Namespaces, compile_namespaces
from rootless.plan.process import compile_process
from rootless.plan.rootfs import (
    compile_devices,
    compile_paths,
    compile_propagation,
    compile_root,
    compile_sysctl,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.kernel.host import Host
    from rootless.outside.net_devices import NetDevice

    Step = tuple[Any, ...]

PLATFORMS = ("windows", "solaris", "vm", "freebsd", "zos")


class Plan:
    """All that will be done for one container, in order.

    prepare: I, before the hooks (mounts, devices); enter: I, up to the pivot and the masks; process: the program (see
    plan/process.py).
    """

    def __init__(self) -> None:
        self.namespaces = Namespaces()
        self.rootfs = ""
        self.prepare: list[Step] = []
        self.enter: list[Step] = []
        self.process: dict[str, Any] = {}
        self.hooks: dict[str, list[dict[str, Any]]] = {}
        self.seccomp: Any = None
        self.mount_label = ""
        self.cgroup: dict[str, Any] = {}
        self.annotations: dict[str, str] = {}
        self.net_devices: list[NetDevice] = []
        self.intel_rdt: dict[str, Any] | None = None

    @property
    def waits_for_runtime(self) -> bool:
        """Whether something is done from outside between the mounts and the pivot: prestart, createRuntime."""
        return "prestart" in self.hooks or "createRuntime" in self.hooks

    def hands_over_cgroup(self) -> bool:
        """Whether the container's user gets the cgroup: config-linux.md#cgroup-ownership."""
        return bool(self.namespaces.new & sc.CLONE_NEWCGROUP) and any(
            step[0] == "mount"
            and step[2]["fstype"] == "cgroup"
            and step[2]["target"] == "/sys/fs/cgroup"
            and not step[2]["attr_set"] & sc.MOUNT_ATTR_RDONLY
            for step in self.prepare
        )


def compile(spec: Node, host: Host, *, bundle: str) -> Plan:
    """config.json and facts to a Plan.

    Raises SpecError with the JSON pointer of what is wrong or not possible here.
    """
    check_version(spec["ociVersion"])
    for platform in PLATFORMS:
        if spec[platform]:
            spec[platform].refuse(f"this config is for {platform}, not for Linux")
    linux = spec["linux"]
    plan = Plan()
    plan.namespaces = ns = compile_namespaces(linux, host)
    plan.net_devices, plan.intel_rdt = _compile_host_devices(linux, ns)
    plan.rootfs, readonly = compile_root(spec["root"], bundle)
    propagation = _compile_mounts(plan, spec, host, bundle)
    plan.process = _compile_init(spec, ns, host)
    plan.process["warnings"] += ignored_options(plan.prepare)
    plan.prepare.append(("make_cwd", "/process/cwd", plan.process["cwd"]))
    plan.prepare += _names_and_sysctls(spec, ns)
    plan.enter = compile_paths(linux)
    if readonly:
        plan.enter.append(("readonly_root", "/root/readonly"))
    plan.enter.append(("pivot_root" if ns.has(sc.CLONE_NEWNS) else "chroot", "/root/path", propagation))
    plan.hooks = read_hooks(spec)
    plan.annotations = spec["annotations"].string_map()
    if any(key.startswith("run.oci.") for key in plan.annotations):
        from rootless.plan.annotations import read_warnings

        plan.process["warnings"] += read_warnings(spec["annotations"])
    plan.process["keep_groups"] = keeps_groups(plan.annotations)
    plan.seccomp = compile_seccomp(spec)
    plan.mount_label = linux["mountLabel"].string()
    return plan


def _compile_mounts(plan: Plan, spec: Node, host: Host, bundle: str) -> int:
    """Mounts and devices, the first steps of plan.prepare; the propagation that the root gets in the end."""
    linux, ns = spec["linux"], plan.namespaces
    own_userns = ns.has(sc.CLONE_NEWUSER)
    mounts = compile_mounts(spec["mounts"], bundle, plan.rootfs)
    if host.privileged and own_userns:
        for _, _, entry in mounts:
            # Its root may not get to what the host's root names; but what the mounts before have brought into the
            # rootfs is only there when it is their turn.
            inside = is_below(entry["source"], plan.rootfs)
            entry["outside"] = entry["fstype"] == "bind" and not inside
    if own_userns or not host.real_root:
        complete_overlays(mounts)
    if any("idmap" in entry for _, _, entry in mounts):
        from rootless.plan.idmaps import compile_idmaps

        compile_idmaps(spec["mounts"], mounts, ns, host)
    first, propagation = compile_propagation(linux, plan.rootfs, peers=host.privileged and not own_userns)
    if ns.has(sc.CLONE_NEWNS):
        plan.prepare = [*first, ("rootfs", "/root/path", plan.rootfs), *mounts]
    else:  # what is mounted stays below the rootfs, and `delete` takes it away
        plan.prepare = [("host_rootfs", "/linux/namespaces", plan.rootfs), *mounts]
    if not any(entry["target"] == "/dev" for _, _, entry in mounts):
        plan.prepare.append(("plain_directory", "/linux/devices", "/dev"))
    outside = host.real_root and bool(ns.new & sc.CLONE_NEWUSER)
    plan.prepare += compile_devices(linux, mounts, privileged=host.real_root and not own_userns, outside=outside)
    return propagation


def _compile_init(spec: Node, ns: Namespaces, host: Host) -> dict[str, Any]:
    """The container's first process. config.md#process: "REQUIRED when start is called", not before."""
    given = spec["process"] or Node({"args": ["(none)"], "cwd": "/"}, "/process")
    possible = host.all_capabilities if ns.has(sc.CLONE_NEWUSER) else host.grantable
    process = compile_process(given, possible=possible, uid_map=ns.uids, gid_map=ns.gids)
    if not spec["process"]:
        process["args"] = []
    # execCPUAffinity is for `exec`, "not applicable to the container's init process" (config.md#linux-process).
    process["attributes"] = [a for a in process["attributes"] if a[0] != "cpu_affinity"]
    process["attributes"] += linux_attributes(spec["linux"])
    return process


def _names_and_sysctls(spec: Node, ns: Namespaces) -> list[Step]:
    names, sysctls = _names(spec, ns), compile_sysctl(spec["linux"], ns)
    for step in sysctls:
        if step[0] != "sysctl" and spec[step[0]].string() not in ("", step[2]):
            raise SpecError(f"kernel.{step[0]} is another than /{step[0]}", step[1], hint="set it once")
    return names + sysctls


def compile_seccomp(spec: Node) -> dict[str, Any] | None:
    """The filter's profile (see rootless/process/seccomp.py), None where config.json has none; `exec` reads it here too."""
    if not spec["linux"]["seccomp"]:
        return None
    from rootless.process.seccomp import read_seccomp

    annotations = spec["annotations"]
    profile = read_seccomp(spec["linux"]["seccomp"], annotations["run.oci.seccomp.receiver"].string())
    if profile:
        profile["bpf"] = annotations["run.oci.seccomp_bpf_data"].string()
        profile["strict"] = annotations["run.oci.seccomp_fail_unknown_syscall"].string() == "1"
    return profile


def linux_attributes(linux: Node) -> list[tuple[str, tuple[Any, ...]]]:
    """`personality` and `memoryPolicy`, in the form of process["attributes"]; `exec` applies them too."""
    if not (linux["personality"] or linux["memoryPolicy"]):
        return []
    from rootless.process import scheduler

    found: list[tuple[str, tuple[Any, ...]]] = []
    personality = scheduler.read_personality(linux["personality"])
    if personality is not None:
        found.append(("personality", (personality,)))
    policy = scheduler.read_memory_policy(linux["memoryPolicy"])
    if policy:
        found.append(("memory_policy", policy))
    return found


def check_version(node: Node) -> None:
    """Any 1.x is taken, with or without a suffix: what a minor version adds is optional (spec.md)."""
    version = node.required().string()
    parts = version.split("-")[0].split("+")[0].split(".")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        node.refuse(f"found {printable(repr(version))}, allowed is a version such as 1.3.0")
    elif parts[0] != "1":
        node.refuse(f"version {version} is not supported, allowed is any 1.x")


def _compile_host_devices(linux: Node, ns: Namespaces) -> tuple[list[NetDevice], dict[str, Any] | None]:
    """`netDevices` and `intelRdt`, which R carries out from outside; an empty object asks for nothing."""
    devices, rdt = [], None
    if linux["netDevices"]:
        from rootless.outside.net_devices import read_net_devices

        devices = read_net_devices(linux["netDevices"], private=ns.has(sc.CLONE_NEWNET))
    if linux["intelRdt"].value not in (None, {}):
        from rootless.outside.resctrl import read_intel_rdt

        rdt = read_intel_rdt(linux["intelRdt"])
    return devices, rdt


def keeps_groups(annotations: dict[str, str]) -> bool:
    """crun's annotation: the program has the caller's supplementary groups, not config.json's."""
    return annotations.get("run.oci.keep_original_groups") == "1"


def read_hooks(spec: Node) -> dict[str, list[dict[str, Any]]]:
    """`hooks` as {moment: [{path, args, env, timeout, pointer, stdout, stderr}]}: config.md#posix-platform-hooks.

    stdout, stderr: files that crun's annotations name for all of them, "" for none.
    """
    node, annotations = spec["hooks"], spec["annotations"]
    streams = {name: annotations[f"run.oci.hooks.{name}"].string() for name in ("stdout", "stderr")}
    hooks: dict[str, list[dict[str, Any]]] = {}
    for moment in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"):
        for item in node[moment].items():
            path = item["path"].required().string()
            if not path.startswith("/"):
                raise item["path"].wrong("an absolute path")
            hook = {"path": path, "args": item["args"].strings() or [path],
                    "env": item["env"].strings() if item["env"] else None,
                    "timeout": item["timeout"].integer(0, 1, 2**31) if item["timeout"] else 0,
                    "pointer": item.pointer, **streams}  # fmt: skip
            hooks.setdefault(moment, []).append(hook)
    return hooks


def _names(spec: Node, ns: Namespaces) -> list[Step]:
    steps: list[Step] = []
    for key in ("hostname", "domainname"):
        name = spec[key].string()
        if name:
            if not ns.has(sc.CLONE_NEWUTS):
                hint = 'add {"type": "uts"} to /linux/namespaces'
                spec[key].refuse(f"a {key} needs a uts namespace", hint, about="/linux/namespaces")
            if len(name.encode("utf-8", "surrogateescape")) > 64:
                raise spec[key].error(f"is longer than 64 bytes: set{key}(2)")
            steps.append((key, spec[key].pointer, name))
    return steps
