"""Parse the command line, run the command, report its failure. cli/help.py prints the help and words the hints."""

from __future__ import annotations

import sys

from rootless import log
from rootless.cli import options
from rootless.errors import EXIT_ERROR, EXIT_EXEC_ERROR, NoSuchContainer, RootlessError, unexpected
from rootless.startup import codecache
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


# These commands do not use the state root. For all others it is checked before they start.
_STATELESS = (
    "doctor", "features", "spec", "convert", "import", "cache", "inspect", "pack", "remove", "unshare", "speedup",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run one command line; return the exit code. Any failure is one line on standard error, and in the log."""
    arguments = sys.argv[1:] if argv is None else argv
    parsed = None
    try:
        try:
            _open_standard_streams()
            parsed = options.parse(arguments)
            return _run(parsed)
        except options.UsageError as error:
            _configure_for(arguments)
            return _report(error, None)
        except BaseException as error:
            return _report(error, parsed)
    except KeyboardInterrupt as error:  # a second one, while the first was being reported
        return _interrupted(error)


def _report(error: BaseException, parsed: options.Options | None) -> int:
    """Print what went wrong; return the exit code. SystemExit is raised again.

    parsed: None if the command line could not be parsed.
    """
    if isinstance(error, KeyboardInterrupt):
        return _interrupted(error)
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        return EXIT_ERROR
    line = type(error).__name__
    try:
        if isinstance(error, options.UsageError):
            from rootless.cli.help import suggest

            suggest(error)
        known = unexpected(error)
        line = known.message()
        if parsed and isinstance(error, RootlessError):
            line = _completed(error, parsed) or line
        log.error(line)
    except Exception:  # it may fail for the same reason: an import fails when no descriptor is left
        log.last_words(line)
    log.trace(error)
    return EXIT_EXEC_ERROR if parsed and parsed.command == "exec" else EXIT_ERROR


def _completed(error: RootlessError, parsed: options.Options) -> str:
    """Return the error's line with what the command line and the state root add to it, "" if that cannot be said."""
    if type(error) is RootlessError or (isinstance(error, NoSuchContainer) and not os.path.isdir(parsed.root)):
        return ""  # there is nothing to add
    try:
        from rootless.cli.mistakes import complete

        complete(error, parsed)
        return error.message()
    except Exception:  # nothing here matters as much as the error itself
        return ""


def _configure_for(arguments: list[str]) -> None:
    """Open the log that the global flags name, if they can be parsed, because clients look there for a usage error."""
    try:
        _configure_log(options.parse_global(arguments)[0])
    except Exception:  # then only standard error gets the message
        pass


def _configure_log(parsed: options.Options) -> None:
    log.configure(
        path=parsed.log,
        json_format=parsed.log_format == "json",
        debug=parsed.debug or parsed.log_level in ("debug", "trace"),
    )


def _interrupted(error: KeyboardInterrupt) -> int:
    return 128 + getattr(error, "signum", 2)


def _nobody_reads() -> bool:
    """Return whether the reader of standard output has gone, as in `rootless list | head -1`. That is not an error."""
    import select

    poller = select.poll()
    poller.register(1, 0)
    return any(events & select.POLLERR for _, events in poller.poll(0))


def _open_standard_streams() -> None:
    """Open /dev/null for each of the descriptors 0, 1 and 2 that the caller has closed, like runc.

    Otherwise a socket of this process would get that number, and the container's terminal would replace it.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)  # it gets this number, because open(2) takes the lowest free one
            os.set_inheritable(fd, True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # so says Python of a stream that was closed when it started
            setattr(sys, name, open("/dev/null", "w"))


_LEVELS = ("trace", "debug", "info", "warn", "warning", "error", "fatal", "panic")  # those of runc


def _run(parsed: options.Options) -> int:
    if parsed.version and not parsed.command:
        from rootless.cli.help import show_version

        show_version()
        return 0
    if parsed.help or not parsed.command:
        from rootless.cli.help import show_help

        if parsed.command in ("checkpoint", "restore"):  # podman asks for --help to learn whether they work here
            from rootless.runtime.criu import find

            find()
        show_help(parsed.command)
        return 0
    if parsed.log_format not in ("", "text", "json"):
        raise RootlessError(f"unknown log-format {parsed.log_format!r}", hint="text or json")
    if parsed.log_level and parsed.log_level not in _LEVELS:
        raise RootlessError(f"unknown log-level {parsed.log_level!r}", hint="trace, debug, info, warning or error")
    try:
        _configure_log(parsed)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot open the log") from None
    module = _module(parsed.command)
    if parsed.command not in _STATELESS:
        from rootless.cli.containers import enter_state_root

        enter_state_root(parsed)
    return int(module.main(parsed))


def _module(command: str) -> ModuleType:
    name = f"rootless.cli.commands.{options.MODULES.get(command, command)}"
    __import__(name)
    codecache.note()
    return sys.modules[name]


def launcher() -> None:
    """Run the command line for bin/rootless, flush, and exit without the interpreter's slow clean-up."""
    import gc
    from _signal import SIG_DFL, SIG_IGN, default_int_handler, getsignal, signal  # type: ignore[import-not-found]

    gc.disable()
    try:
        if getsignal(2) == SIG_DFL:  # bin/rootless has set it; from here on the code handles KeyboardInterrupt
            signal(2, default_int_handler)
        code = main()
        for signum in (1, 2, 3, 15):  # a signal from here on ends the process, and there is no traceback
            if getsignal(signum) not in (SIG_DFL, SIG_IGN):
                signal(signum, SIG_DFL)
    except KeyboardInterrupt as error:  # just before the main `try`, or just after it
        code = _interrupted(error)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, AttributeError):
        pass
    try:
        if noted := codecache.noted():
            from rootless.startup.making import save

            save(*noted)
    except Exception:  # the command has ended, and only the next one would need the cache
        pass
    os._exit(code)


if __name__ == "__main__":
    launcher()
