"""A plan for people: a numbered line a step, with the place in config.json that asks for it (`--dry-run`)."""

from __future__ import annotations

from _blake2 import blake2b

from rootless.errors import printable
from rootless.kernel import caps
from rootless.kernel import syscalls as sc
from rootless.plan.mounts import ATTRIBUTES, PROPAGATION, SUPERBLOCK
from rootless.plan.namespaces import NAMESPACES
from rootless.process import rlimits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from rootless.plan import Plan

    Line = tuple[str, ...]  # JSON pointer, operation, words


def describe(plan: Plan) -> list[str]:
    """The whole plan, in the order in which it is carried out."""
    lines = [*_outside(plan), *_steps(plan, plan.prepare)]
    for moment in ("prestart", "createRuntime", "createContainer"):
        lines += _hooks(plan, moment)
    lines += [*_steps(plan, plan.enter), *_process(plan.process), *_hooks(plan, "startContainer")]
    if plan.seccomp:
        lines.append(_seccomp(plan.seccomp))
    lines.append(("/process/args", "execve", *plan.process["args"]))
    lines += [*_hooks(plan, "poststart"), *_hooks(plan, "poststop")]
    return [
        f"{number:3} {' '.join(map(_word, line[1:]))} [{printable(line[0])}]" for number, line in enumerate(lines, 1)
    ]


def _word(text: str) -> str:
    return text if text and text.isprintable() and " " not in text else ascii(text)


def _outside(plan: Plan) -> Iterator[Line]:
    """What R does: namespaces, id maps, the cgroup, the host's devices."""
    ns = plan.namespaces
    kinds = {flag: kind for kind, (flag, _) in NAMESPACES.items()}
    yield from ((pointer, "join", kinds[flag], path) for flag, path, pointer in ns.joins)
    yield from _cgroup(plan.cgroup)
    yield ("/linux/namespaces", "clone3", *(kind for flag, kind in kinds.items() if ns.new & flag))
    for key, id_map in (("uid_map", ns.uid_map), ("gid_map", ns.gid_map)):
        yield from ((f"/linux/{key[:3]}Mappings", key, *map(str, entry)) for entry in id_map)
    for clock, seconds, nanoseconds in ns.offsets:
        yield f"/linux/timeOffsets/{clock}", "time_offset", clock, str(seconds), str(nanoseconds)
    if plan.intel_rdt:
        rdt = plan.intel_rdt
        monitoring = ["monitoring"] if rdt["monitoring"] else []
        yield (
            "/linux/intelRdt",
            "intel_rdt",
            rdt["clos_id"] or "(own)",
            *rdt["l3_and_mb"],
            *rdt["schemata"],
            *monitoring,
        )
    yield from ((pointer, "net_device", name, new_name) for name, new_name, pointer in plan.net_devices)


def _cgroup(record: dict[str, Any]) -> Iterator[Line]:
    if record.get("manager", "disabled") == "disabled":
        return
    place = record["path"] or f"{record['slice']}/{record['unit']}"
    yield "/linux/cgroupsPath", "cgroup", record["manager"], place
    for name, _, value in record.get("properties", ()):
        yield "/annotations", "systemd_property", str(name), str(value)
    yield from ((pointer, "limit", file, value) for file, value, pointer in record["files"])
    rules = record["devices"]
    if rules:
        words = (
            f"{'+' if rule[0] else '-'}{rule[1]}:{_number(rule[2])}:{_number(rule[3])}:{rule[4]}" for rule in rules
        )
        yield "/linux/resources/devices", "device_rules", *words


def _number(number: Any) -> str:
    return "*" if number == -1 else str(number)


def _steps(plan: Plan, steps: list[tuple[Any, ...]]) -> Iterator[Line]:
    """I's own steps, their numbers as words."""
    for operation, pointer, *rest in steps:
        if operation == "mount":
            yield _mount(pointer, rest[0])
        elif operation in ("device", "outside_device"):
            yield _device(pointer, *rest)
        elif operation in ("propagation", "pivot_root", "chroot"):
            yield pointer, operation, *_flags(rest[0])
        elif operation == "mask":
            yield pointer, operation, rest[0]
        else:
            yield pointer, operation, *map(str, rest)
    if plan.prepare is steps and plan.process["terminal"]:
        height, width = plan.process["size"]
        yield "/process/terminal", "terminal", *([f"{height}x{width}"] if height or width else [])


def _mount(pointer: str, entry: dict[str, Any]) -> Line:
    """As mount(8) would have it: type, source, target, options."""
    options = ["rbind" if entry["recursive"] else "bind"] if entry["bind"] else []
    options += _attributes(entry["attr_set"], entry["attr_clr"])
    options += [f"r{name}" for name in _attributes(entry["rec_set"], entry["rec_clr"])]
    options += [name for flags in entry["propagation"] for name in _flags(flags)]
    options += [name for name, (flag, _) in SUPERBLOCK.items() if entry["superblock"] & flag]
    options += [*entry["extensions"], *entry["data"]]
    if entry.get("context", ("", ""))[0]:
        options.append("=".join(entry["context"]))
    for key, id_map in entry.get("idmap", {}).items():
        options.append(f"{key}={id_map}".replace(" ", ""))
    words = [entry["fstype"], entry["source"] or "none", entry["target"]]
    return pointer, "mount", *words, *([",".join(map(printable, options))] if options else [])


def _attributes(attr_set: int, attr_clr: int) -> list[str]:
    """The options of mount attributes; the family of atime goes as a whole."""
    atime = attr_clr & sc.MOUNT_ATTR__ATIME == sc.MOUNT_ATTR__ATIME
    found = []
    for name in ("ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "nodiratime", "diratime",
                 "nosymfollow", "symfollow"):  # fmt: skip
        setting, clearing = ATTRIBUTES[name]
        if attr_set & setting or attr_clr & clearing:
            found.append(name)
    if atime:
        names = {sc.MOUNT_ATTR_NOATIME: "noatime", sc.MOUNT_ATTR_STRICTATIME: "strictatime"}
        found.append(names.get(attr_set & sc.MOUNT_ATTR__ATIME, "relatime"))
    return found


def _flags(flags: int) -> list[str]:
    return [name for name, value in PROPAGATION.items() if value == flags]


def _device(
    pointer: str, path: str, kind: int, major: int, minor: int, mode: int, uid: int, gid: int, mknod: bool = True
) -> Line:
    letter = {0o020000: "c", 0o060000: "b", 0o010000: "p"}[kind]
    if not mknod:
        return pointer, "device", path, letter, f"{major}:{minor}", "bound"
    return pointer, "device", path, letter, f"{major}:{minor}", f"{mode:04o}", f"{uid}:{gid}"


def _process(process: dict[str, Any]) -> Iterator[Line]:
    at = process["pointer"]
    if process["oom_score_adj"] is not None:
        yield f"{at}/oomScoreAdj", "oom_score_adj", str(process["oom_score_adj"])
    for name, arguments in process["attributes"]:
        yield _ATTRIBUTES[name].format(at), name, *(str(a).replace(" ", "") for a in arguments)
    for number, soft, hard, pointer in process["rlimits"]:
        yield pointer, "rlimit", rlimits.name_of(number), str(soft), str(hard)
    yield from ((f"{at}/{key}", key, process[word]) for key, word in _LABELS.items() if process[word])
    groups = ["(groups of the caller)"] if process["keep_groups"] else [f"+{gid}" for gid in process["groups"]]
    yield f"{at}/user", "user", f"{process['uid']}:{process['gid']}", *groups
    yield f"{at}/user/umask", "umask", f"{process['umask']:04o}"
    yield f"{at}/cwd", "cwd", process["cwd"]
    for kind in caps.SETS:
        if process["caps"][kind] or kind == "bounding":
            yield f"{at}/capabilities/{kind}", "capabilities", kind, *(caps.names(process["caps"][kind]) or ["none"])
    if process["no_new_privs"]:
        yield f"{at}/noNewPrivileges", "no_new_privs"
    yield f"{at}/env", "env", *(entry.partition("=")[0] for entry in process["env"])


_LABELS: Mapping[str, str] = {"apparmorProfile": "apparmor", "selinuxLabel": "selinux"}
_ATTRIBUTES: Mapping[str, str] = {
    "scheduler": "{}/scheduler", "io_priority": "{}/ioPriority", "cpu_affinity": "{}/execCPUAffinity",
    "personality": "/linux/personality", "memory_policy": "/linux/memoryPolicy",
}  # fmt: skip


def _seccomp(profile: dict[str, Any]) -> Line:
    from rootless.process.seccomp import ACTIONS, FLAGS

    names = {value: name for name, value in ACTIONS.items()}
    action, number = names[profile["default"] & 0xFFFF0000], profile["default"] & 0xFFFF
    digest = blake2b(repr(profile["rules"] + profile["architectures"]).encode("utf-8", "replace"), digest_size=4)
    words = [f"{action}({number})" if number else action, f"rules={len(profile['rules'])}:{digest.hexdigest()}"]
    words += [name for name, flag in FLAGS.items() if profile["flags"] & flag]
    if profile["notify"]:
        words += [f"listener={profile['listener_path']}", f"metadata={profile['metadata']}"]
    return "/linux/seccomp", "seccomp", *words


def _hooks(plan: Plan, moment: str) -> list[Line]:
    return [
        (hook["pointer"], "hook", moment, hook["path"], *hook["args"][1:], *_hook_options(hook))
        for hook in plan.hooks.get(moment, ())
    ]


def _hook_options(hook: dict[str, Any]) -> list[str]:
    names = ",".join(entry.partition("=")[0] for entry in hook["env"] or ())
    return [f"env={names}"] * bool(names) + [f"timeout={hook['timeout']}"] * bool(hook["timeout"])
