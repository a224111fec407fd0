"""`run`: create, start, wait, delete."""

from __future__ import annotations

from rootless import log
from rootless.commands.create import print_plan, read_request
from rootless.commands.delete import remove, remove_after
from rootless.commands.start import await_program, start
from rootless.foreground import adopt, listen, wait
from rootless.host import Host
from rootless.launch import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cgroup.oom import Watch
    from rootless.container import Container
    from rootless.options import Options


class Foreground:
    """What has to be there before the program begins: reader, see rootless.foreground.listen, and the watch over its
    memory limit. Of a container that runs detached: neither."""

    def __init__(self, detached: bool) -> None:
        self.detached = detached
        self.reader = -1
        self.oom: Watch | None = None

    def get_ready(self, container: Container) -> None:
        """Once."""
        if not self.detached and self.reader < 0:
            self.reader = listen()
            self.oom = container.watch_oom()


def main(options: Options) -> int:
    """`rootless run [--detach] ID` or `rootless run BUNDLE [-- CMD ARG...]`; the program's exit code."""
    request = read_request(options, tty=options.tty, args=options.args)
    if options.dry_run:
        return print_plan(request)
    request.detached = options.detach
    foreground = Foreground(options.detach)
    request.get_ready = foreground.get_ready
    created = create(request, Host())
    container = created.container
    listener = None
    try:
        if request.notify:
            from rootless import notify

            listener = notify.listen(container.directory)
        if created.ahead:
            await_program(container, created.ahead)
        else:
            foreground.get_ready(container)
            if created.master >= 0:
                adopt(created.master)
            start(container)
    except BaseException:
        remove(container)
        raise
    if options.detach:
        container.close()
        if listener:
            listener.wait(container.pid)
        return 0
    fd, oom = container.directory.fd, foreground.oom
    code = wait(
        container.pid, created.pidfd, foreground.reader, created.master, locked_fd=fd, oom=oom, listener=listener
    )
    if oom and oom.kills:
        log.warn(container.describe_oom(oom.kills))
    if not options.keep:
        remove_after(container)
    return code
