"""The entry: argv -> option table -> command. Help and mistakes go to rootless/cli.py (click)."""

from __future__ import annotations

import sys

from rootless import codecache, log, options
from rootless.errors import EXIT_ERROR, RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def main(argv: list[str] | None = None) -> int:
    """Run one command line; its exit code. Errors are one line on standard error (and in the log)."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        _open_standard_streams()
        parsed = _parse(arguments)
        if parsed is None:
            return 0
        return _run(parsed)
    except RootlessError as error:
        log.error(error.message())
        if log.debugging():
            import traceback

            traceback.print_exc()
        return EXIT_ERROR
    except BrokenPipeError:
        return EXIT_ERROR
    except KeyboardInterrupt as error:
        return 128 + getattr(error, "signum", 2)
    except OSError as error:
        if log.debugging():
            import traceback

            traceback.print_exc()
        log.error(RootlessError.from_os(error, (error.strerror or "failed").rpartition(": ")[0] or "failed").message())
        return EXIT_ERROR


def _open_standard_streams() -> None:
    """What the caller has closed of 0, 1 and 2 becomes the null device, as with runc: else a socket of ours would have
    that number, and the container's terminal would be put over it."""
    from rootless import lean_os as os

    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)  # open(2): the lowest number that is free, and that is this one
            os.set_inheritable(fd, True)


def _parse(arguments: list[str]) -> options.Options | None:
    """The options; None where help or the version was asked for and printed."""
    if not arguments or "-h" in arguments or "--help" in arguments or arguments[0] in ("help", "completion"):
        rest = arguments[: arguments.index("--")] if "--" in arguments else arguments
        if not arguments or "-h" in rest or "--help" in rest or arguments[0] in ("help", "completion"):
            from rootless.cli import show_help

            show_help(arguments)
            return None
    try:
        parsed = options.parse(arguments)
    except options.UsageError as error:
        from rootless.cli import suggest

        raise suggest(error, arguments) from None
    if parsed.version and not parsed.command:
        from rootless.cli import show_version

        show_version()
        return None
    return parsed


def _run(parsed: options.Options) -> int:
    if parsed.log_format not in ("", "text", "json"):
        raise RootlessError(f"unknown log-format {parsed.log_format!r}", hint="text or json")
    try:
        log.configure(
            path=parsed.log,
            json_format=parsed.log_format == "json",
            debug=parsed.debug or parsed.log_level in ("debug", "trace"),
        )
    except OSError as error:
        raise RootlessError.from_os(error, "cannot open the log") from None
    return int(_module(parsed.command).main(parsed))


def _module(command: str) -> ModuleType:
    name = f"rootless.commands.{options.MODULES.get(command, command)}"
    __import__(name)
    codecache.note()
    return sys.modules[name]


def launcher() -> None:
    """What the installed script calls: run, flush, leave without tearing the interpreter down."""
    import gc
    from _signal import SIG_DFL, default_int_handler, getsignal, signal  # type: ignore[import-not-found]

    from rootless import lean_os as os

    gc.disable()
    if getsignal(2) == SIG_DFL:  # by bin/rootless; from here on a KeyboardInterrupt is expected
        signal(2, default_int_handler)
    code = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, AttributeError):
        pass
    codecache.save()
    os._exit(code)


if __name__ == "__main__":
    launcher()
