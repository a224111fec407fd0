"""Compile `process`: what the program is and what it may do (config.md#process). Pure.

`create` and `exec` use the same reader, because a process.json for `exec` has the same shape.
"""

from __future__ import annotations

from rootless.errors import printable
from rootless.kernel import caps
from rootless.kernel.paths import normal_path
from rootless.process import rlimits
from rootless.steps.process import Process, User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node
    from rootless.kernel.host import Host, IdMap
    from rootless.steps import Step

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_MAX_ID = 2**32 - 2  # 2^32-1 is the -1 that setresuid(2) and setresgid(2) take for "no change"


def compile_process(process: Node, host: Host, *, possible: int, uid_map: IdMap, gid_map: IdMap) -> Process:
    """Return the compiled process. Raises SpecError.

    possible: a mask of the capabilities that can be granted; uid_map, gid_map: the container's id maps, [] if it has
    the caller's user namespace.
    """
    process.required()
    args = process["args"].strings()
    if not args:
        process["args"].refuse("is empty: it names no program", about=process["args"].pointer)
    elif not args[0]:
        process["args"].refuse("the program's name is empty")
    cwd = process["cwd"].required().string()
    if not cwd.startswith("/"):
        process["cwd"].refuse(f'found {printable(repr(cwd))}, allowed is an absolute path, such as "/"')
    process["commandLine"].string()  # only Windows uses it, and user/username; check the types
    user = _read_user(process["user"], uid_map, gid_map)
    result = Process(process.pointer, args, _read_env(process["env"]), normal_path(cwd), user)
    result.caps, result.warnings = caps.read_capabilities(process["capabilities"], possible)
    result.terminal = process["terminal"].boolean()
    result.size = _read_size(process["consoleSize"])
    result.rlimits = rlimits.read_rlimits(process["rlimits"])
    if not host.is_root_on_host:
        rlimits.check_rlimits(result.rlimits, host.hard_limit)
    result.no_new_privs = process["noNewPrivileges"].boolean()
    if process["oomScoreAdj"]:
        result.oom_score_adj = process["oomScoreAdj"].integer(0, -1000, 1000)
    result.scheduling = _read_scheduling(process)
    apparmor, selinux = process["apparmorProfile"].string(), process["selinuxLabel"].string()
    if apparmor or selinux:
        from rootless.process import lsm

        result.labels, warnings = lsm.exec_labels(apparmor, selinux, host)
        result.warnings += warnings
    return result


def _read_size(node: Node) -> tuple[int, int]:
    """Return (height, width) for TIOCSWINSZ, (0, 0) without consoleSize. ioctl_tty(2) has 16 bits for each."""
    if not node:
        return 0, 0
    return node["height"].required().integer(0, 0, 65535), node["width"].required().integer(0, 0, 65535)


def _read_scheduling(process: Node) -> list[Step]:
    if not (process["scheduler"] or process["ioPriority"] or process["execCPUAffinity"]):
        return []
    from rootless.process import scheduler
    from rootless.steps.scheduling import SetCpuAffinity, SetIoPriority, SetScheduler

    steps: list[Step] = []
    affinity = scheduler.read_exec_cpu_affinity(process["execCPUAffinity"])
    if affinity:
        pointer = process["execCPUAffinity"].pointer
        steps += [SetCpuAffinity(pointer, affinity[0], "initial"), SetCpuAffinity(pointer, affinity[1], "final")]
    policy = scheduler.read_scheduler(process["scheduler"])
    if policy:
        steps.append(SetScheduler(process["scheduler"].pointer, policy))
    priority = scheduler.read_io_priority(process["ioPriority"])
    if priority is not None:
        steps.append(SetIoPriority(process["ioPriority"].pointer, priority))
    return steps


def compile_domain(linux: Node) -> list[Step]:
    """Return the steps of `personality` and `memoryPolicy`, which every process of the container gets."""
    if not (linux["personality"] or linux["memoryPolicy"]):
        return []
    from rootless.process import scheduler
    from rootless.steps.scheduling import SetMemoryPolicy, SetPersonality

    steps: list[Step] = []
    personality = scheduler.read_personality(linux["personality"])
    if personality is not None:
        steps.append(SetPersonality(personality))
    policy = scheduler.read_memory_policy(linux["memoryPolicy"])
    if policy:
        steps.append(SetMemoryPolicy(*policy))
    return steps


def _read_env(node: Node) -> list[str]:
    env: dict[str, str] = {}
    for item in node.items():
        text = item.required().string()
        name, equals, _ = text.partition("=")
        if not equals or not name:
            raise item.wrong("NAME=VALUE")
        env[name] = text  # the last one wins, as in runc
    if "PATH" not in env and node.value is None:
        return [_PATH]
    return list(env.values())


def _read_user(node: Node, uid_map: IdMap, gid_map: IdMap) -> User:
    uid, gid = node["uid"].integer(0, 0, _MAX_ID), node["gid"].integer(0, 0, _MAX_ID)
    node["username"].string()
    groups = []
    for item in node["additionalGids"].items():
        groups.append(item.required().integer(0, 0, _MAX_ID))
        _check_mapped(item, groups[-1], gid_map, "gid", "/etc/subgid")
    _check_mapped(node["uid"], uid, uid_map, "uid", "/etc/subuid")
    _check_mapped(node["gid"], gid, gid_map, "gid", "/etc/subgid")
    umask = node["umask"].integer(0o022, 0, 0o7777)
    return User(uid, gid, groups, umask)


def _check_mapped(node: Node, number: int, id_map: IdMap, kind: str, file: str) -> None:
    if id_map and not any(first <= number < first + size for first, _, size in id_map):
        ranges = ", ".join(f"{a}-{a + c - 1}" if c > 1 else str(a) for a, _, c in id_map)
        node.refuse(
            f"{kind} {number} is not mapped in the container (mapped: {ranges})",
            hint=f"map it in /linux/{kind}Mappings; an ordinary user needs a range for that in {file}",
            about=f"/linux/{kind}Mappings",
        )


def keeps_groups(annotations: dict[str, str]) -> bool:
    """Return whether the program has the caller's supplementary groups, not config.json's: crun's annotation."""
    return annotations.get("run.oci.keep_original_groups") == "1"
