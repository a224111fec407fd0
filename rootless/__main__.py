"""The entry: argv -> option table -> command. Help and the hints for mistakes come from cli/help.py (click)."""

from __future__ import annotations

import sys

from rootless import log
from rootless.cli import options
from rootless.errors import EXIT_ERROR, EXIT_EXEC_ERROR, RootlessError, unexpected
from rootless.startup import codecache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


# The commands that have nothing to do with containers' states; any other one opens the state root first.
_STATELESS = ("features", "spec", "convert", "import", "cache", "inspect", "pack", "remove", "unshare")


def main(argv: list[str] | None = None) -> int:
    """Run one command line; its exit code. Whatever goes wrong is one line on standard error (and in the log)."""
    arguments = sys.argv[1:] if argv is None else argv
    parsed = None
    try:
        try:
            _open_standard_streams()
            parsed = options.parse(arguments)
            return _run(parsed)
        except options.UsageError as error:
            _configure_for(arguments)
            return _report(error, "")
        except BaseException as error:
            return _report(error, parsed.command if parsed else "")
    except KeyboardInterrupt as error:  # one more, while the first was being told of
        return _interrupted(error)


def _report(error: BaseException, command: str) -> int:
    """Say what went wrong; the exit code. Raises SystemExit again."""
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
        line = unexpected(error).message()
        log.error(line)
    except Exception:  # what failed once may fail again, such as an import while descriptors are short
        log.last_words(line)
    log.trace(error)
    return EXIT_EXEC_ERROR if command == "exec" else EXIT_ERROR


def _configure_for(arguments: list[str]) -> None:
    """A mistake in a command line is logged where its global flags say, if they can be read: clients look there."""
    try:
        _configure_log(options.parse_global(arguments)[0])
    except Exception:  # then stderr alone has it
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
    """Whether the reader of standard output has gone, as in `rootless list | head -1`: no error of ours then."""
    import select

    poller = select.poll()
    poller.register(1, 0)
    return any(events & select.POLLERR for _, events in poller.poll(0))


def _open_standard_streams() -> None:
    """What the caller has closed of 0, 1 and 2 becomes the null device, as with runc: else a socket of ours would have
    that number, and the container's terminal would be put over it."""
    from rootless.startup import lean_os as os

    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)  # open(2): the lowest number that is free, and that is this one
            os.set_inheritable(fd, True)


def _run(parsed: options.Options) -> int:
    if parsed.version and not parsed.command:
        from rootless.cli.help import show_version

        show_version()
        return 0
    if parsed.help or not parsed.command:
        from rootless.cli.help import show_help

        show_help(parsed.command)
        return 0
    if parsed.log_format not in ("", "text", "json"):
        raise RootlessError(f"unknown log-format {parsed.log_format!r}", hint="text or json")
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
    """What the installed script calls: run, flush, leave without tearing the interpreter down."""
    import gc
    from _signal import SIG_DFL, SIG_IGN, default_int_handler, getsignal, signal  # type: ignore[import-not-found]

    from rootless.startup import lean_os as os

    gc.disable()
    try:
        if getsignal(2) == SIG_DFL:  # by bin/rootless; from here on a KeyboardInterrupt is expected
            signal(2, default_int_handler)
        code = main()
        for signum in (1, 2, 3, 15):  # what comes from here on ends the process, as ever, and without a traceback
            if getsignal(signum) not in (SIG_DFL, SIG_IGN):
                signal(signum, SIG_DFL)
    except KeyboardInterrupt as error:  # just before, or just after
        code = _interrupted(error)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, AttributeError):
        pass
    try:
        codecache.save()
    except Exception:  # the command has ended: the cache is for the next one
        pass
    os._exit(code)


if __name__ == "__main__":
    launcher()
