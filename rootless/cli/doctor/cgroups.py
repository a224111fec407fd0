"""Check cgroups: version, where a container's would be made, controllers, and the user's systemd."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from rootless.cgroup import place, without_cgroup
from rootless.cgroup.driver import who_delegates
from rootless.cgroup.systemd import library_found
from rootless.cli.doctor.line import LIMITED, OK, Line
from rootless.config_node import Node
from rootless.kernel.hints import hint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.kernel.host import Host

_NO_LIMITS = "limits are refused, and pause, resume and update do not work"
_WANTED = ("cpu", "io", "memory", "pids")


def cgroups(host: Host) -> Iterator[Line]:
    """Check the version, the place of a container's cgroup, and the controllers there."""
    if not host.cgroup_mount:
        yield Line("cgroup", LIMITED, "cgroup v2 is not mounted", _NO_LIMITS, without_cgroup())
        return
    yield Line("cgroup", OK, f"version 2 at {host.cgroup_mount}, this process in {host.own_cgroup or 'none of it'}")
    place = _place(host)
    if not place:
        yield Line("cgroup-delegation", LIMITED, "this user may make no cgroup", _NO_LIMITS, without_cgroup())
        return
    name, directory = place
    yield Line("cgroup-delegation", OK, name)
    controllers = _controllers(directory)
    lacking = [name for name in _WANTED if name not in controllers]
    if lacking:
        cost = f"limits of {', '.join(lacking)} are refused"
        yield Line(
            "cgroup-controllers", LIMITED, " ".join(controllers) or "none", cost, who_delegates(" ".join(lacking))
        )
    else:
        yield Line("cgroup-controllers", OK, " ".join(controllers))


def _place(host: Host) -> tuple[str, str] | None:
    """Return (what the first usable place is called, a directory whose controllers are those to be had there)."""
    for choice in place.candidates(Node(None), "doctor", "", host, host.is_root_on_host):
        if not place.usable(choice, choice.get("condition", ""), False):
            continue
        if choice["manager"] == "systemd":
            manager = f"user.slice/user-{host.uid}.slice/user@{host.uid}.service"
            return "a scope of the user's systemd", f"{host.cgroup_mount}/{manager}"
        directory = os.path.dirname(choice["path"])
        if choice.get("condition") or place.can_be_made(choice["path"]):
            return f"below {directory}", directory
    return None


def _controllers(directory: str) -> list[str]:
    try:
        with open(f"{directory}/cgroup.controllers") as file:
            return sorted(file.read().split())
    except OSError:
        return []


def systemd(host: Host) -> Iterator[Line]:
    """Check the user's session of systemd, and that it outlives the last log-out (loginctl(1), enable-linger)."""
    if not os.path.isdir("/run/systemd/system"):
        yield Line("systemd", LIMITED, "systemd does not run here", "cgroups are made as directories, not as scopes")
        return
    if not library_found():
        yield Line(
            "systemd", LIMITED, "jeepney is not installed", "systemd cannot be asked for a scope", hint("no-jeepney")
        )
        return
    if host.is_root_on_host:
        yield Line("systemd", OK, "root asks the system's systemd")
        return
    if not place.session(wanted=True):
        cost = "systemd cannot be asked for a scope, so limits may be refused"
        yield Line("systemd", LIMITED, "no D-Bus session of this user", cost, hint("no-session"))
        return
    yield Line("systemd", OK, "the user's session runs")
    try:
        user = pwd.getpwuid(host.uid).pw_name
    except KeyError:
        user = str(host.uid)
    if os.path.exists(f"/var/lib/systemd/linger/{user}"):
        yield Line("lingering", OK, "containers outlive the last log-out")
    else:
        cost = "containers end when the user's last session ends"
        yield Line("lingering", LIMITED, "it is not enabled", cost, hint("no-session"))
