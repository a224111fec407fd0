"""Apply flags and keyword arguments to config.json, in memory. Pure: facts about the machine come from `host`.

TABLE lists all settings: the Python API's keyword, the flag of the command line, and the function that changes
config.json. `apply_settings` calls the functions in this order.
"""

from __future__ import annotations

from rootless.config_node import closest
from rootless.errors import RootlessError, SpecError
from rootless.kernel.units import MAX_CPUS, is_number, parse_numbers, parse_size
from rootless.plan import volumes
from rootless.plan.change import NOTHING, Change, copy, merge_patch, tidy, wrong
from rootless.plan.change import Settings as Settings
from rootless.plan.change import UserIds as UserIds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from rootless.kernel.host import Host

_KEEP_GROUPS = "run.oci.keep_original_groups"
_SWITCHES = ("no_new_privileges", "read_only")  # False asks for something, None for nothing
_PERIOD = 100000  # microseconds: docker's period for --cpus, and the kernel's default (cgroup-v2.rst, cpu.max)


def apply_settings(spec: Mapping[str, Any], settings: Settings, host: Host) -> dict[str, Any]:
    """Return a copy of config.json with the settings applied.

    host: says which files of the host exist. Raises RootlessError, whose place is the flag and its value.
    """
    changed: dict[str, Any] = copy(spec)
    change = Change(changed, settings, host)
    for keyword, _, apply in TABLE:
        value = getattr(settings, keyword)
        # A number of 0 is in NOTHING, because it equals False.
        if value not in NOTHING or type(value) in (int, float) or (keyword in _SWITCHES and value is False):
            apply(change, value)
    if settings.gives_names and not settings.network:
        _give_names(change)
    return changed


# ------------------------------------------------------------------------------------------- the program


def _apply_args(change: Change, args: list[str]) -> None:
    change.part("process")["args"] = list(args)


def _apply_entrypoint(change: Change, program: str) -> None:
    change.part("process")["args"] = [program, *change.settings.args]


def _apply_env(change: Change, entries: list[str]) -> None:
    for entry in entries:
        name, equals, _ = entry.partition("=")
        if not equals or not name or "\0" in entry:
            raise wrong("env", repr(entry), "not an environment variable", "NAME=VALUE, or NAME for the caller's own")
        change.set_env(entry)


def _apply_cwd(change: Change, path: str) -> None:
    if not path.startswith("/"):
        raise wrong("workdir", path, "the working directory is not absolute", "a path in the container, such as /src")
    change.part("process")["cwd"] = path


def _apply_user(change: Change, text: str) -> None:
    ids = change.settings.user_ids or _numbers(text)
    process = change.part("process")
    old = process.get("user")
    user = {"uid": ids.uid, "gid": ids.gid}
    if ids.groups:
        user["additionalGids"] = ids.groups  # type: ignore[assignment]
    if type(old) is dict and "umask" in old:
        user["umask"] = old["umask"]
    process["user"] = user
    if ids.home and not any(entry.startswith("HOME=") for entry in change.settings.env):
        change.set_env(f"HOME={ids.home}")
    _map_ids(change, [ids.uid], [ids.gid, *ids.groups])


def _numbers(text: str) -> UserIds:
    uid, colon, gid = text.partition(":")
    if not all(part.isascii() and part.isdigit() and len(part) <= 10 for part in (uid, gid or "0")):
        raise wrong("user", text, "a user's name can only be looked up in a root file system", "UID or UID:GID")
    return UserIds(int(uid), int(gid) if colon and gid else 0, [])


def _map_ids(change: Change, uids: list[int], gids: list[int]) -> None:
    """Map the ids that the program gets, if config.json maps a single id. An empty list asks for no id.

    With a range of subordinate ids, map the whole range. With a single id, map that one to the user.
    """
    linux, host = change.part("linux"), change.host
    if host.is_root_here and not linux.get("uidMappings"):
        return
    from rootless.kernel.host import default_id_map

    ranges = bool(host.subuid and host.subgid)
    for key, wanted, own, subids in (
        ("uidMappings", uids, host.uid, host.subuid),
        ("gidMappings", gids, host.gid, host.subgid),
    ):
        id_map = linux.get(key) or []
        if not id_map and ranges:
            continue  # the default map has the whole range
        if len(id_map) > 1 or any(type(m) is not dict or m.get("size") != 1 for m in id_map):
            continue  # config.json has a range of its own, and compile_process says what it lacks
        if ranges and not host.is_root_here:
            entries = default_id_map(own, subids)
            linux[key] = [{"containerID": a, "hostID": b, "size": c} for a, b, c in entries]
        elif id_map and wanted:
            linux[key] = [{**id_map[0], "containerID": wanted[0]}]
        elif wanted:
            linux[key] = [{"containerID": wanted[0], "hostID": own, "size": 1}]
    if not ranges and uids:
        change.spec["process"]["user"].pop("additionalGids", None)  # because a single map has one group


def _apply_groups(change: Change, groups: list[str]) -> None:
    if "keep-groups" in groups and len(set(groups)) > 1:  # the caller's groups can only be kept as they are
        raise wrong("group-add", "keep-groups", "no other group can be added to the caller's", "leave the others out")
    for group in groups:
        if group == "keep-groups":
            change.part("annotations")[_KEEP_GROUPS] = "1"
        elif group.isascii() and group.isdigit() and len(group) <= 10:
            user = change.part("process", "user")
            user["additionalGids"] = [*change.array(user, "additionalGids"), int(group)]
            if change.host.subuid and change.host.subgid:
                _map_ids(change, [], [int(group)])
        else:
            raise wrong("group-add", group, "not a group", "a number, or keep-groups for the caller's own groups")


# ------------------------------------------------------------------------------------------- the file system


def _apply_upper(change: Change, upper: str) -> None:
    """Mount a throw-away overlay over the root. Its lower directory is the bundle's rootfs, which does not change."""
    root = change.part("root")
    path = root.get("path")
    if type(path) is not str or not path:
        raise SpecError('"path" is missing: it is required', "/root/path")
    rootfs = path if path.startswith("/") else f"{change.settings.bundle}/{path}"
    mounts = change.array(change.spec, "mounts")
    if any(type(m) is dict and tidy(m.get("destination")) == "/" for m in mounts):
        raise wrong("ephemeral", upper, "config.json already mounts something on /", "take that mount out")
    options = overlay_options(rootfs, upper)
    mounts.insert(0, {"destination": "/", "type": "overlay", "source": "overlay", "options": options})


def overlay_options(rootfs: str, upper: str) -> list[str]:
    """Return the options of the overlay for a throw-away root. upper: as Settings has it."""
    if upper.partition(":")[0] == "tmpfs":
        return [f"lowerdir={_escape(rootfs)}", f"upper={upper}"]
    place = _escape(upper)
    return [f"lowerdir={_escape(rootfs)}", f"upperdir={place}/upper", f"workdir={place}/work"]


def _escape(path: str) -> str:
    """Return a path with the escapes of overlay's options (overlayfs.rst, "Multiple lower layers")."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _apply_read_only(change: Change, value: bool) -> None:
    change.part("root")["readonly"] = value


def _apply_volumes(change: Change, texts: list[str]) -> None:
    for text in texts:
        change.add_mount("volume", volumes.read_volume(text, change.settings.base, change.host))


def _apply_mounts(change: Change, texts: list[str]) -> None:
    for text in texts:
        change.add_mount("mount", volumes.read_mount(text, change.settings.base, change.host))


def _apply_tmpfs(change: Change, texts: list[str]) -> None:
    for text in texts:
        change.add_mount("tmpfs", volumes.read_tmpfs(text))


def _apply_mount_home(change: Change, _: bool) -> None:
    home = change.settings.home
    if not home.startswith("/") or not change.host.is_directory(home):
        raise wrong("mount-home", home, "the home directory does not exist", "HOME names it")
    change.add_mount("mount-home", volumes.bind(home, home))
    change.set_env(f"HOME={home}")


def _apply_mount_cwd(change: Change, _: bool) -> None:
    if not change.settings.base:
        raise RootlessError("the working directory was removed", "--mount-cwd", hint="cd to another one")
    if change.settings.base == "/":
        what, hint = "nothing is mounted over the whole root", "cd to a directory below / first"
        raise RootlessError(what, "--mount-cwd", hint=hint)
    if change.settings.base not in change.places:  # else it is the home directory, which is there
        change.add_mount("mount-cwd", volumes.bind(change.settings.base, change.settings.base))
    if not change.settings.cwd:
        change.part("process")["cwd"] = change.settings.base


def _apply_shm_size(change: Change, size: str | int) -> None:
    number = read_size("shm-size", size)
    if not number:
        return  # docker: the default, which an image's configuration has
    for mount in change.array(change.spec, "mounts"):
        if type(mount) is dict and tidy(mount.get("destination")) == "/dev/shm" and mount.get("type") == "tmpfs":
            kept = [o for o in change.array(mount, "options") if not str(o).startswith("size=")]
            mount["options"] = [*kept, f"size={number}"]
            return
    options = ["nosuid", "noexec", "nodev", "mode=1777", f"size={number}"]
    change.add_mount("shm-size", {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": options})


def _apply_devices(change: Change, texts: list[str]) -> None:
    devices = change.array(change.part("linux"), "devices")
    for text in texts:
        device, access = volumes.read_device(text, change.host)
        devices[:] = [d for d in devices if type(d) is not dict or d.get("path") != device["path"]]
        devices.append(device)
        if change.host.is_root_on_host and access:
            rule = {"allow": True, "access": access}
            rule |= {"type": device["type"], "major": device["major"], "minor": device["minor"]}
            change.array(change.part("linux", "resources"), "devices").append(rule)


# ------------------------------------------------------------------------------------------- limits


def read_size(flag: str, value: str | int, *, unlimited: bool = False) -> int:
    """Return the bytes of `512m`, `1.5g` or a number; 0 is docker's word for no limit or the default.

    unlimited: -1 is accepted, too. Raises RootlessError.
    """
    hint = "a number with b, k, m, g, t or p" + (", or -1 for no limit" if unlimited else "")
    if unlimited and str(value) == "-1":
        return -1
    try:
        number = parse_size(str(value))
    except ValueError:
        raise wrong(flag, value, "not a size", hint) from None
    if number < 0:
        raise wrong(flag, value, "not a size", hint)
    return number


def _apply_memory(change: Change, size: str | int) -> None:
    """Limit the memory, and without --memory-swap the swap to the same size, like docker; 0 is no limit.

    Otherwise a machine with swap would slow a program down that should end. A kernel without swap has no such limit.
    """
    limit = read_size("memory", size)
    memory = change.part("linux", "resources", "memory")
    memory.pop("limit", None)
    memory.pop("swap", None)
    if limit:
        memory["limit"] = limit
        if change.host.exists("/proc/swaps"):
            memory["swap"] = 2 * limit  # memory and swap together (config-linux.md#memory)


def _apply_memory_swap(change: Change, size: str | int) -> None:
    """Limit memory plus swap, like docker: 0 is as if the flag were not there, -1 is no limit of the swap."""
    swap = read_size("memory-swap", size, unlimited=True)
    memory = change.part("linux", "resources", "memory")
    limited = type(memory.get("limit")) is int and memory["limit"] > 0
    if not swap or (swap < 0 and not limited):
        return
    if not limited:
        raise wrong("memory-swap", size, "a limit of memory plus swap needs one of memory", "--memory SIZE")
    if 0 < swap < memory["limit"]:
        what = "memory plus swap is less than the memory alone"
        raise wrong("memory-swap", size, what, f"at least {memory['limit']}, or -1 for no limit")
    memory["swap"] = swap


def _apply_cpus(change: Change, cpus: str | float) -> None:
    try:
        if type(cpus) is str and not is_number(cpus):  # float() takes 1_0 and other scripts' digits, too
            raise ValueError
        number = float(cpus)
        if number != 0 and not 0.01 <= number < 100000:
            raise ValueError
    except ValueError:
        hint = "such as 0.5 or 2, at least 0.01, or 0 for no limit"
        raise wrong("cpus", cpus, "not a number of CPUs", hint) from None
    cpu = change.part("linux", "resources", "cpu")
    cpu.pop("period", None)
    cpu.pop("quota", None)
    if number:
        cpu["period"], cpu["quota"] = _PERIOD, int(number * _PERIOD)


def _apply_cpuset(change: Change, cpus: str) -> None:
    try:
        parse_numbers(cpus, MAX_CPUS)
    except ValueError:
        raise wrong("cpuset-cpus", cpus, "not a list of CPUs", "such as 0-3,7") from None
    change.part("linux", "resources", "cpu")["cpus"] = cpus


def _apply_pids(change: Change, limit: str | int) -> None:
    text = str(limit)
    if text != "-1" and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise wrong("pids-limit", limit, "not a number of processes", "a whole number, or -1 for no limit")
    change.part("linux", "resources", "pids")["limit"] = int(text) or -1  # docker: 0 is no limit, too


def _apply_ulimits(change: Change, ulimits: list[str] | dict[str, Any]) -> None:
    from rootless.process.rlimits import RLIMITS

    if type(ulimits) is dict:
        ulimits = [f"{name}={':'.join(map(str, v)) if type(v) in (tuple, list) else v}" for name, v in ulimits.items()]
    limits = change.array(change.part("process"), "rlimits")
    for text in ulimits:
        name, _, values = text.partition("=")
        kind = f"RLIMIT_{name.upper()}"
        if kind not in RLIMITS:
            hint = closest(name, [known[7:].lower() for known in RLIMITS])
            raise wrong("ulimit", text, "unknown limit", hint or "NAME=SOFT[:HARD], such as nofile=1024:4096")
        soft, colon, hard = values.partition(":")
        pair = [_read_ulimit(text, part) for part in (soft, hard if colon else soft)]
        if pair[0] > pair[1]:
            raise wrong("ulimit", text, "the soft limit is above the hard one", "NAME=SOFT[:HARD]")
        limits[:] = [limit for limit in limits if type(limit) is not dict or limit.get("type") != kind]
        limits.append({"type": kind, "soft": pair[0], "hard": pair[1]})


def _read_ulimit(text: str, value: str) -> int:
    if value in ("-1", "unlimited"):
        return 2**64 - 1
    if not (value.isascii() and value.isdigit() and len(value) < 20):
        raise wrong("ulimit", text, "not a limit", "NAME=SOFT[:HARD], such as nofile=1024:4096, or -1 for none")
    return int(value)


# ------------------------------------------------------------------------------------------- network and names


def _apply_hostname(change: Change, name: str) -> None:
    if len(name) > 64 or not name.isprintable() or " " in name or "/" in name:
        raise wrong("hostname", name, "not a host name", "at most 64 characters, without blanks")
    kinds = [n.get("type") for n in change.array(change.part("linux"), "namespaces") if type(n) is dict]
    if "uts" not in kinds:
        change.part("linux")["namespaces"].append({"type": "uts"})
    change.spec["hostname"] = name


def _apply_network(change: Change, network: str) -> None:
    from rootless.plan.network import apply_network

    apply_network(change, network)


def _apply_publish(change: Change, texts: list[str]) -> None:
    from rootless.plan.network import apply_publish

    apply_publish(change, texts)


def _apply_no_host_loopback(change: Change, value: bool) -> None:
    from rootless.plan.network import apply_no_host_loopback

    apply_no_host_loopback(change, value)


def _give_names(change: Change) -> None:
    """Give a container on the host's network the host's names. Most containers have one of their own."""
    namespaces = change.part("linux").get("namespaces")
    if type(namespaces) is list and all(type(n) is not dict or n.get("type") != "network" for n in namespaces):
        from rootless.plan.network import bind_names

        bind_names(change, asked=False)


# ------------------------------------------------------------------------------------------- rights


def _apply_cap_drop(change: Change, names: list[str]) -> None:
    dropped = _capabilities("cap-drop", names)
    sets = change.part("process", "capabilities")
    for kind in ("bounding", "effective", "permitted", "inheritable", "ambient"):
        if kind in sets:
            sets[kind] = [name for name in change.array(sets, kind) if name not in dropped]


def _apply_cap_add(change: Change, names: list[str]) -> None:
    """Add capabilities. A name is stronger than --cap-drop, but `all` means all but the dropped ones, as docker's."""
    added = _capabilities("cap-add", names)
    if any(name.upper() == "ALL" for name in names):
        dropped = [name for name in change.settings.cap_drop if name.upper() != "ALL"]
        left_out = _capabilities("cap-drop", dropped)
        added = [name for name in added if name not in left_out]
    sets = change.part("process", "capabilities")
    for kind in ("bounding", "effective", "permitted"):
        sets[kind] = list(dict.fromkeys([*change.array(sets, kind), *added]))


def _capabilities(flag: str, names: list[str]) -> list[str]:
    """Return capabilities by their whole names; `all` is every one of this kernel. Raises RootlessError."""
    from rootless.kernel.caps import CAPABILITIES, names_of_this_kernel

    whole_names: list[str] = []
    for name in names:
        if name.upper() == "ALL":
            whole_names += names_of_this_kernel()
            continue
        whole = name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}"
        if whole not in CAPABILITIES:
            # Without the prefix, which all have: else every name is close to some other.
            near = closest(whole.removeprefix("CAP_"), (known.removeprefix("CAP_") for known in CAPABILITIES))
            hint = near.replace("'", "'CAP_", 1) or "capabilities(7) lists them"
            raise wrong(flag, name, "unknown capability", hint)
        whole_names.append(whole)
    return whole_names


def _apply_no_new_privileges(change: Change, value: bool) -> None:
    change.part("process")["noNewPrivileges"] = value


def _apply_security(change: Change, options: list[str]) -> None:
    for option in options:
        name, equals, value = option.replace(":", "=", 1).partition("=") if "=" not in option else option.partition("=")
        if name == "no-new-privileges" and value in ("", "true", "false"):
            _apply_no_new_privileges(change, value != "false")
        elif name == "apparmor" and value:
            change.part("process")["apparmorProfile"] = value
        elif name == "label" and value == "disable":
            change.part("process").pop("selinuxLabel", None)
        elif name == "systempaths" and value == "unconfined":
            change.part("linux").update(maskedPaths=[], readonlyPaths=[])
        elif name != "seccomp" or not equals or not value:  # seccomp: its file is read by the caller
            hint = "no-new-privileges, seccomp=FILE, seccomp=default, seccomp=unconfined or apparmor=PROFILE"
            raise wrong("security-opt", option, "unknown security option", hint)


def _apply_seccomp(change: Change, profile: str | dict[str, Any]) -> None:
    linux = change.part("linux")
    if profile == "unconfined":
        linux.pop("seccomp", None)
    elif type(profile) is dict:
        linux["seccomp"] = profile
    elif profile == "default":
        from rootless.plan.seccomp_profile import default_profile

        linux["seccomp"] = default_profile(change.part("process").get("capabilities") or {})
    else:
        hint = "a file with a profile, default, or unconfined"
        raise wrong("security-opt", f"seccomp={profile}", "not a seccomp profile", hint)


def _apply_root_emulation(change: Change, value: str | bool) -> None:
    wish = {"true": "auto", "false": "none"}.get(str(value).lower(), str(value))
    if wish not in ("auto", "errno", "notify", "none"):
        raise wrong("root-emulation", value, "unknown kind of root emulation", "errno, notify, or no value to choose")
    change.part("annotations")["org.rootless.root-emulation"] = wish


def _apply_annotations(change: Change, entries: list[str]) -> None:
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not name or not equals:
            raise wrong("annotation", entry, "not an annotation", "NAME=VALUE")
        change.part("annotations")[name] = value


def _apply_config(change: Change, patch: dict[str, Any]) -> None:
    merged = merge_patch(change.spec, patch)
    change.spec.clear()
    change.spec.update(merged)


# (keyword, flag, what it changes), in the order of their application: a later row sees what an earlier one has made.
TABLE: list[tuple[str, str, Callable[[Change, Any], None]]] = [
    ("args", "", _apply_args),
    ("entrypoint", "entrypoint", _apply_entrypoint),
    ("mount_home", "mount-home", _apply_mount_home),
    ("mount_cwd", "mount-cwd", _apply_mount_cwd),
    ("cwd", "workdir", _apply_cwd),
    ("user", "user", _apply_user),
    ("group_add", "group-add", _apply_groups),
    ("env", "env", _apply_env),
    ("upper", "ephemeral", _apply_upper),
    ("read_only", "read-only", _apply_read_only),
    ("tmpfs", "tmpfs", _apply_tmpfs),
    ("mounts", "mount", _apply_mounts),
    ("volumes", "volume", _apply_volumes),
    ("shm_size", "shm-size", _apply_shm_size),
    ("devices", "device", _apply_devices),
    ("memory", "memory", _apply_memory),
    ("memory_swap", "memory-swap", _apply_memory_swap),
    ("cpus", "cpus", _apply_cpus),
    ("cpuset_cpus", "cpuset-cpus", _apply_cpuset),
    ("pids", "pids-limit", _apply_pids),
    ("ulimits", "ulimit", _apply_ulimits),
    ("hostname", "hostname", _apply_hostname),
    ("network", "network", _apply_network),
    ("publish", "publish", _apply_publish),
    ("no_host_loopback", "no-host-loopback", _apply_no_host_loopback),
    ("cap_drop", "cap-drop", _apply_cap_drop),
    ("cap_add", "cap-add", _apply_cap_add),
    ("no_new_privileges", "", _apply_no_new_privileges),
    ("security_opt", "security-opt", _apply_security),
    ("seccomp", "", _apply_seccomp),
    ("root_emulation", "root-emulation", _apply_root_emulation),
    ("annotations", "annotation", _apply_annotations),
    ("config", "", _apply_config),
]
