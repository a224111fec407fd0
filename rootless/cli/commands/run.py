"""`run`: create, start, wait, delete."""

from __future__ import annotations

from rootless import log
from rootless.cli.commands.create import print_plan, read_request
from rootless.kernel.host import Host
from rootless.kernel.signals import ENDING, FORWARDED, end_on_signals, hold_back, let_come
from rootless.runtime.container import CREATING_SOCKET
from rootless.runtime.create import create
from rootless.startup import codecache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from rootless.cli.options import Options
    from rootless.runtime.container import Container


class _Ahead:
    """What is to be done before `start`, done while the container is being set up."""

    def __init__(self, *, detached: bool) -> None:
        self.detached = detached
        self.reader = -1
        self.sock: socket | None = None

    def __call__(self, container: Container) -> None:
        codecache.load_later()
        from rootless.cli.commands.start import connect
        from rootless.runtime.foreground import listen

        if not self.detached:
            self.reader = listen(ready=False)
        try:
            self.sock = connect(container, CREATING_SOCKET)
        except (ConnectionRefusedError, FileNotFoundError):
            pass  # its init has ended: what it said of it is received next


def main(options: Options) -> int:
    """`rootless run [--detach] ID` or `rootless run BUNDLE [-- CMD ARG...]`; the program's exit code. In a bundle,
    `rootless run -- CMD ARG...` too."""
    if options.dashes:
        _read_dashes(options)
    request = read_request(options, tty=options.tty, args=options.args)
    if options.dry_run:
        return print_plan(request)
    request.detached = options.detach
    request.meanwhile = ahead = _Ahead(detached=options.detach)
    end_on_signals()
    hold_back(set(FORWARDED).difference(ENDING))
    created = create(request, Host())
    container = created.container
    try:
        let_come(ENDING)
        from rootless.cli.commands.start import start
        from rootless.runtime.foreground import adopt, be_ready, wait

        if not options.detach:
            be_ready()
            oom = container.watch_oom()
            if created.master >= 0:
                adopt(created.master)
        listener = start(container, ahead.sock)
        if options.detach:
            container.close()
    except BaseException:
        from rootless.cli.commands.delete import remove

        remove(container)
        raise
    if options.detach:
        if listener:
            listener.wait(container.pid)
        return 0
    try:
        container.directory.lock.give_up()
        code = wait(container.pid, created.pidfd, ahead.reader, created.master, oom=oom, listener=listener)
    except BaseException:
        from rootless.cli.commands.delete import remove_failed

        remove_failed(container)
        raise
    if oom and oom.kills:
        log.warn(container.describe_oom(oom.kills))
    if not options.keep:
        from rootless.cli.commands.delete import remove_after

        remove_after(container)
    return code


def _read_dashes(options: Options) -> None:
    """`run -- WORD...`: in a bundle, which --bundle does not name, the words are the program's, and the bundle is this
    directory. Elsewhere the first one is the id or the bundle, as with runc, and a `--` behind it is dropped."""
    from rootless.startup import lean_os as os

    if options.args and not options.bundle and os.path.exists("config.json"):
        options.container_id = "."
    elif options.args:
        options.container_id, *words = options.args
        options.args = words[1:] if words[:1] == ["--"] else words
