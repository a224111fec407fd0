"""Compile the plan of a container. Pure: nothing here changes anything.

Nobody writes to a plan after it is compiled. The runtime and init execute its steps (steps/), `--dry-run` prints them,
and what executing them opens or learns is kept in the classes of steps/context.py.
"""

from __future__ import annotations

from rootless import cgroup
from rootless.config_node import Node
from rootless.errors import RootlessError, printable
from rootless.kernel import syscalls as sc
from rootless.kernel.paths import is_below
from rootless.plan.devices import compile_devices, read_warnings
from rootless.plan.hooks import compile_hooks
from rootless.plan.mounts import compile_mounts, complete_overlays
from rootless.plan.namespaces import compile_namespaces, has_one_id
from rootless.plan.paths import compile_paths
from rootless.plan.process import compile_domain, compile_process, keeps_groups
from rootless.plan.root import compile_propagation, compile_root
from rootless.plan.seccomp import compile_seccomp
from rootless.plan.sysctl import compile_names
from rootless.steps.cgroup import CreateCgroup
from rootless.steps.devices import RequirePlainDirectory
from rootless.steps.namespaces import join_steps, namespace_steps
from rootless.steps.program import Execute, LoadFilter, SetEnvironment
from rootless.steps.root import AttachEmptyRoot, AttachRootfs, Chroot, MakeRootReadonly, MakeWorkingDirectory, PivotRoot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import Host
    from rootless.kernel.namespaces import Namespaces
    from rootless.plan.call import Call
    from rootless.steps import Step
    from rootless.steps.emulation import EmulateRoot
    from rootless.steps.hooks import RunHook
    from rootless.steps.mounts import Mount
    from rootless.steps.network import ConnectNetwork
    from rootless.steps.outside import EnterResctrlGroup, MoveNetDevices
    from rootless.steps.process import Process

PLATFORMS = ("windows", "solaris", "vm", "freebsd", "zos")


class Plan:
    """Hold everything that is to be done for one container.

    prepare: init's steps before the hooks (mounts, devices, names); enter: init's steps up to the change of roots;
    hooks: {moment: hooks in their order}; filter: None without seccomp; emulation: None without root emulation;
    resctrl, net_devices, network: None if config.json asks for none; warnings: lines for the user.
    """

    __slots__ = (
        "annotations", "cgroup", "emulation", "enter", "filter", "hooks", "namespaces", "net_devices", "network",
        "prepare",
        "process", "resctrl", "rootfs", "warnings",
    )  # fmt: skip

    def __init__(self, namespaces: Namespaces, rootfs: str, process: Process, cgroup_step: CreateCgroup) -> None:
        self.namespaces = namespaces
        self.rootfs = rootfs
        self.process = process
        self.cgroup = cgroup_step
        self.prepare: list[Step] = []
        self.enter: list[Step] = []
        self.hooks: dict[str, list[RunHook]] = {}
        self.filter: LoadFilter | None = None
        self.emulation: EmulateRoot | None = None
        self.resctrl: EnterResctrlGroup | None = None
        self.net_devices: MoveNetDevices | None = None
        self.network: ConnectNetwork | None = None
        self.annotations: dict[str, str] = {}
        self.warnings: list[str] = []

    def steps(self) -> list[Step]:
        """Return every step, in the order of execution."""
        steps: list[Step] = [
            *join_steps(self.namespaces),
            self.cgroup,
            *namespace_steps(self.namespaces),
            *self.outside(),
        ]
        steps += self.prepare
        for moment in ("prestart", "createRuntime", "createContainer"):
            steps += self.hooks.get(moment, ())
        steps += [*self.enter, *self.process.through_proc(), *self.process.steps()]
        steps += [*self.hooks.get("startContainer", ()), *self.last()]
        return [*steps, *self.hooks.get("poststart", ()), *self.hooks.get("poststop", ())]

    def outside(self) -> list[Step]:
        """Return the steps that the runtime executes on init from outside."""
        return [step for step in (self.resctrl, self.net_devices, self.network) if step]

    def last(self) -> list[Step]:
        """Return the steps that turn init into the program."""
        process = self.process
        steps: list[Step] = [SetEnvironment(f"{process.pointer}/env", process.env)]
        if self.emulation:
            steps.append(self.emulation)  # before the other filter, which may forbid to load one
        if self.filter:
            steps.append(self.filter)
        return [*steps, Execute(process.args)]

    def mounts(self) -> list[Mount]:
        """Return the mounts of config.json."""
        from rootless.steps.mounts import Mount

        return [step for step in self.prepare if isinstance(step, Mount)]

    @property
    def waits_for_runtime(self) -> bool:
        """Whether the runtime runs hooks between the mounts and the change of roots: prestart, createRuntime."""
        return "prestart" in self.hooks or "createRuntime" in self.hooks

    def hands_over_cgroup(self) -> bool:
        """Return whether the container's user gets the cgroup (config-linux.md#cgroup-ownership)."""
        return bool(self.namespaces.new & sc.CLONE_NEWCGROUP) and any(
            mount.fstype == "cgroup"
            and mount.target == "/sys/fs/cgroup"
            and not mount.options.attr_set & sc.MOUNT_ATTR_RDONLY
            for mount in self.mounts()
        )


def compile(spec: Node, host: Host, call: Call) -> Plan:
    """Return the plan for a config on this machine.

    Raises SpecError, with the JSON pointer, for a value that is wrong or not possible here, and RootlessError if the
    rootfs is missing.
    """
    _check_version_and_platform(spec)
    linux = spec["linux"]
    namespaces = compile_namespaces(linux, host)
    resctrl = _compile_resctrl(linux, host)
    net_devices = _compile_net_devices(linux, namespaces)
    network = _compile_network(spec, namespaces, host)
    rootfs, readonly = compile_root(spec["root"], call.bundle)
    context, label_warnings = _compile_label(spec, host)
    names = _compile_name_files(network, spec, host, rootfs, call)
    prepare, propagation, warnings = _compile_mounts(spec, host, namespaces, call.bundle, rootfs, context, names)
    process = _compile_init(spec, namespaces, host, call.listen_fds)
    prepare.append(MakeWorkingDirectory("/process/cwd", process.cwd))
    prepare += compile_names(spec, namespaces)
    if process.terminal:
        from rootless.steps.terminal import OpenTerminal

        prepare.append(OpenTerminal(process.size, process.user.uid))
    enter = _compile_enter(linux, namespaces, context, propagation, readonly=readonly)
    hooks = compile_hooks(spec)
    annotations = spec["annotations"].string_map()
    warnings = [*process.warnings, *warnings, *_annotation_warnings(spec, annotations)]
    process.user.keep_groups = keeps_groups(annotations)
    profile = compile_seccomp(spec)
    warnings += label_warnings
    if linux["devices"]:
        warnings += read_warnings(prepare, host)
    plan = Plan(namespaces, rootfs, process, _compile_cgroup(spec, host, call))
    plan.prepare, plan.enter, plan.hooks, plan.annotations = prepare, enter, hooks, annotations
    plan.resctrl, plan.net_devices, plan.network = resctrl, net_devices, network
    plan.filter = LoadFilter(profile) if profile else None
    plan.warnings = warnings
    automatic = call.emulates_root and not process.user.uid and has_one_id(namespaces, host)
    if automatic or "org.rootless.root-emulation" in annotations:
        from rootless.plan.root_emulation import add_emulation

        add_emulation(plan, spec, host)
    if not host.is_directory(rootfs):
        raise RootlessError("the rootfs is not a directory", rootfs, hint="/root/path in config.json names it")
    return plan


def _check_version_and_platform(spec: Node) -> None:
    """Refuse a config of another major version, or for another system."""
    check_version(spec["ociVersion"])
    for platform in PLATFORMS:
        if spec[platform]:
            spec[platform].refuse(f"this config is for {platform}, not for Linux")


def _compile_name_files(network: ConnectNetwork | None, spec: Node, host: Host, rootfs: str, call: Call) -> list[Mount]:
    """Return the mounts of /etc/resolv.conf and /etc/hosts, none without a network engine."""
    if not network:
        return []
    from rootless.plan.network import mount_names

    return mount_names(network, spec, host, rootfs, call.state)


def _compile_enter(
    linux: Node, namespaces: Namespaces, context: tuple[str, str], propagation: int, *, readonly: bool
) -> list[Step]:
    """Return what init does after the createContainer hooks: masks and read-only paths, then it changes the root."""
    enter = compile_paths(linux, _mount_context(context, "tmpfs"))
    if readonly:
        enter.append(MakeRootReadonly("/root/readonly"))
    change_root = PivotRoot if namespaces.has(sc.CLONE_NEWNS) else Chroot
    enter.append(change_root("/root/path", propagation))
    return enter


def _annotation_warnings(spec: Node, annotations: dict[str, str]) -> list[str]:
    if not any(key.startswith("run.oci.") for key in annotations):
        return []
    from rootless.plan.annotations import read_annotation_warnings

    return read_annotation_warnings(spec["annotations"])


def _compile_mounts(
    spec: Node,
    host: Host,
    namespaces: Namespaces,
    bundle: str,
    rootfs: str,
    context: tuple[str, str],
    names: list[Mount],
) -> tuple[list[Step], int, list[str]]:
    """Return (steps for mounts and devices, propagation that the root gets at the end, warnings).

    names: the mounts of a connected network, which come last.
    """
    linux = spec["linux"]
    own_userns = namespaces.has(sc.CLONE_NEWUSER)
    warnings: list[str] = []
    mounts = [*compile_mounts(spec["mounts"], bundle, rootfs, warnings), *names]
    if host.is_root_here and own_userns:
        for mount in mounts:
            # The container's root may not reach a source that the host's root may, so the runtime makes the mount. A
            # source inside the rootfs may only appear when the mounts before are made, so init makes that one.
            mount.outside = mount.fstype == "bind" and not is_below(mount.source, rootfs)
    if own_userns or not host.is_root_on_host:
        complete_overlays(mounts)
    if any(mount.is_mapped for mount in mounts):
        from rootless.plan.idmaps import compile_idmaps

        compile_idmaps(spec["mounts"], mounts[: len(mounts) - len(names)], namespaces, host)
    for mount in mounts:
        mount.context = _mount_context(context, mount.fstype)
    first, propagation = compile_propagation(linux, rootfs, peers=host.is_root_here and not own_userns)
    steps: list[Step] = []
    if namespaces.has(sc.CLONE_NEWNS):
        empty = spec["annotations"].value and spec["annotations"]["org.rootless.root"].choice(("empty",), "")
        attach = (AttachEmptyRoot if empty else AttachRootfs)("/root/path", rootfs)
        steps += [*first, attach, *mounts]
    else:  # the mounts are made on the host, below the rootfs, and `delete` unmounts them
        steps += [AttachRootfs("/linux/namespaces", rootfs, on_host=True), *mounts]
    if not any(mount.target == "/dev" for mount in mounts):
        steps.append(RequirePlainDirectory("/linux/devices", "/dev"))
    outside = host.is_root_on_host and bool(namespaces.new & sc.CLONE_NEWUSER)
    steps += compile_devices(linux, mounts, may_make_nodes=host.is_root_on_host and not own_userns, outside=outside)
    return steps, propagation, warnings


def _compile_label(spec: Node, host: Host) -> tuple[tuple[str, str], list[str]]:
    """Return ((kind of context, label) of linux.mountLabel, or ("", ""), warnings)."""
    label = spec["linux"]["mountLabel"].string()
    if not label:
        return ("", ""), []
    from rootless.process import lsm

    kind = spec["annotations"]["run.oci.mount_context_type"].choice(lsm.CONTEXT_TYPES, "context")
    if not host.selinux:
        return ("", ""), [lsm.left_out(lsm.SELINUX, "/linux/mountLabel", label)]
    return (kind, label), []


def _mount_context(context: tuple[str, str], fstype: str) -> tuple[str, str]:
    if not context[0]:
        return context
    from rootless.process.lsm import mount_context

    return mount_context(context[1], fstype, context[0])


def _compile_init(spec: Node, namespaces: Namespaces, host: Host, listen_fds: int) -> Process:
    """Return the container's first process. config.json may lack it until `start` (config.md#process)."""
    node = spec["process"] or Node({"args": ["(none)"], "cwd": "/"}, "/process")
    possible = host.all_capabilities if namespaces.has(sc.CLONE_NEWUSER) else host.grantable
    process = compile_process(node, host, possible=possible, uid_map=namespaces.uids, gid_map=namespaces.gids)
    if not spec["process"]:
        process.args = []
    # execCPUAffinity is for `exec`, "not applicable to the container's init process" (config.md#linux-process).
    process.scheduling = [step for step in process.scheduling if not step.pointer.endswith("/execCPUAffinity")]
    process.scheduling += compile_domain(spec["linux"])
    if listen_fds:
        # Socket activation (sd_listen_fds(3)): the program, whose pid is 1, gets the sockets from fd 3 on.
        env = [entry for entry in process.env if not entry.startswith(("LISTEN_FDS=", "LISTEN_PID="))]
        process.env = [*env, f"LISTEN_FDS={listen_fds}", "LISTEN_PID=1"]
    return process


def _compile_cgroup(spec: Node, host: Host, call: Call) -> CreateCgroup:
    record = cgroup.compile(
        spec["linux"],
        container_id=call.container_id,
        manager=call.cgroup_manager,
        host=host,
        annotations=spec["annotations"],
    )
    refusal = cgroup.settle(record) if host.tries_cgroups else ""
    return CreateCgroup(record, refusal)


def check_version(node: Node) -> None:
    """Refuse versions other than 1.x. Minor versions only add things (spec.md), so all are fine. Raises SpecError."""
    version = node.required().string()
    parts = version.split("-")[0].split("+")[0].split(".")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        node.refuse(f"found {printable(repr(version))}, allowed is a version such as 1.3.0")
    elif parts[0] != "1":
        node.refuse(f"version {version} is not supported, allowed is any 1.x")


def _compile_net_devices(linux: Node, namespaces: Namespaces) -> MoveNetDevices | None:
    if not linux["netDevices"]:
        return None
    from rootless.plan.net_devices import read_net_devices
    from rootless.steps.outside import MoveNetDevices

    devices = read_net_devices(linux["netDevices"], private=namespaces.has(sc.CLONE_NEWNET))
    return MoveNetDevices(devices) if devices else None


def _compile_network(spec: Node, namespaces: Namespaces, host: Host) -> ConnectNetwork | None:
    annotations = spec["annotations"].value
    if type(annotations) is not dict or not any(key.startswith("org.rootless.") for key in annotations):
        return None
    from rootless.plan.network import compile_network

    return compile_network(spec["annotations"], namespaces, host)


def _compile_resctrl(linux: Node, host: Host) -> EnterResctrlGroup | None:
    if linux["intelRdt"].value in (None, {}):  # an empty object asks for nothing
        return None
    from rootless.plan.intel_rdt import compile_intel_rdt

    return compile_intel_rdt(linux["intelRdt"], host)
