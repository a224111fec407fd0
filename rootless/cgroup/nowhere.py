"""Say why this user has no cgroup, which an error and doctor both tell."""

from __future__ import annotations

import os

from rootless.kernel.hints import Hint, hint


def why_none() -> Hint:
    """Return the hint for a user who may make no cgroup: by whether v1 or v2 is mounted at the usual place."""
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return hint("no-own-cgroup")
    return hint("cgroup-v1" if os.path.exists("/sys/fs/cgroup/memory") else "no-cgroup")
