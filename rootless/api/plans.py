"""Keep the launcher's plans. Each set of settings is compiled once, and again if the bundle's config.json changes."""

from __future__ import annotations

import errno
import marshal

from rootless import cgroup
from rootless.api import seen
from rootless.config_node import Node
from rootless.errors import RootlessError
from rootless.kernel import caps, proc
from rootless.kernel import syscalls as sc
from rootless.plan import Call
from rootless.plan.compiler import compile
from rootless.plan.host_system import closed_paths, give_home, host_system_config
from rootless.plan.settings import Settings, apply_settings
from rootless.process import program
from rootless.runtime.bundle import parse_config, read_config
from rootless.runtime.state import check_id
from rootless.startup import lean_os as os
from rootless.steps.binds import BindMount
from rootless.steps.context import Prepared
from rootless.steps.devices import AttachDevice
from rootless.steps.mounts import Mount
from rootless.userns.mount_userns import can_hide_owners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.api.seen import Points
    from rootless.cgroup.record import Record
    from rootless.kernel.host import Host
    from rootless.kernel.recording import Recording
    from rootless.plan.compiler import Plan

_MOST = 256  # plans that are kept
_NOFILE = 7  # RLIMIT_NOFILE (getrlimit(2))
_HARMLESS_LIMITS = {4: 0, _NOFILE: 32}  # the least RLIMIT_CORE and RLIMIT_NOFILE with which the small init can work
_PLACEHOLDER = "rootless-launched-container"  # the id in a plan's cgroup, until a container has one


class Compiled:
    """Hold one plan, and what the launcher has opened for it.

    needs_runtime: whether the container takes a runtime process of its own (a name, hooks, joined namespaces ...);
    maps_itself: whether init can write its id maps; keeps_ids: whether the container's root is the launcher's own user;
    spawns: whether the small init can start the program (can_spawn); limited: whether it has a cgroup; signature: of
    the bundle's config.json, () for none; shares: whether a container can be set up in a worker's memory
    (api/workers.py); masked: paths of /etc that the plan masks because they were closed to others,
    None if it need not; ids: (the root whose files of users and groups were looked at, what they were), None if they
    were not; used: whether a call has had the plan before (api/workers.py); recordings: in a worker, of the calls that
    set a container up (init/launched.py), None before the first; points: seen.find_points, None before the first spare;
    warning: which limits were left out, "" for none; closed: whether it is out of use.
    """

    def __init__(self, plan: Plan, host: Host, spec: dict[str, Any], bundle: str, name: str) -> None:
        self.plan = plan
        self.host = host
        self.spec = spec
        self.bundle = bundle
        self.name = name
        self.signature: tuple[int, ...] = ()
        self.masked: list[str] | None = None
        self.ids: tuple[str, list[tuple[int, ...]]] | None = None
        self.points: Points | None = None
        self.used = False
        self.recordings: tuple[Recording, Recording] | None = None
        self.best_effort = False
        self.warning = ""
        self.closed = False
        self.limited = bool(plan.cgroup.record["files"] or spec.get("linux", {}).get("cgroupsPath"))
        self.needs_runtime = bool(name) or _needs_runtime(plan)
        maps = plan.namespaces.uid_map, plan.namespaces.gid_map
        owns = (host.uid, host.gid)
        self.keeps_ids = not any(
            first == 0 and outside != own
            for id_map, own in zip(maps, owns, strict=True)
            for first, outside, _ in id_map
        )
        self.maps_itself = not host.is_root_here and all(
            len(id_map) == 1 and id_map[0][1:] == (own, 1) for id_map, own in zip(maps, owns, strict=True)
        )
        self.spawns = not self.needs_runtime and can_spawn(plan, spec, host)
        self.shares = self.spawns and self.keeps_ids and self.maps_itself and _may_share(plan, limited=self.limited)
        if not self.needs_runtime:
            self.prepared = self._prepare()

    def _prepare(self) -> Prepared:
        plan = self.plan
        prepared = Prepared(proc.open_proc(), None, setgroups=plan.namespaces.setgroups)  # type: ignore[arg-type]
        prepared.last_cap = caps.last_cap()
        # A user namespace has keyrings of its own. Otherwise the name is the container's (init/launched.py).
        prepared.keyring = "_ses.rootless" if plan.namespaces.new & sc.CLONE_NEWUSER else ""
        prepared.arguments = proc.own_arguments()
        prepared.filter = program.prepare_seccomp(plan.filter.profile) if plan.filter else None
        if any(isinstance(step, Mount) and step.fstype == "overlay" for step in plan.prepare):
            from rootless.steps import upper  # here once, and not in each container

            assert upper
        return prepared

    def record(self, name: str) -> Record:
        """Return the record of one container's cgroup."""
        record: Record = _renamed(self.plan.cgroup.record, f"rootless-{name}")
        return record

    def is_outdated(self) -> bool:
        """Return whether config.json, names of users, or the list of the closed files in /etc have changed since."""
        if self.signature and self.signature != _signature(f"{self.bundle}/config.json"):
            return True
        if self.ids and self.ids[1] != seen.look_at_ids(self.ids[0]):
            return True
        return self.masked is not None and self.masked != closed_paths("/etc")

    def close(self) -> None:
        """Close what was opened for the plan. It makes no container any more."""
        self.closed = True
        if not self.needs_runtime:
            os.close(self.prepared.proc_fd)


def _renamed(value: Any, name: str) -> Any:
    """Return a deep copy in which the placeholder has become a container's own name."""
    if type(value) is dict:
        return {key: _renamed(each, name) for key, each in value.items()}
    if type(value) is list:
        return [_renamed(each, name) for each in value]
    return value.replace(_PLACEHOLDER, name) if type(value) is str else value


def _may_share(plan: Plan, *, limited: bool) -> bool:
    """Return whether a container's set-up may be done in memory that another process goes on to use.

    Memory that a process shares counts for its owner's cgroup, and the OOM killer ends all that share it. A process
    with another time namespace for its children cannot start one that shares memory (clone(2), EINVAL). With
    CAP_SYS_PTRACE a program could open the small init's file as /proc/1/exe, and change the mode of the one file that
    all containers execute. A filter has to let the small init be executed, as the default one does (can_spawn).
    """
    new = plan.namespaces.new
    refused = limited or plan.warnings or new & sc.CLONE_NEWTIME or caps.may_trace(plan.process.caps)
    return not refused and bool(new & sc.CLONE_NEWUSER)


def _takes_scope(record: Record) -> bool:
    """Return whether the limits need a scope of systemd, which takes a process only after that has been cloned."""
    return bool(record["files"]) and cgroup.open(_renamed(record, "rootless")).needs_pid


def _needs_runtime(plan: Plan) -> bool:
    namespaces = plan.namespaces
    return bool(
        plan.hooks
        or namespaces.needs_joiner
        or not namespaces.has(sc.CLONE_NEWNS)
        or not namespaces.new & sc.CLONE_NEWPID
        or plan.resctrl
        or plan.net_devices
        or plan.network
        or plan.process.terminal
        or plan.emulation
        or plan.hands_over_cgroup()
        or (plan.filter and plan.filter.profile["notify"])
        or _takes_scope(plan.cgroup.record)
        or plan.process.oom_score_adj is not None
        or any(
            isinstance(step, AttachDevice) or (isinstance(step, BindMount) and step.outside) for step in plan.prepare
        )
    )


def can_spawn(plan: Plan, spec: dict[str, Any], host: Host) -> bool:
    """Return whether the small init may have the program's attributes itself, so that it can start it as its child.

    It must stay able to work: no other user, no limit that could hit it, no filter but our own. And execve must give
    the program the capabilities that config.json names. It takes them from the bounding and the inheritable set, and
    with no_new_privs no more than the starting process has permitted (capabilities(7)).
    """
    process = plan.process
    maps = (plan.namespaces.uid_map, host.uid), (plan.namespaces.gid_map, host.gid)
    ids = [0 if any(first == 0 for first, _, _ in id_map) else own for id_map, own in maps]
    sets = process.caps
    return (
        [process.user.uid, process.user.gid] == ids
        and not (sets["bounding"] | sets["inheritable"]) & ~sets["permitted"]
        and not process.scheduling
        and not process.labels
        and all(soft >= _HARMLESS_LIMITS.get(number, soft + 1) for number, soft, _, _ in process.rlimits)
        and (not plan.filter or _is_default_filter(spec))
    )


def _is_default_filter(spec: dict[str, Any]) -> bool:
    from rootless.plan.seccomp_profile import default_profile

    capabilities = spec.get("process", {}).get("capabilities") or {}
    return bool(spec["linux"]["seccomp"] == default_profile(capabilities))


class Plans:
    """Keep the plans that were compiled, by the bytes of their settings."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.kept: dict[bytes, Compiled] = {}

    def find(self, settings: bytes) -> Compiled:
        """Return the plan for these settings, compiled now or before. Raises RootlessError."""
        compiled = self.kept.get(settings)
        if compiled and compiled.is_outdated():
            del self.kept[settings]
            compiled.close()
            compiled = None
        if not compiled:
            compiled = compile_settings(marshal.loads(settings), self.host)
            if len(self.kept) >= _MOST:
                oldest = next(iter(self.kept))
                self.kept.pop(oldest).close()
            self.kept[settings] = compiled
        return compiled


def _signature(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return (0,)
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def compile_settings(asked: dict[str, Any], host: Host) -> Compiled:
    """Return the plan for the settings as the client packs them (api/settings.py). Raises RootlessError."""
    signature = _signature(f"{asked['root'][1]}/config.json") if asked["root"][0] == "bundle" else ()
    spec, bundle, masked = _read_root(asked, host)
    spec.setdefault("process", {"cwd": "/"})["terminal"] = False
    spec["process"].setdefault("args", ["sh"])
    name = check_id(asked["name"]) if asked.get("name") else ""
    keywords = dict(asked["keywords"])
    ids = None
    if any(asked.get(key) is not None for key in ("user", "group", "groups")):
        rootfs = "/" if asked["root"][0] == "host" else os.path.normpath(os.path.join(bundle, spec["root"]["path"]))
        ids = rootfs, seen.look_at_ids(rootfs)
        keywords |= _read_user(asked, host, spec, rootfs)
    spec = apply_settings(spec, Settings(bundle=bundle, base=asked["base"], gives_names=True, **keywords), host)
    warning = ""
    if asked.get("best_effort"):
        spec, warning = _without_impossible_limits(spec, bundle, host)
    plan = compile(Node(spec), host, Call(bundle, name or _PLACEHOLDER))
    if plan.cgroup.refusal:
        what, _, hint = plan.cgroup.refusal.partition("; hint: ")
        hint = f'{hint}; limits="best-effort" runs it without them'.lstrip("; ")
        raise RootlessError(what, hint=hint)
    compiled = Compiled(plan, host, spec, bundle, name)
    compiled.signature = signature
    compiled.masked = masked
    compiled.ids = ids
    compiled.best_effort = bool(asked.get("best_effort"))
    if warning:
        compiled.warning = warning
        plan.warnings.append(warning)
    return compiled


def _read_root(asked: dict[str, Any], host: Host) -> tuple[dict[str, Any], str, list[str] | None]:
    """Return (the config of the root that the caller asks for, the bundle's directory, `masked` as in Compiled)."""
    kind, path = asked["root"]
    if kind == "bundle":
        config = f"{path}/config.json"
        return parse_config(read_config(config), config), path, None
    if kind == "rootfs":
        from oci.config import default_config

        if not host.is_directory(path):
            raise RootlessError("the rootfs is not a directory", path, hint="rootfs= names it")
        spec = default_config(not host.is_root_on_host, host.uid, host.gid)
        spec["root"]["path"] = path
        most = sc.prlimit(_NOFILE)[1]  # a container may not raise a limit that the caller has lowered
        for limit in spec["process"]["rlimits"]:
            limit.update(hard=min(limit["hard"], most), soft=min(limit["soft"], most))
        return spec, os.path.dirname(path), None
    as_root = asked.get("user") in (0, "root", "0") and host.uid != 0
    hides = host.is_root_here and can_hide_owners("/etc")
    masked = closed_paths("/etc") if host.uid == 0 and not hides else None
    return host_system_config(host, as_root=as_root, hide_owners=hides), "/", masked


def _read_user(asked: dict[str, Any], host: Host, spec: dict[str, Any], rootfs: str) -> dict[str, Any]:
    """Return the keywords of Settings for user, group and groups, without ids that config.json has already."""
    from oci.ids import is_number
    from rootless.api.users import find_user

    is_host = asked["root"][0] == "host"
    ids = find_user(spec["process"].get("user") or {}, asked, rootfs)
    if [ids.uid, ids.gid, ids.groups] == _ids_of(spec):
        is_named = not (is_host or is_number(str(asked.get("user") or 0)))
        return {"env": [f"HOME={ids.home}"]} if is_named and ids.home else {}  # of several names with this uid
    if is_host and ids.groups and (ids.uid, ids.gid) == (host.uid, host.gid):
        what = "the host's own system gives the program the caller's ids, and no further group is mapped"
        raise RootlessError(what, "/process/user/additionalGids", errno.EPERM, hint="leave extra_groups out")
    if is_host:  # which shows no home of passwd's
        ids.home = give_home(spec, ids.uid, ids.gid)
    return {"user": f"{ids.uid}:{ids.gid}", "user_ids": ids}


def _ids_of(spec: dict[str, Any]) -> list[Any]:
    user = spec["process"].get("user") or {}
    return [user.get("uid", 0), user.get("gid", 0), user.get("additionalGids") or []]


def _without_impossible_limits(spec: dict[str, Any], bundle: str, host: Host) -> tuple[dict[str, Any], str]:
    """Return the config without the limits that cannot be set here, and a line that says so."""
    plan = compile(Node(spec), host, Call(bundle, _PLACEHOLDER))
    if not plan.cgroup.refusal:
        return spec, ""
    linux = {key: value for key, value in spec["linux"].items() if key != "resources"}
    return {**spec, "linux": linux}, f"the container runs without limits: {plan.cgroup.refusal}"
