"""`remove`: take a bundle away, files of subordinate ids and unwritable directories included."""

from __future__ import annotations

import os

from rootless import job, userns
from rootless.errors import RootlessError
from rootless.host import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.options import Options


def main(options: Options) -> int:
    """`rootless remove BUNDLE`: refuses what is no bundle."""
    path = os.path.abspath(options.bundle)
    if os.path.islink(path) or not os.path.isdir(path):
        raise RootlessError("no such bundle", options.bundle)
    if not os.path.isfile(f"{path}/config.json"):
        raise RootlessError("this is no bundle: it holds no config.json", options.bundle)

    host = Host()
    return job.remove(path, ([], []) if host.privileged else userns.default_maps(host))
