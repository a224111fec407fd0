"""Read volumes, mounts, tmpfs and devices in the form of docker's flags, as entries of config.json. Pure.

(docker's reference of `docker run`: -v, --mount, --tmpfs, --device.) Named volumes do not exist here, because docker
keeps them in its daemon.
"""

from __future__ import annotations

from rootless.config_node import closest
from rootless.errors import RootlessError, advice, printable
from rootless.kernel.paths import normal_path, tidy_path
from rootless.kernel.units import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from rootless.kernel.host import Host

    class MountEntry(TypedDict):
        """Declare an entry of /mounts in config.json (config.md#mounts)."""

        destination: str
        type: str
        source: str
        options: list[str]

    class DeviceEntry(TypedDict):
        """Declare an entry of /linux/devices in config.json (config-linux.md#devices)."""

        path: str
        type: str
        major: int
        minor: int


_PROPAGATION = ("shared", "rshared", "slave", "rslave", "private", "rprivate")
_ATTRIBUTES = ("nosuid", "suid", "nodev", "dev", "noexec", "exec")
# z and Z relabel for SELinux, and U changes owners; the others are hints for docker on other operating systems.
_WITHOUT_EFFECT = ("z", "Z", "cached", "delegated", "consistent", "nocopy")
_VOLUME = "SRC:DST[:ro], such as ./data:/data:ro"
_TMPFS = {"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "huge", "inode64", "noswap"}


def bind(source: str, destination: str, options: list[str] | None = None) -> MountEntry:
    """Return a recursive bind mount."""
    options = ["rbind", *(options or ["nosuid", "nodev"])]
    return {"destination": destination, "type": "bind", "source": source, "options": options}


def read_volume(text: str, base: str, host: Host) -> MountEntry:
    """Return the bind mount of `SRC:DST[:OPTION,...]`.

    base: what a relative source counts from. `ro` is recursive: a mount below the source is read-only, too. Raises
    RootlessError for a source that is missing.
    """
    parts = text.split(":")
    if not text:  # such as a variable of a script that nobody has set
        raise RootlessError("a value is missing", "--volume ''", hint=_VOLUME)
    if len(parts) == 1:
        raise _wrong(text, "a volume needs a source", f"{_VOLUME}; or --tmpfs {text} for an empty directory")
    if len(parts) > 3 or not parts[0] or not parts[1]:
        raise _wrong(text, "not a volume", _VOLUME)
    source = _source(parts[0], text, base, host, "volume")
    options: list[str] = []
    modes = parts[2].split(",") if len(parts) == 3 else []
    if "rw" in modes and ("ro" in modes or "readonly" in modes):
        raise _wrong(text, "both ro and rw are asked for", "leave one of them out")
    for option in modes:
        if option in ("ro", "readonly"):
            options += ["ro", "rro"]
        elif option in _PROPAGATION or option in _ATTRIBUTES:
            options.append(option)
        elif option not in ("rw", "rbind", *_WITHOUT_EFFECT):
            known = ("ro", "rw", "z", "Z", *_PROPAGATION, *_ATTRIBUTES)
            raise _wrong(text, f"unknown option {printable(repr(option))}", closest(option, known) or _VOLUME)
    return bind(source, _destination(parts[1], text, "volume"), _with_defaults(options))


def _with_defaults(options: list[str]) -> list[str]:
    """Return the options with nosuid and nodev, unless they say otherwise."""
    defaults = [name for name in ("nosuid", "nodev") if name[2:] not in options and name not in options]
    return [*options, *defaults]


def read_mount(text: str, base: str, host: Host) -> MountEntry:
    """Return the mount of `type=bind|tmpfs,src=...,dst=...`. Raises RootlessError."""
    hint = "type=bind,src=./data,dst=/data,ro or type=tmpfs,dst=/scratch,tmpfs-size=64m"
    parts: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        name = {"source": "src", "destination": "dst", "target": "dst", "readonly": "ro"}.get(key, key)
        allowed = ("type", "src", "dst", "ro", "bind-propagation", "bind-recursive", "bind-nonrecursive",
                   "tmpfs-size", "tmpfs-mode", "consistency", "relabel")  # fmt: skip
        if name not in allowed or (not equals and name not in ("ro", "bind-nonrecursive")):
            raise _wrong(text, f"unknown part {printable(repr(part))}", closest(key, allowed) or hint, "mount")
        parts[name] = value if equals else "true"
    kind = parts.get("type", "volume")
    if kind == "volume":
        raise _wrong(text, "named volumes do not exist", hint, "mount")
    if kind not in ("bind", "tmpfs") or not parts.get("dst"):
        raise _wrong(text, "not a mount" if kind in ("bind", "tmpfs") else f"unknown type {kind!r}", hint, "mount")
    destination = _destination(parts["dst"], text, "mount")
    is_readonly = parts.get("ro", "false") in ("true", "1")
    if kind == "tmpfs":
        return _tmpfs_of_mount(text, parts, destination, is_readonly=is_readonly)
    if not parts.get("src"):
        raise _wrong(text, "a bind mount needs a source", hint, "mount")
    options = ["ro", "rro"] if is_readonly else []
    propagation = parts.get("bind-propagation", "")
    if propagation and propagation not in _PROPAGATION:
        raise _wrong(text, f"unknown propagation {printable(repr(propagation))}", ", ".join(_PROPAGATION), "mount")
    options += [propagation] if propagation else []
    mount = bind(_source(parts["src"], text, base, host, "mount", named=False), destination, _with_defaults(options))
    if parts.get("bind-nonrecursive", "false") in ("true", "1") or parts.get("bind-recursive") == "disabled":
        mount["options"][0] = "bind"
    return mount


def _tmpfs_of_mount(text: str, parts: dict[str, str], destination: str, *, is_readonly: bool) -> MountEntry:
    options = ["nosuid", "nodev", "noexec"]
    if "src" in parts:
        raise _wrong(text, "a tmpfs has no source", "type=tmpfs,dst=/scratch", "mount")
    if "tmpfs-size" in parts:
        options.append(f"size={_tmpfs_size(text, parts['tmpfs-size'], 'mount')}")
    mode = parts.get("tmpfs-mode", "1777")
    if not mode or set(mode) - set("01234567") or len(mode) > 5:
        raise _wrong(text, "tmpfs-mode is not an octal mode", "such as 1777", "mount")
    options += [f"mode={mode}", *(["ro"] if is_readonly else [])]
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}


def read_tmpfs(text: str) -> MountEntry:
    """Return the tmpfs of `DST[:OPTION,...]`: nosuid, nodev, noexec and mode 1777 by default. Raises RootlessError."""
    place, colon, rest = text.partition(":")
    options = ["nosuid", "nodev", "noexec", "mode=1777"]
    for option in rest.split(",") if colon else []:
        name, equals, value = option.partition("=")
        if (
            option in ("rw", "ro", "defaults", "tmpcopyup", "noatime", "relatime", "strictatime")
            or option in _ATTRIBUTES
        ):
            other = option.removeprefix("no") if option[:2] == "no" else f"no{option}"
            options = [o for o in options if o not in (other, option)]
            options.append(option)
        elif name in _TMPFS and (not equals or value):
            if name == "size" and not value.endswith("%"):
                option = f"size={_tmpfs_size(text, value, 'tmpfs')}"
            options = [*(o for o in options if o.partition("=")[0] != name), option]
        else:
            hint = closest(option, [*_TMPFS, *_ATTRIBUTES, "ro"]) or "DST[:size=64m,mode=1777]"
            raise _wrong(text, f"unknown option {printable(repr(option))}", hint, "tmpfs")
    destination = _destination(place, text, "tmpfs")
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}


def _tmpfs_size(text: str, value: str, flag: str) -> int:
    try:
        return parse_size(value)
    except ValueError:
        raise _wrong(text, f"not a size: {printable(repr(value))}", "such as 64m", flag) from None


def read_device(text: str, host: Host) -> tuple[DeviceEntry, str]:
    """Return (an entry of linux.devices, its access) of `PATH[:PATH[:ACCESS]]`. Raises RootlessError."""
    parts = text.split(":")
    access = parts.pop() if len(parts) > 1 and not parts[-1].startswith("/") else "rwm"
    if len(parts) > 2 or not access or set(access) - set("rwm") or not all(part.startswith("/") for part in parts):
        raise _wrong(text, "not a device", "/dev/PATH[:/dev/PATH[:rwm]]", "device")
    numbers = host.device_of(parts[0])
    if numbers is None:
        missing = {"/dev/fuse": "no-fuse", "/dev/net/tun": "no-tun"}.get(parts[0], "")
        hint = advice(missing) if missing else "a device of the host, such as /dev/fuse"
        raise _wrong(text, "there is no such device", hint, "device")
    kind, major, minor = numbers
    return {"path": normal_path(parts[-1]), "type": kind, "major": major, "minor": minor}, access


def _source(source: str, text: str, base: str, host: Host, flag: str, *, named: bool = True) -> str:
    if named and "/" not in source and source not in (".", ".."):
        raise _wrong(text, "named volumes do not exist", f"./{source}", flag)
    if not base and not source.startswith("/"):
        raise _wrong(text, "the working directory was removed", "cd to another one", flag)
    path = tidy_path(source, base)
    if not host.exists(path):
        from rootless.kernel.closed import closed_above

        if closed := closed_above(path):
            raise closed
        is_systems = path.startswith(("/dev/", "/proc/", "/sys/"))
        hint = "" if is_systems else f"mkdir {printable(source)} makes one"
        raise _wrong(text, f"the source does not exist: {printable(path)}", hint, flag)
    return path


def _destination(path: str, text: str, flag: str) -> str:
    if not path.startswith("/"):
        raise _wrong(text, "the place in the container is not absolute", _VOLUME if flag == "volume" else "/PATH", flag)
    place = normal_path(path)
    if place == "/":
        raise _wrong(
            text, "nothing is mounted over the whole root", "a directory in the container, such as /data", flag
        )
    return place


def _wrong(text: str, what: str, hint: str, flag: str = "volume") -> RootlessError:
    return RootlessError(what, f"--{flag} {printable(text)}", hint=hint)
