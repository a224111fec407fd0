"""`doctor`: say whether and how containers run here, and what mends what does not work."""

from __future__ import annotations

import contextlib
import json
import textwrap
from typing import TYPE_CHECKING

from rootless.cli.containers import enter_state_root, state_root
from rootless.cli.doctor import cgroups, installation, lost, machine, places, trial, users
from rootless.cli.doctor.line import MISSING, Line, failed
from rootless.cli.output import say
from rootless.cli.table import columns
from rootless.errors import EXIT_ERROR, RootlessError, printable, unexpected
from rootless.kernel.hints import ROOT
from rootless.kernel.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rootless.cli.options import Options

CHECKS: tuple[Callable[[Host], Iterable[Line]], ...] = (
    machine.kernel,
    users.user_namespaces,
    users.proc,
    users.subordinate_ids,
    cgroups.cgroups,
    cgroups.systemd,
    machine.seccomp,
    machine.security_modules,
    machine.programs,
    machine.devices,
    machine.low_ports,
    machine.tmpfs_attributes,
    machine.vsyscall,
    places.runtime_directory,
    places.cache,
    lost.lost_containers,
    installation.program,
    installation.byte_code,
    installation.packages,
    installation.interpreter,
)
# A container cannot run without these; without the others it is only limited.
_ESSENTIAL = ("run", "bundle", "config", "archive", "platform")


def main(options: Options) -> int:
    """Run `rootless doctor [BUNDLE|ARCHIVE] [--json] [--clean]`; 0 if a plain `run` works here, else 1."""
    with contextlib.suppress(RootlessError):  # the check of the state root says why it cannot be used
        enter_state_root(options)
    root = state_root(options)
    if options.clean:
        if options.subject:
            raise RootlessError("--clean is about the whole state root, not about one bundle", options.subject)
        return _clean(root, as_json=options.json)
    lines = list(_examine(root, options.subject))
    works = not any(line.status == MISSING and line.name in _ESSENTIAL for line in lines)
    if options.json:
        say(json.dumps({"works": works, "lines": [line.document() for line in lines]}, indent=2))
    else:
        for text in _table(lines):
            say(text)
        say(_verdict(lines, options.subject))
    return 0 if works else EXIT_ERROR


def _verdict(lines: list[Line], subject: str) -> str:
    """Return the last line for people: whether a container runs here, and whether this one does."""
    missing = {line.name for line in lines if line.status == MISSING}
    if "run" in missing:
        return "a plain run does not work here"
    return (
        f"a plain run works here, but not {printable(subject)}" if missing & {*_ESSENTIAL} else "a plain run works here"
    )


def _examine(root: str, subject: str) -> Iterator[Line]:
    """Yield the lines of all checks. One that fails is a line itself, because the others are still wanted."""
    host = Host()
    for check in CHECKS:
        yield from _safely(check.__name__.replace("_", "-"), lambda check=check: check(host))  # type: ignore[misc]
    yield from _safely("state", lambda: places.state_root(root))
    yield from _safely("run", lambda: trial.plain_run(root))
    if subject:
        from rootless.cli.doctor.images import bundle_or_archive  # it needs attrs, and doctor says if that is missing

        yield from bundle_or_archive(subject, root)


def _safely(name: str, check: Callable[[], Iterable[Line]]) -> list[Line]:
    try:
        return list(check())
    except Exception as error:
        return [failed(name, unexpected(error), "this could not be looked at")]


def _table(lines: list[Line]) -> Iterator[str]:
    """Yield the lines of the form for people: status, name, what was found; indented, what it costs and mends."""
    width = max(len(line.name) for line in lines)
    first = width + 11  # the column of the details, below which the other lines stand
    for line in lines:
        yield from _wrapped(f"{line.status:<8} {line.name:<{width}}  ", line.detail, first)
        who = "as root:  " if line.who == ROOT else "you:  "
        for word, text in (("cost: ", line.cost), ("hint: ", line.hint), (who, line.command)):
            if text:
                yield from _wrapped(f"{'':{first}}{word}", text, first + len(word), whole=word == who)


def _wrapped(head: str, text: str, indent: int, *, whole: bool = False) -> Iterator[str]:
    """Yield a text in lines that fit the terminal. whole: a command stays in one line, so that it can be copied."""
    width = columns()
    text = printable(text)
    if not width or whole or width < indent + 20:
        yield head + text
        return
    lines = textwrap.wrap(text, width - indent, break_on_hyphens=False) or [""]
    yield head + lines[0]
    yield from (f"{'':{indent}}{line}" for line in lines[1:])


def _clean(root: str, *, as_json: bool) -> int:
    """Print what is left of killed commands, then remove it; return 1 if something stays.

    A container that runs is only named, also if its state directory is gone: nobody has asked to end it.
    """
    from rootless.cli.doctor import residues  # it needs attrs, and doctor says if that is missing

    left, running = residues.find(root), lost.running()
    if as_json:
        document = {
            "residues": [{"kind": each.kind, "place": each.place} for each in left],
            "running": [{"cgroup": path, "state": state} for path, state in running],
        }
        say(json.dumps(document, indent=2))
    else:
        for each in left:
            say(f"{each.kind:<10} {printable(each.place)}")
        for path, state in running:
            say(f"{'running':<10} {printable(path)}, whose state {printable(state)} is gone: {lost.way_out(path).text}")
        if left or not running:
            say("nothing is left over" if not left else "1 residue" if len(left) == 1 else f"{len(left)} residues")
    return EXIT_ERROR if residues.remove(root, left) else 0
