"""`features`: print what this runtime can do, and nothing else (runtime-spec, features.md)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rootless import __version__
from rootless.cgroup.place import session
from rootless.cgroup.systemd import library_found
from rootless.errors import RootlessError
from rootless.kernel import caps
from rootless.kernel.files import write_out
from rootless.kernel.host import Host
from rootless.kernel.namespaces import NAMESPACES
from rootless.plan.mounts import known_options
from rootless.process import seccomp, seccomp_names
from rootless.process.libseccomp import library_version
from rootless.runtime import criu
from rootless.startup.jsonlite import dumps

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless features`."""
    write_out(dumps(features(), 2).encode() + b"\n")
    return 0


def features() -> dict[str, Any]:
    """Return the features object. A feature that does not work for this user on this machine is false."""
    host = Host()
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": known_options(),
        "linux": {
            "namespaces": sorted(name for name in NAMESPACES if name != "time"),
            "capabilities": sorted(caps.CAPABILITIES),
            "cgroup": {"v1": False, "v2": bool(host.cgroup_mount), **_systemd(host), "rdma": True},
            "seccomp": _seccomp(),
            "apparmor": {"enabled": host.apparmor},
            "selinux": {"enabled": host.selinux},
            "intelRdt": _intel_rdt(host),
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {
            "io.github.rootless.version": __version__,
            "io.github.rootless.checkpoint.enabled": "true" if _works(criu.find) else "false",
        },
        "potentiallyUnsafeConfigAnnotations": ["org.criu.config", "org.systemd.property.", "run.oci."],
    }


def _works(probe: Callable[[], object]) -> bool:
    try:
        probe()
    except (RootlessError, OSError):
        return False
    return True


def _seccomp() -> dict[str, Any]:
    return {
        "enabled": _works(library_version),
        "actions": sorted(seccomp_names.ACTIONS),
        "operators": sorted(seccomp_names.OPERATORS),
        "archs": sorted(seccomp_names.ARCHITECTURES),
        "knownFlags": sorted(seccomp_names.FLAGS),
        "supportedFlags": sorted(seccomp.supported_flags()),
    }


def _systemd(host: Host) -> dict[str, bool]:
    """Return which systemd can make scopes over D-Bus: the system's for root, the user's own for other users."""
    runs = os.path.isdir("/run/systemd/system") and library_found()
    return {"systemd": runs and host.is_root_on_host, "systemdUser": not host.is_root_on_host and session(wanted=False)}


def _intel_rdt(host: Host) -> dict[str, bool]:
    works = bool(host.resctrl) and _works(lambda: os.listdir(host.resctrl))
    return {"enabled": works, "schemata": works, "monitoring": works}
