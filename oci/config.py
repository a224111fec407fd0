"""The runtime configuration: the default one, and (with an image's config) the one of a converted image."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OCI_VERSION = "1.3.0"
_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
MASKED_PATHS = [
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
]  # fmt: skip
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def default_config(rootless: bool, uid: int = 0, gid: int = 0) -> dict[str, Any]:
    """The config.json of `spec`: runc's default, for root, or for the ordinary user uid:gid who becomes root inside.

    The rootless one maps container id 0 to the user (size 1), adds the user namespace, binds nothing of the host
    but /sys where there is no network namespace of one's own (there is one here), and asks for no device rules.
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
    """runc's default mounts. devpts asks for gid 5 (tty), which the runtime leaves out where it is not mapped."""
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
_IMAGE = "org.opencontainers.image."
_OWN = "org.rootless.image."  # what image-spec's conversion has no name for


def convert_config(image: dict[str, Any], *, terminal: bool = False, args: list[str] | None = None) -> dict[str, Any]:
    """The config.json of an image's config, by image-spec's conversion.md; user and id maps are the caller's to set.

    args replaces Entrypoint and Cmd; without any of them the program is /bin/sh. Raises TypeError, AttributeError or
    ValueError where the image's config has not the form that it should.
    """
    wanted = image.get("config") or {}
    config = default_config(True)
    process = config["process"]
    process["terminal"] = terminal
    process["args"] = args or _strings(wanted, "Entrypoint") + _strings(wanted, "Cmd") or ["/bin/sh"]
    process["env"] = _environment(_strings(wanted, "Env"), terminal)
    process["cwd"] = "/" + str(wanted.get("WorkingDir") or "").lstrip("/")
    config["hostname"] = str(wanted.get("Hostname") or config["hostname"])[:64]
    if wanted.get("Domainname"):
        config["domainname"] = str(wanted["Domainname"])[:64]
    config["root"]["readonly"] = False
    annotations = convert_annotations(image)
    if annotations:
        config["annotations"] = annotations
    return config


def _strings(wanted: dict[str, Any], key: str) -> list[str]:
    value = wanted.get(key) or []
    if isinstance(value, str) and key == "Cmd":  # docker's first images had a shell command here
        value = ["/bin/sh", "-c", value]
    if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
        raise ValueError(f"config.{key} is no list of strings")
    return list(value)


def _environment(given: list[str], terminal: bool) -> list[str]:
    env = {entry.partition("=")[0]: entry for entry in given if "=" in entry}  # the last of equals wins, as in a shell
    if "PATH" not in env:
        env = {"PATH": DEFAULT_PATH, **env}
    if terminal:
        env.setdefault("TERM", "TERM=xterm")
    return list(env.values())


# What a runtime does as an annotation of config.json, which its user writes: systemd properties, hooks' output, another
# filter, criu's options. An image's label of that name is only text (CVE-2024-3154, CVE-2026-94603).
COMMANDS = ("run.oci.", "org.systemd.property.", "org.criu.")


def convert_annotations(image: dict[str, Any]) -> dict[str, str]:
    """image-spec conversion.md, "Annotation Fields"; the image's own labels win over what is generated,
    but those that would command the runtime are left out.

    Volumes and Healthcheck, which the runtime has no place for, are kept as annotations of our own.
    """
    wanted = image.get("config") or {}
    found: dict[str, str] = {}
    for key, name in (
        ("os", "os"), ("architecture", "architecture"), ("variant", "variant"), ("os.version", "os.version"),
        ("author", "author"), ("created", "created"),
    ):  # fmt: skip
        if isinstance(image.get(key), str) and image[key]:
            found[_IMAGE + name] = image[key]
    if isinstance(image.get("os.features"), list) and image["os.features"]:
        found[_IMAGE + "os.features"] = ",".join(map(str, image["os.features"]))
    if isinstance(wanted.get("StopSignal"), str) and wanted["StopSignal"]:
        found[_IMAGE + "stopSignal"] = wanted["StopSignal"]
    if wanted.get("ExposedPorts"):
        found[_IMAGE + "exposedPorts"] = ",".join(sorted(map(str, wanted["ExposedPorts"])))
    if wanted.get("Volumes"):
        found[_OWN + "volumes"] = ",".join(sorted(map(str, wanted["Volumes"])))
    if wanted.get("Healthcheck"):
        import json

        found[_OWN + "healthcheck"] = json.dumps(wanted["Healthcheck"], sort_keys=True)
    labels = (wanted.get("Labels") or {}).items()
    found.update({str(key): str(value) for key, value in labels if not str(key).startswith(COMMANDS)})
    return found


def volume_paths(image: dict[str, Any]) -> list[str]:
    """The image's Volumes as absolute paths. Raises ValueError for one that is none."""
    paths = sorted(map(str, (image.get("config") or {}).get("Volumes") or {}))
    for path in paths:
        if not path.startswith("/") or ".." in path.split("/") or "\0" in path or not path.strip("/"):
            raise ValueError(f"the volume {path!r} is no path in the container")
    return paths
