"""Check the keyword arguments that are about the container, not the process, and pack them for the launcher."""

from __future__ import annotations

import marshal
import os
from collections.abc import Mapping

from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from rootless.api.keywords import ContainerKeywords

# The keywords that plan/settings.py reads under the same name.
_SAME = (
    "hostname", "volumes", "tmpfs", "read_only", "network", "memory", "cpus", "pids", "ulimits", "cap_add", "cap_drop",
    "no_new_privileges", "root_emulation", "config", "publish", "no_host_loopback",
)  # fmt: skip
_OWN = ("bundle", "rootfs", "name", "init", "limits", "ephemeral", "seccomp")
NAMES = frozenset((*_SAME, *_OWN))
_NO_LIMITS = frozenset(("maskedPaths", "readonlyPaths", "sysctl"))  # of config.json's `linux`


class Packed:
    """Hold settings in the form that the launcher takes.

    data: marshal data; equal settings are equal bytes; is_host: whether the root is the host's own system; complete:
    whether the container has a name, or may have a cgroup or a network engine. Then a caller waits for the launcher's
    last message, because by then the OOM kills are counted, the name is free again, and the cgroup is removed.
    """

    __slots__ = ("complete", "data", "is_host", "name", "pid1")

    def __init__(self, keywords: ContainerKeywords, user: Any, group: Any, groups: Any) -> None:
        unknown = sorted(set(keywords) - NAMES)
        if unknown:
            raise TypeError(f"unexpected keyword argument {unknown[0]!r}")
        bundle, rootfs = keywords.get("bundle"), keywords.get("rootfs")
        if bundle is not None and rootfs is not None:
            raise ValueError("bundle= and rootfs= cannot be used together")
        self.is_host = bundle is None and rootfs is None
        self.pid1 = not (keywords.get("init") is None or keywords["init"])
        self.name: str = _bare("name", keywords.get("name") or "")
        if not isinstance(self.name, str):
            raise TypeError(f"name is a str, not {type(self.name).__name__}")
        limited = any(keywords.get(name) for name in ("memory", "pids", "cpus"))
        config = keywords.get("config")
        limited = limited or (isinstance(config, Mapping) and _may_limit(config))
        is_connected = bool(keywords.get("publish")) or keywords.get("network") in ("auto", "pasta", "slirp4netns")
        self.complete = limited or is_connected or bundle is not None or bool(self.name)
        limits = "strict" if keywords.get("limits") is None else keywords["limits"]
        if limits not in ("strict", "best-effort"):
            raise ValueError(f'limits is {limits!r}, allowed is "strict" or "best-effort"')
        passed: dict[str, Any] = {}
        for name in _SAME:
            value = keywords.get(name)
            if value is not None:
                passed[name] = _plain(name, value)
        if keywords.get("ephemeral"):
            passed.setdefault("read_only", False)  # a throw-away root is there to be written to
            if not self.is_host:  # whose places that can be written to are the container's own
                passed["upper"] = "tmpfs"
        if keywords.get("seccomp") is not None:
            passed["seccomp"] = _read_profile(_bare("seccomp", keywords["seccomp"]))
        is_relative = any(not each.startswith("/") for each in passed.get("volumes", ()))
        base = os.getcwd() if is_relative else "/"
        self.data = marshal.dumps(
            {
                "root": _root(bundle, rootfs),
                "name": self.name,
                "user": _id(user),
                "group": _id(group),
                "groups": None if groups is None else [_id(each) for each in groups],
                "best_effort": limits == "best-effort",
                "base": base,
                "keywords": passed,
            },
            2,  # marshal's version without references, so that equal data gives equal bytes
        )


def _may_limit(config: Mapping[str, Any]) -> bool:
    """Return whether a container with this config may have a cgroup, or a state directory."""
    linux = config.get("linux", {})
    return "annotations" in config or not (isinstance(linux, Mapping) and _NO_LIMITS.issuperset(linux))


def _root(bundle: Any, rootfs: Any) -> tuple[str, str]:
    for kind, path in (("bundle", bundle), ("rootfs", rootfs)):
        if path is not None:
            path = os.fsdecode(path)
            if not path:  # which would be the working directory
                raise ValueError(f"{kind} is an empty path")
            return kind, os.path.abspath(path)
    return "host", ""


_SCALARS = frozenset((str, int, bool, float))
_TYPES: dict[str, Any] = {"network": str, "hostname": str, "config": Mapping}


def _plain(name: str, value: Any) -> Any:
    """Return plain data. Refuse a string in place of a list, because its letters would be taken for the elements."""
    if not isinstance(value, _TYPES.get(name, object)):
        kind = "dict" if name == "config" else "str"
        raise TypeError(f"{name} is a {kind}, not {type(value).__name__}")
    if name in ("volumes", "tmpfs", "cap_add", "cap_drop", "publish", "ulimits"):
        if isinstance(value, (str, bytes)):
            raise TypeError(f"{name} is a list of strings, not one string")
        if name != "ulimits" or not isinstance(value, Mapping):
            items: Iterable[Any] = value
            return [os.fsdecode(each) for each in items]
    if name == "config":
        return _checked_config(value)
    return "none" if name == "root_emulation" and value is False else _bare(name, value)


_checked: dict[bytes, Any] = {}  # what _checked_config has returned, by the marshal data of what it was given
_MOST_CHECKED = 16


def _checked_config(config: Any) -> Any:
    """Return `_bare` of a config. One that was given before is not looked at again, because that takes 50 us.

    Equal marshal data means that all values have the same types.
    """
    try:
        data = marshal.dumps(config, 2)
    except ValueError:  # it holds what marshal does not take, such as an OrderedDict
        return _bare("config", config)
    bare = _checked.get(data)
    if bare is None:
        bare = _bare("config", config)
        if len(_checked) >= _MOST_CHECKED:
            _checked.clear()
        _checked[data] = bare
    return bare


def _bare(name: str, value: Any) -> Any:
    """Return a value of JSON as the very types that marshal takes; an enum's member or an OrderedDict is none."""
    if value is None or type(value) in _SCALARS:
        return value
    if type(value) is dict or isinstance(value, Mapping):
        return {_bare(name, key): _bare(name, each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_bare(name, each) for each in value]
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    for kind in (str, int, float):
        if isinstance(value, kind):
            return str.__str__(value) if kind is str else kind(value)
    raise TypeError(f"{name} holds a {type(value).__name__}, which is no value of JSON")


def _id(value: Any) -> Any:
    return int(value) if isinstance(value, int) else _bare("user", value)


def _read_profile(profile: Any) -> Any:
    """Return the profile: a name, or the content of the file that is named."""
    if isinstance(profile, dict) or profile in ("default", "unconfined"):
        return profile
    import json
    import platform

    from rootless.plan.seccomp_profile import read_profile

    path = os.fspath(profile)
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot read the seccomp profile", path) from None
    except ValueError as error:
        raise RootlessError(f"the seccomp profile is not JSON: {error}", path) from None
    return read_profile(document, {}, platform.machine(), path)
