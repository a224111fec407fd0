"""`features`: what this runtime can do, as runtime-spec features.md describes it. Nothing else is printed."""

from __future__ import annotations

import os

from rootless import __version__, caps
from rootless.jsonlite import dumps
from rootless.plan.mounts import known_options
from rootless.plan.namespaces import NAMESPACES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.options import Options


def main(options: Options) -> int:
    """`rootless features`."""
    os.write(1, dumps(features(), 2).encode() + b"\n")
    return 0


def _seccomp() -> dict[str, Any]:
    from rootless import seccomp

    return {
        "actions": sorted(seccomp.ACTIONS),
        "operators": sorted(seccomp.OPERATORS),
        "archs": sorted(seccomp.ARCHITECTURES),
        "knownFlags": sorted(seccomp.FLAGS),
        "supportedFlags": sorted(seccomp.supported_flags()),
    }


def features() -> dict[str, Any]:
    """The features object: true to what works, so what is refused by name is false here."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": known_options(),
        "linux": {
            "namespaces": sorted(name for name in NAMESPACES if name != "time"),
            "capabilities": sorted(caps.CAPABILITIES),
            "cgroup": {"v1": False, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": {"enabled": True, **_seccomp()},
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {"io.github.rootless.version": __version__},
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property.", "run.oci."],
    }
