"""Check cgroups: version, where a container's would be made, controllers, and the user's systemd."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from rootless.cgroup import place
from rootless.cgroup.systemd import library_found
from rootless.cli.doctor.line import LIMITED, OK, Line
from rootless.kernel.hints import ROOT, USER, Hint, hint
from rootless.node import Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.kernel.host import Host

_NO_LIMITS = "limits are refused, and pause, resume and update do not work"
_WANTED = ("cpu", "io", "memory", "pids")
_DELEGATE = Hint(
    "an administrator delegates controllers to users (systemd.resource-control(5), Delegate=)",
    "mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' "
    ">/etc/systemd/system/user@.service.d/delegate.conf && systemctl daemon-reload",
    ROOT,
)


def cgroups(host: Host) -> Iterator[Line]:
    """Check the version, the place of a container's cgroup, and the controllers there."""
    if not host.cgroup_mount:
        mend = Hint(
            "cgroup v2 is needed",
            "boot with systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 none /sys/fs/cgroup",
            ROOT,
        )
        yield Line("cgroup", LIMITED, "cgroup v2 is not mounted", _NO_LIMITS, mend)
        return
    yield Line("cgroup", OK, f"version 2 at {host.cgroup_mount}, this process in {host.own_cgroup or 'none of it'}")
    found = _place(host)
    if not found:
        mend = hint("no-session") if os.path.isdir("/run/systemd/system") else _who_delegates()
        yield Line("cgroup-delegation", LIMITED, "this user may make no cgroup", _NO_LIMITS, mend)
        return
    name, directory = found
    yield Line("cgroup-delegation", OK, name)
    controllers = _controllers(directory)
    lacking = [name for name in _WANTED if name not in controllers]
    if lacking:
        cost = f"limits of {', '.join(lacking)} are refused"
        yield Line("cgroup-controllers", LIMITED, " ".join(controllers) or "none", cost, _who_delegates())
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


def _who_delegates() -> Hint:
    if os.path.isdir("/run/systemd/system"):
        return _DELEGATE
    return Hint(
        "who has made this cgroup gives it to the user, and enables controllers in cgroup.subtree_control above"
    )


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
        mend = Hint("scopes need the Python package jeepney", "pip install jeepney", USER)
        yield Line("systemd", LIMITED, "jeepney is not installed", "systemd cannot be asked for a scope", mend)
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
