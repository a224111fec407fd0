"""Emulate root for this process, which is root of its user namespace already: `rootless unshare`."""

from __future__ import annotations

import os

from rootless import log
from rootless.emulation.filter import emulation_profile
from rootless.emulation.load import prepare, supervise
from rootless.kernel import channel, proc
from rootless.kernel import syscalls as sc


def emulate_here(mode: str, kernel: tuple[int, int], *, is_asked: bool) -> None:
    """Load the filter into this process; with `notify`, start a supervisor before. Raises RootlessError, OSError."""
    load = prepare(emulation_profile(mode, sc.MACHINE, kernel=kernel), (0, 0), is_asked=is_asked)
    if not load:
        return
    ours, theirs = channel.pair()
    if mode == "notify":
        # A grandchild, because the program does not expect a child that it has not started.
        first = os.fork()
        if not first:
            try:
                if not os.fork():
                    theirs.close()
                    proc_fd = proc.open_proc()
                    _, _, (listener,) = channel.receive(ours, channel.EMULATED)
                    ours.close()
                    supervise(listener, proc_fd, 0, 0)
            except BaseException as error:
                if not isinstance(error, EOFError):
                    log.debug(f"root emulation: {error}")
            finally:
                os._exit(0)
        os.waitpid(first, 0)
    ours.close()
    load(theirs)
    theirs.close()
