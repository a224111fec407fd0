"""Check the keyword arguments that are about the container, not the process, and pack them for the launcher."""

from __future__ import annotations

import marshal
import os

from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.api.keywords import ContainerKeywords

# The keywords that plan/settings.py reads under the same name.
_SAME = (
    "hostname", "volumes", "tmpfs", "read_only", "network", "memory", "cpus", "pids", "ulimits", "cap_add", "cap_drop",
    "no_new_privileges", "root_emulation", "config", "publish", "no_host_loopback",
)  # fmt: skip
_OWN = ("bundle", "rootfs", "name", "init", "limits", "ephemeral", "seccomp")
NAMES = frozenset((*_SAME, *_OWN))


class Packed:
    """Hold settings in the form that the launcher takes.

    data: marshal data; equal settings are equal bytes; is_host: whether the root is the host's own system; has_cgroup:
    whether the container may have a cgroup or a network engine. Then a caller waits for the launcher's last message,
    because the launcher has counted the OOM kills and removed both by then.
    """

    __slots__ = ("data", "has_cgroup", "is_host", "name", "pid1")

    def __init__(self, keywords: ContainerKeywords, user: Any, group: Any, groups: Any) -> None:
        unknown = sorted(set(keywords) - NAMES)
        if unknown:
            raise TypeError(f"unexpected keyword argument {unknown[0]!r}")
        bundle, rootfs = keywords.get("bundle"), keywords.get("rootfs")
        if bundle is not None and rootfs is not None:
            raise ValueError("bundle= and rootfs= cannot be used together")
        self.is_host = bundle is None and rootfs is None
        self.pid1 = not keywords.get("init", True)
        self.name = keywords.get("name") or ""
        limited = any(keywords.get(name) for name in ("memory", "pids", "cpus"))
        config = keywords.get("config")
        limited = limited or (isinstance(config, dict) and not {"linux", "annotations"}.isdisjoint(config))
        is_connected = bool(keywords.get("publish")) or keywords.get("network") in ("auto", "pasta", "slirp4netns")
        self.has_cgroup = limited or is_connected or bundle is not None
        limits = keywords.get("limits", "strict")
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
            passed["seccomp"] = _read_profile(keywords["seccomp"])
        base = os.getcwd() if passed.get("volumes") else "/"
        self.data = marshal.dumps(
            {
                "root": _root(bundle, rootfs),
                "name": self.name,
                "user": user,
                "group": group,
                "groups": None if groups is None else list(groups),
                "best_effort": limits == "best-effort",
                "base": base,
                "keywords": passed,
            },
            2,  # marshal's version without references, so that equal data gives equal bytes
        )


def _root(bundle: Any, rootfs: Any) -> tuple[str, str]:
    if bundle is not None:
        return "bundle", os.path.abspath(os.fspath(bundle))
    if rootfs is not None:
        return "rootfs", os.path.abspath(os.fspath(rootfs))
    return "host", ""


_TYPES: dict[str, type] = {"network": str, "hostname": str, "config": dict}


def _plain(name: str, value: Any) -> Any:
    """Return plain data. Refuse a string in place of a list, because its letters would be taken for the elements."""
    is_right = isinstance(value, _TYPES.get(name, object))
    if not is_right:
        raise TypeError(f"{name} is a {_TYPES[name].__name__}, not {type(value).__name__}")
    if name in ("volumes", "tmpfs", "cap_add", "cap_drop", "publish"):
        if isinstance(value, (str, bytes)):
            raise TypeError(f"{name} is a list of strings, not one string")
        return [os.fspath(each) for each in value]
    return "none" if name == "root_emulation" and value is False else value


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
