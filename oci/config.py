"""Make config.json: the default one of `spec`, or that of a converted image (image-spec conversion.md)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Note = Callable[[str], None]

OCI_VERSION = "1.3.0"
_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
# The capabilities that docker gives a container (moby, oci/caps/defaults.go), because images expect them. Without
# CHOWN, FOWNER, SETUID and SETGID neither dpkg nor su works.
IMAGE_CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
]  # fmt: skip
MASKED_PATHS = [
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
]  # fmt: skip
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def default_config(rootless: bool, uid: int = 0, gid: int = 0) -> dict[str, Any]:
    """Return the config.json of `spec`: that of `runc spec`, or of `runc spec --rootless` for the user uid:gid.

    The rootless one adds a user namespace in which container id 0 is the user. It has no device rules, because only
    root can load them.
    """
    namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"]
    linux: dict[str, Any] = {}
    if rootless:
        namespaces.append("user")
        linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
    else:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    linux["namespaces"] = [{"type": kind} for kind in namespaces]
    linux["maskedPaths"] = list(MASKED_PATHS)
    linux["readonlyPaths"] = list(READONLY_PATHS)
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "rootless",
        "mounts": default_mounts(),
        "linux": linux,
    }


def default_mounts() -> list[dict[str, Any]]:
    """Return runc's default mounts. devpts asks for gid 5 (tty), which the runtime leaves out if it is not mapped."""
    nosuid = ["nosuid", "noexec", "nodev"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*nosuid, "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": nosuid},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*nosuid, "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*nosuid, "relatime", "ro"]},
    ]  # fmt: skip


DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DENY_DEVICES = [{"allow": False, "access": "rwm"}]
_IMAGE = "org.opencontainers.image."
_OWN = "org.rootless.image."  # annotations for what image-spec's conversion.md has no name for
# Annotations that command a runtime: systemd properties, files for hooks' output, another seccomp filter, criu's
# options. The user who writes config.json may use them. A label of an image must not, because its author is not the
# user (CVE-2024-3154, CVE-2026-94603).
COMMANDS = (
    "run.oci.", "org.systemd.property.", "org.criu.", "org.rootless.network", "org.rootless.publish",
    "org.rootless.no-host-loopback", "org.rootless.root",
)  # fmt: skip
_NAME_LIMIT = 64  # bytes, sethostname(2)


def convert_config(
    image: dict[str, Any], *, terminal: bool = False, args: list[str] | None = None, note: Note = lambda text: None
) -> dict[str, Any]:
    """Return config.json for an image's config (image-spec conversion.md). The caller adds user and id maps.

    args replaces Entrypoint and Cmd; without any of them the program is /bin/sh. What the runtime would refuse is left
    out, and `note` is called with one line about it. Raises TypeError, AttributeError or ValueError if the image's
    config is malformed.
    """
    wanted = image.get("config") or {}
    config = default_config(True)
    process = config["process"]
    process["terminal"] = terminal
    process["args"] = _program(wanted, args)
    process["env"] = _environment(string_list(wanted, "Env"), terminal, note)
    process["cwd"] = "/" + _text(wanted, "WorkingDir").lstrip("/")
    process["capabilities"] = {kind: list(IMAGE_CAPABILITIES) for kind in ("bounding", "effective", "permitted")}
    del process["noNewPrivileges"]  # because images have su and sudo
    config["hostname"] = _text(wanted, "Hostname", _NAME_LIMIT) or config["hostname"]
    if domain := _text(wanted, "Domainname", _NAME_LIMIT):
        config["domainname"] = domain
    config["root"]["readonly"] = False
    annotations = convert_annotations(image, note)
    if annotations:
        config["annotations"] = annotations
    return config


def _program(wanted: dict[str, Any], args: list[str] | None) -> list[str]:
    """Return Entrypoint and Cmd. `[""]` counts as none, because a Dockerfile removes its base's entrypoint that way."""
    parts = [string_list(wanted, key) for key in ("Entrypoint", "Cmd")]
    program = args or [word for part in parts if part != [""] for word in part] or ["/bin/sh"]
    if not program[0]:
        raise ValueError("the program's name is empty")
    return program


def string_list(wanted: dict[str, Any], key: str) -> list[str]:
    """Return a list of strings. Raises ValueError.

    One string counts as a list of one and not as a line for a shell, as docker reads it (moby, strslice).
    """
    value = wanted.get(key) or []
    if isinstance(value, str) and key in ("Entrypoint", "Cmd"):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"config.{key} is not a list of strings")
    if not all(map(_is_clean, value)):
        raise ValueError(f"config.{key} holds a NUL character or half of a surrogate pair, which no system call takes")
    return list(value)


def _text(wanted: dict[str, Any], key: str, limit: int = 1 << 20) -> str:
    """Return a string of at most `limit` bytes, cut off between two characters. Raises ValueError."""
    value = wanted.get(key) or ""
    if not isinstance(value, str) or not _is_clean(value):
        raise ValueError(f"config.{key} is not a string that a system call takes")
    data = value.encode("utf-8", "surrogateescape")
    return value if len(data) <= limit else data[:limit].decode("utf-8", "ignore")


def _is_clean(text: str) -> bool:
    """Return whether a system call takes the text: it has neither NUL nor half of a surrogate pair."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def _environment(given: list[str], terminal: bool, note: Note) -> list[str]:
    """Return the environment. The last of equal names wins, as in a shell; what is not NAME=VALUE is left out."""
    env = {entry.partition("=")[0]: entry for entry in given if entry.find("=") > 0}
    left_out = [entry for entry in given if entry.find("=") <= 0]
    if left_out:
        note(f"left out of the environment, because it is not NAME=VALUE: {_shown(left_out)}")
    if "PATH" not in env:
        env = {"PATH": DEFAULT_PATH, **env}
    if terminal:
        env.setdefault("TERM", "TERM=xterm")
    return list(env.values())


def convert_annotations(image: dict[str, Any], note: Note = lambda text: None) -> dict[str, str]:
    """Return the annotations for an image (image-spec conversion.md, "Annotation Fields"). Its own labels win.

    Volumes and Healthcheck have no place in config.json, so annotations of our own keep them. Labels that the runtime
    would refuse, or obey, are left out.
    """
    wanted = image.get("config") or {}
    result: dict[str, str] = {}
    for key, name in (
        ("os", "os"), ("architecture", "architecture"), ("variant", "variant"), ("os.version", "os.version"),
        ("author", "author"), ("created", "created"),
    ):  # fmt: skip
        if isinstance(image.get(key), str) and image[key]:
            result[_IMAGE + name] = image[key]
    if isinstance(image.get("os.features"), list) and image["os.features"]:
        result[_IMAGE + "os.features"] = ",".join(map(str, image["os.features"]))
    if isinstance(wanted.get("StopSignal"), str) and wanted["StopSignal"]:
        result[_IMAGE + "stopSignal"] = wanted["StopSignal"]
    for key, name in (("ExposedPorts", _IMAGE + "exposedPorts"), ("Volumes", _OWN + "volumes")):
        if names := _keys(wanted, key):
            result[name] = ",".join(names)
    if wanted.get("Healthcheck"):
        import json

        result[_OWN + "healthcheck"] = json.dumps(wanted["Healthcheck"], sort_keys=True)
    labels = wanted.get("Labels") or {}
    result.update({str(key): "" if value is None else str(value) for key, value in labels.items()})
    return _usable(result, note)


def _usable(annotations: dict[str, str], note: Note) -> dict[str, str]:
    broken = [key for key, value in annotations.items() if not (key and _is_clean(key) and _is_clean(value))]
    commands = [key for key in annotations if key.startswith(COMMANDS) and key not in broken]
    if broken:
        note(f"labels left out, because they are not text that an annotation can hold: {_shown(broken)}")
    if commands:
        note(f"labels left out, because as annotations they would command the runtime: {_shown(commands)}")
    return {key: value for key, value in annotations.items() if key not in broken and key not in commands}


def _keys(wanted: dict[str, Any], key: str) -> list[str]:
    """Return the keys of an object, sorted. A list of them, or one string, is accepted too. Raises ValueError."""
    value = wanted.get(key) or {}
    return [value] if isinstance(value, str) else sorted(map(str, value))


def _shown(items: list[str]) -> str:
    words = [ascii(item)[1:-1][:60] for item in items[:5]]
    return ", ".join(words) + (f" and {len(items) - 5} more" if len(items) > 5 else "")


def volume_paths(image: dict[str, Any]) -> list[str]:
    """Return the image's Volumes as absolute, normalised paths, each once. Raises ValueError for anything else."""
    paths = []
    for path in _keys(image.get("config") or {}, "Volumes"):
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if not path.startswith("/") or ".." in parts or not _is_clean(path) or not parts:
            raise ValueError(f"the volume {path!r} is not a path in the container")
        paths.append("/" + "/".join(parts))
    return list(dict.fromkeys(paths))
