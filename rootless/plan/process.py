"""`process`: who the program is and what it may do (runtime-spec, config.md#process). Pure.

The same reader serves `create` and `exec`, whose process.json has this shape.
"""

from __future__ import annotations

from rootless.errors import printable
from rootless.kernel import caps
from rootless.plan.mounts import normal_path
from rootless.process import rlimits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.kernel.host import IdMap
    from rootless.node import Node

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_MAX_ID = 2**32 - 2  # 2^32-1 is the -1 that setresuid(2) and setresgid(2) take for "no change"


def compile_process(process: Node, *, possible: int, uid_map: IdMap, gid_map: IdMap) -> dict[str, Any]:
    """The process as plain data: args, env, cwd, terminal, size, uid, gid, groups, umask, caps, ...

    possible: the capabilities that can be granted (a mask); uid_map and gid_map: the container's, [] for the
    caller's own. The key "warnings" holds lines for the user.
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
    process["commandLine"].string()  # Windows reads it, and user/username: here only the type counts
    sets, warnings = caps.read_capabilities(process["capabilities"], possible)
    return {
        "pointer": process.pointer,
        "args": args,
        "env": _read_env(process["env"]),
        "cwd": normal_path(cwd),
        "terminal": process["terminal"].boolean(),
        "size": _read_size(process["consoleSize"]),
        **_read_user(process["user"], uid_map, gid_map),
        "keep_groups": False,
        "caps": sets,
        "warnings": warnings,
        "rlimits": rlimits.read_rlimits(process["rlimits"]),
        "no_new_privs": process["noNewPrivileges"].boolean(),
        "oom_score_adj": process["oomScoreAdj"].integer(0, -1000, 1000) if process["oomScoreAdj"] else None,
        "attributes": _read_attributes(process),
        "labels": [],
        "apparmor": process["apparmorProfile"].string(),
        "selinux": process["selinuxLabel"].string(),
    }


def _read_size(node: Node) -> tuple[int, int]:
    """Height and width for TIOCSWINSZ, zeros where there is no consoleSize: tty_ioctl(4) has 16 bits for each."""
    if not node:
        return 0, 0
    return node["height"].required().integer(0, 0, 65535), node["width"].required().integer(0, 0, 65535)


def _read_attributes(process: Node) -> list[tuple[str, tuple[Any, ...]]]:
    """Scheduling: [(the name of an apply_ function of rootless.process.scheduler, its arguments)], in the order of applying."""
    if not (process["scheduler"] or process["ioPriority"] or process["execCPUAffinity"]):
        return []
    from rootless.process import scheduler

    found: list[tuple[str, tuple[Any, ...]]] = []
    affinity = scheduler.read_exec_cpu_affinity(process["execCPUAffinity"])
    if affinity:
        found += [("cpu_affinity", (affinity[0], "initial")), ("cpu_affinity", (affinity[1], "final"))]
    policy = scheduler.read_scheduler(process["scheduler"])
    if policy:
        found.append(("scheduler", (policy,)))
    priority = scheduler.read_io_priority(process["ioPriority"])
    if priority is not None:
        found.append(("io_priority", (priority,)))
    return found


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


def _read_user(node: Node, uid_map: IdMap, gid_map: IdMap) -> dict[str, Any]:
    uid, gid = node["uid"].integer(0, 0, _MAX_ID), node["gid"].integer(0, 0, _MAX_ID)
    node["username"].string()
    groups = []
    for item in node["additionalGids"].items():
        groups.append(item.required().integer(0, 0, _MAX_ID))
        _check_mapped(item, groups[-1], gid_map, "gid", "/etc/subgid")
    _check_mapped(node["uid"], uid, uid_map, "uid", "/etc/subuid")
    _check_mapped(node["gid"], gid, gid_map, "gid", "/etc/subgid")
    umask = node["umask"].integer(0o022, 0, 0o7777)
    return {"uid": uid, "gid": gid, "groups": groups, "umask": umask}


def _check_mapped(node: Node, number: int, id_map: IdMap, kind: str, file: str) -> None:
    if id_map and not any(first <= number < first + size for first, _, size in id_map):
        ranges = ", ".join(f"{a}-{a + c - 1}" if c > 1 else str(a) for a, _, c in id_map)
        node.refuse(
            f"{kind} {number} is not mapped in the container (mapped: {ranges})",
            hint=f"map it in /linux/{kind}Mappings; an ordinary user needs a range for that in {file}",
            about=f"/linux/{kind}Mappings",
        )
