"""`explain`: tell the plan of a container as a story, and with --trace what the kernel answered."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from rootless import log
from rootless.cli.commands.run import read_dashes, read_run_request
from rootless.cli.options import parse
from rootless.errors import RootlessError, printable
from rootless.kernel.closed import closed_above
from rootless.kernel.files import write_out
from rootless.kernel.host import Host
from rootless.plan.explain import WIDTH, Line, introduction, layout, painted, tell, wrapped
from rootless.runtime.bundle import no_bundle
from rootless.runtime.create import compile_plan

if TYPE_CHECKING:
    from rootless.cli.options import Options

_COLOURS = ("auto", "always", "never")


def main(options: Options) -> int:
    """Run `rootless explain [OPTIONS] BUNDLE|ARCHIVE [-- CMD ARG...]`. Raises RootlessError.

    The words and flags mean what they mean to `run`, so the story is that of the container that `run` would make.
    """
    colour, width = wants_colour(options.color), _width()
    run_options = _as_run(options)
    _check_operand(run_options.container_id)
    request = read_run_request(run_options)
    host = Host()
    plan = compile_plan(request, host)
    for line in [*plan.warnings, *filter(None, [plan.cgroup.refusal])]:
        log.warn(line)

    def show(lines: list[Line]) -> None:
        write_out(painted(lines, colour=colour).encode("utf-8", "surrogateescape"))

    text = printable(introduction(request.container_id, request.bundle, plan))
    if not options.trace:
        show([*wrapped("title", text, "", width), *layout(tell(plan), width=width)])
        return 0
    from rootless.cli.trace import Trace

    def restore_log() -> None:
        debug = options.debug or options.log_level in ("debug", "trace")
        log.configure(path=options.log, json_format=options.log_format == "json", debug=debug)

    return Trace(plan, wrapped("title", text, "", width), width, show, restore_log).run(request, host)


def _check_operand(operand: str) -> None:
    """Refuse a word that names no file: `run` would take it as the ID of a new container. Raises RootlessError."""
    if not operand:
        raise RootlessError("a bundle or an image archive is missing", hint="rootless explain ./BUNDLE")
    if operand and operand != "-" and not os.path.exists(operand):
        missing = RootlessError("no such bundle or image archive", operand, hint=no_bundle(operand).hint)
        raise closed_above(operand) or missing


def wants_colour(choice: str) -> bool:
    """Return whether the output gets colours: as --color says, else on a terminal unless NO_COLOR is set and not empty.

    A terminal whose TERM is `dumb` has none. Raises RootlessError for another choice (no-color.org).
    """
    if choice not in ("", *_COLOURS):
        raise RootlessError(f"unknown choice {printable(repr(choice))}", "--color", hint="auto, always or never")
    if choice in ("always", "never"):
        return choice == "always"
    return os.isatty(1) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _width() -> int:
    """Return the columns to fill: 100, or what a narrower terminal has, but never fewer than 40."""
    return max(40, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)) if os.isatty(1) else WIDTH


def _as_run(options: Options) -> Options:
    """Return the options that `run` would have had. What `explain` knows of them keeps its value."""
    run_options = parse(["run"])
    given = {name: value for name, value in vars(options).items() if name not in ("command", "bundle_dir")}
    vars(run_options).update(given)
    run_options.command, run_options.container_id = "run", options.bundle_dir
    if options.dashes:
        read_dashes(run_options)
    if not run_options.container_id and os.path.exists("config.json"):
        run_options.container_id = "."
    return run_options
