"""`unshare`: run a command as root of the user's id map, for example to look at a converted bundle or to change it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless import log
from rootless.emulation.filter import RLIMIT_LOCKS
from rootless.errors import RootlessError
from rootless.kernel.host import Host
from rootless.plan.root_emulation import choose_mode
from rootless.process import program
from rootless.userns.run import default_maps, run_in_userns

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless unshare CMD ARG...`; return its exit code. Root, also of a user namespace, keeps its ids."""
    args = options.args or [os.environ.get("SHELL", "/bin/sh")]
    if not args[0]:
        raise RootlessError("the program's name is empty", hint="rootless unshare CMD ARG...")
    host = Host()
    mode = _emulation(options, host)

    def execute() -> int:
        # The log stays open until execve, because it gets the error if the program is missing; it is close-on-exec.
        keep = [*program.all_passed_on(), log.descriptor()]
        if mode:
            from rootless.emulation.here import emulate_here

            emulate_here(mode, host.kernel, is_asked="root_emulation" in options.given)
        try:
            # Pass on the caller's descriptors, like unshare(1), because a shell's <(...) is a path such as /dev/fd/63.
            program.become(args[0], args, os.environ, keep=keep, search=True)
        except OSError as error:
            raise RootlessError.from_os(error, "cannot run", args[0]) from None

    return run_in_userns(*(([], []) if host.is_root_here else default_maps(host)), execute)


def _emulation(options: Options, host: Host) -> str:
    """Return the mode of root emulation, "" for none; it is automatic for a user with one id. Raises RootlessError."""
    wish = options.root_emulation
    if wish not in ("", "true", "errno", "notify"):
        hint = "errno, notify, or no value to choose"
        raise RootlessError("unknown kind of root emulation", f"--root-emulation {wish}", hint=hint)
    if options.no_root_emulation or host.is_root_here:
        if wish and not options.no_root_emulation:
            log.warn("root emulation is left out: root may do what it would emulate")
        return ""
    if not wish and host.subuid and host.subgid:
        return ""
    mode, warning = choose_mode(wish, host.kernel, host.hard_limit(RLIMIT_LOCKS), f"--root-emulation {wish}".rstrip())
    if warning:
        log.warn(warning)
    return mode
