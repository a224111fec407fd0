"""`unshare`: a command as root of the user's id map, to look at, change or pack a converted tree."""

from __future__ import annotations

import os

from rootless import log
from rootless.errors import RootlessError
from rootless.kernel.host import Host
from rootless.process import program
from rootless.userns import run as userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """`rootless unshare CMD ARG...`; its exit code. Root, also of a namespace, has its ids already."""
    args = options.args or [os.environ.get("SHELL", "/bin/sh")]

    def execute() -> int:
        # The log is for the error where there is no such program: a file, and close-on-exec.
        keep = [*program.all_passed_on(), log.descriptor()]
        try:
            # What the caller passed on goes on, as with unshare(1): /dev/fd/63 of a shell's <(...) is meant to work.
            program.become(args[0], args, os.environ, keep=keep, search=True)
        except OSError as error:
            raise RootlessError.from_os(error, "cannot run", args[0]) from None

    host = Host()
    return userns.run(*(([], []) if host.privileged else userns.default_maps(host)), execute)
