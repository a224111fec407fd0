"""From config.json and host facts to a flat, printable plan. Pure: nothing here changes anything.

`compile` gives a Plan; `Plan.describe()` is what `--dry-run` prints, and rootless/init.py runs the same steps. A step
is a tuple (operation, JSON pointer, arguments...).
"""

from __future__ import annotations

from rootless import syscalls as sc
from rootless.errors import SpecError, printable
from rootless.node import Node
from rootless.plan.mounts import compile_mounts
from rootless.plan.namespaces import NAMESPACES, Namespaces, compile_namespaces
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

    from rootless.host import Host
    from rootless.net.devices import NetDevice

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

    def steps(self) -> list[Step]:
        """The whole plan as one flat list."""
        ns = self.namespaces
        steps: list[Step] = [("join", pointer, path) for _, path, pointer in ns.joins]
        if self.cgroup.get("path"):
            steps.append(("cgroup", "/linux/cgroupsPath", self.cgroup["manager"], self.cgroup["path"]))
            steps += [("limit", pointer, file, value) for file, value, pointer in self.cgroup.get("files", [])]
        kinds = [name for name, (flag, _) in NAMESPACES.items() if ns.new & flag]
        steps.append(("clone3", "/linux/namespaces", *kinds))
        for key, id_map in (("uid_map", ns.uid_map), ("gid_map", ns.gid_map)):
            pointer = f"/linux/{key[:3]}Mappings"
            steps += [(key, pointer, *entry) for entry in id_map]
        if self.intel_rdt:
            steps.append(("intel_rdt", "/linux/intelRdt", self.intel_rdt))
        steps += [("net_device", pointer, name, new_name) for name, new_name, pointer in self.net_devices]
        steps += self.prepare
        for moment in ("prestart", "createRuntime", "createContainer"):
            steps += self._hooks(moment)
        steps += [*self.enter, *_describe_process(self.process)]
        steps += self._hooks("startContainer")
        if self.seccomp:
            steps.append(("seccomp", "/linux/seccomp"))
        steps.append(("execve", "/process/args", *self.process["args"]))
        return steps

    def _hooks(self, moment: str) -> list[Step]:
        return [("hook", hook["pointer"], moment, hook["path"]) for hook in self.hooks.get(moment, [])]

    def hands_over_cgroup(self) -> bool:
        """Whether the container's user gets the cgroup: config-linux.md#cgroup-ownership."""
        return bool(self.namespaces.new & sc.CLONE_NEWCGROUP) and any(
            step[0] == "mount"
            and step[2]["fstype"] == "cgroup"
            and step[2]["target"] == "/sys/fs/cgroup"
            and not step[2]["attr_set"] & sc.MOUNT_ATTR_RDONLY
            for step in self.prepare
        )

    def describe(self) -> list[str]:
        """The plan for people: a numbered line a step, with the place in config.json that asks for it."""
        return [
            f"{number:3} {step[0]} {' '.join(_show(argument) for argument in step[2:])} [{step[1]}]".replace(
                "  [", " ["
            )
            for number, step in enumerate(self.steps(), 1)
        ]


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
    mounts = compile_mounts(spec["mounts"], bundle)
    if host.privileged and ns.has(sc.CLONE_NEWUSER):
        for _, _, entry in mounts:
            entry["outside"] = entry["fstype"] == "bind"  # its root may not get to what the host's root names
    if any("idmap" in entry for _, _, entry in mounts):
        from rootless.plan.idmaps import compile_idmaps

        compile_idmaps(spec["mounts"], mounts, ns, host)
    first, propagation = compile_propagation(linux)
    own_userns = ns.has(sc.CLONE_NEWUSER)
    plan.prepare = [first, ("rootfs", "/root/path", plan.rootfs), *mounts]
    plan.prepare += compile_devices(linux, mounts, host.real_root and not own_userns)
    # config.md#process: "REQUIRED when start is called", not before.
    process = spec["process"] or Node({"args": ["(none)"], "cwd": "/"}, "/process")
    possible = host.all_capabilities if own_userns else host.grantable
    plan.process = compile_process(process, possible=possible, uid_map=ns.uids, gid_map=ns.gids)
    if not spec["process"]:
        plan.process["args"] = []
    # execCPUAffinity is for `exec`, "not applicable to the container's init process" (config.md#linux-process).
    plan.process["attributes"] = [a for a in plan.process["attributes"] if a[0] != "cpu_affinity"]
    plan.process["attributes"] += _linux_attributes(linux)
    plan.prepare.append(("make_cwd", "/process/cwd", plan.process["cwd"]))
    names, sysctls = _names(spec, ns), compile_sysctl(linux, ns)
    for step in sysctls:
        if step[0] == "domainname" and spec["domainname"].string():
            raise SpecError("kernel.domainname is set by /domainname too", step[1], hint="set it once")
    plan.prepare += names + sysctls
    plan.enter = compile_paths(linux)
    if readonly:
        plan.enter.append(("readonly_root", "/root/readonly"))
    plan.enter.append(("pivot_root", "/root/path", propagation))
    plan.hooks = read_hooks(spec["hooks"])
    plan.annotations = spec["annotations"].string_map()
    plan.seccomp = compile_seccomp(spec)
    plan.mount_label = linux["mountLabel"].string()
    return plan


def compile_seccomp(spec: Node) -> dict[str, Any] | None:
    """The filter's profile (see rootless/seccomp.py), None where config.json has none; `exec` reads it here too."""
    if not spec["linux"]["seccomp"]:
        return None
    from rootless.seccomp import read_seccomp

    return read_seccomp(spec["linux"]["seccomp"], spec["annotations"]["run.oci.seccomp.receiver"].string())


def _linux_attributes(linux: Node) -> list[tuple[str, tuple[Any, ...]]]:
    """`personality` and `memoryPolicy`, in the form of process["attributes"]."""
    if not (linux["personality"] or linux["memoryPolicy"]):
        return []
    from rootless import scheduler

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
        from rootless.net.devices import read_net_devices

        devices = read_net_devices(linux["netDevices"], private=ns.has(sc.CLONE_NEWNET))
    if linux["intelRdt"].value not in (None, {}):
        from rootless.rdt import read_intel_rdt

        rdt = read_intel_rdt(linux["intelRdt"])
    return devices, rdt


def read_hooks(node: Node) -> dict[str, list[dict[str, Any]]]:
    """`hooks` as {moment: [{path, args, env, timeout, pointer}]}: config.md#posix-platform-hooks."""
    hooks: dict[str, list[dict[str, Any]]] = {}
    for moment in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"):
        for item in node[moment].items():
            path = item["path"].required().string()
            if not path.startswith("/"):
                raise item["path"].wrong("an absolute path")
            hook = {"path": path, "args": item["args"].strings() or [path],
                    "env": item["env"].strings() if item["env"] else None,
                    "timeout": item["timeout"].integer(0, 1, 2**31) if item["timeout"] else 0,
                    "pointer": item.pointer}  # fmt: skip
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


def _describe_process(process: dict[str, Any]) -> list[Step]:
    pointer = process["pointer"]
    steps: list[Step] = [
        ("user", f"{pointer}/user", f"{process['uid']}:{process['gid']}", *process["groups"]),
        ("cwd", f"{pointer}/cwd", process["cwd"]),
        ("capabilities", f"{pointer}/capabilities", *(f"{k}={v:#x}" for k, v in process["caps"].items())),
    ]
    steps += [("rlimit", where, number, soft, hard) for number, soft, hard, where in process["rlimits"]]
    if process["oom_score_adj"] is not None:
        steps.append(("oom_score_adj", f"{pointer}/oomScoreAdj", process["oom_score_adj"]))
    steps += [(name, pointer, *arguments) for name, arguments in process["attributes"]]
    if process["no_new_privs"]:
        steps.append(("no_new_privs", f"{pointer}/noNewPrivileges"))
    return steps


def _show(argument: Any) -> str:
    if type(argument) is dict:
        return " ".join(
            f"{k}={_show(v)}" for k, v in argument.items() if v not in (0, "", [], False) and k != "pointer"
        )
    if type(argument) is list:
        return ",".join(map(_show, argument))
    text = str(argument)
    return text if text and text.isprintable() and " " not in text else ascii(text)
