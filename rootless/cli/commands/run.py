"""`run`: create and start a container, wait for it, delete it."""

from __future__ import annotations

from rootless.cli.commands.create import print_plan, read_timeout
from rootless.cli.requests import read_request
from rootless.errors import IdInUse, RootlessError
from rootless.kernel.files import write_all
from rootless.kernel.host import Host
from rootless.runtime.run import run
from rootless.startup import codecache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.options import Options
    from rootless.runtime.create import CreateRequest


def main(options: Options) -> int:
    """Run `rootless run [--detach] ID`, `run BUNDLE [-- CMD ARG...]`, or `run -- CMD ARG...` in a bundle."""
    if options.host:
        options.args = [*filter(None, [options.container_id]), *options.args]
        options.container_id = ""
    elif options.dashes:
        read_dashes(options)
    if options.log_file and not options.detach:
        raise RootlessError("a log file is for a detached container", f"--log-file {options.log_file}", hint="--detach")
    keep = options.keep or ("rm" in options.given and not options.rm)
    timeout = read_timeout(options.timeout) if options.timeout else 0.0
    while True:
        request = read_request(options, tty=options.tty, args=options.args)
        request.emulates_root = True  # for a user with one id, unless the config says something else
        if options.dry_run:
            return print_plan(request)
        request.detached, request.timeout = options.detach, timeout
        if request.image and not options.interactive and not request.wants_terminal():
            _close_input()
        if options.save_changes:
            _save_at_end(request, options.save_changes)
        try:
            if options.detach and (_asks_for_monitor(options) or timeout or request.image or request.needs_helpers()):
                from rootless.runtime.monitor import run_monitored

                # It is kept unless --rm is given.
                code = run_monitored(request, Host(), options.log_file, keep=keep or "rm" not in options.given)
            else:
                code = run(request, Host(), codecache.load_later, keep=keep)
        except IdInUse:
            if not request.takes_name:
                raise
            continue  # another command has taken the id meanwhile
        if request.takes_name and options.detach:
            write_all(1, f"{request.container_id}\n".encode())
        return code


def _close_input() -> None:
    """Give an image's program no standard input, like docker without -i. A bundle's program gets it, like with runc."""
    from rootless.startup import lean_os as os

    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)


def _save_at_end(request: CreateRequest, output: str) -> None:
    from rootless.cli.save import check_saving, save_changes

    if request.detached:
        raise RootlessError("no command would wait to save the changes", f"--save-changes {output}", hint="no --detach")
    check_saving(request, output)
    request.at_end = lambda: save_changes(request, output)


def _asks_for_monitor(options: Options) -> bool:
    return bool(options.log_file) or "rm" in options.given


def read_dashes(options: Options) -> None:
    """Interpret `run -- WORD...`, where the parser cannot tell whether the first word is an ID.

    In a bundle's directory, and without --bundle, all words are the program's, and that directory is the bundle.
    Elsewhere the first word is the ID or the bundle, like with runc, and a `--` after it is dropped.
    """
    from rootless.startup import lean_os as os

    if options.args and not options.bundle and os.path.exists("config.json"):
        options.container_id = "."
    elif options.args:
        options.container_id, *words = options.args
        options.args = words[1:] if words[:1] == ["--"] else words
