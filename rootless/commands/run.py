"""`run`: create, start, wait, delete."""

from __future__ import annotations

from rootless import log
from rootless.commands.create import print_plan, read_request
from rootless.host import Host
from rootless.launch import create
from rootless.signals import end_on_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.options import Options


def main(options: Options) -> int:
    """`rootless run [--detach] ID` or `rootless run BUNDLE [-- CMD ARG...]`; the program's exit code."""
    request = read_request(options, tty=options.tty, args=options.args)
    if options.dry_run:
        return print_plan(request)
    request.detached = options.detach
    end_on_signals()
    created = create(request, Host())
    container = created.container
    listener = None
    try:
        from rootless.commands.start import start
        from rootless.foreground import adopt, listen, wait

        if request.notify:
            from rootless import notify

            listener = notify.listen(container.directory)
        if not options.detach:
            reader = listen()
            oom = container.watch_oom()
            if created.master >= 0:
                adopt(created.master)
        start(container)
    except BaseException:
        from rootless.commands.delete import remove

        remove(container)
        raise
    if options.detach:
        container.close()
        if listener:
            listener.wait(container.pid)
        return 0
    fd = container.directory.fd
    code = wait(container.pid, created.pidfd, reader, created.master, locked_fd=fd, oom=oom, listener=listener)
    if oom and oom.kills:
        log.warn(container.describe_oom(oom.kills))
    if not options.keep:
        from rootless.commands.delete import remove_after

        remove_after(container)
    return code
