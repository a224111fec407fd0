"""`speedup`: let the kernel start the interpreter of the installed program without a shell, and undo that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless.cli import first_line
from rootless.cli.output import say
from rootless.errors import printable

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless speedup [--undo] [--dry-run]`, and say what it has done, or would do."""
    script = first_line.read_own()
    line = first_line.SHELL if options.undo else first_line.direct_line()
    if script.line == line:
        say(printable(f"{script.path} begins with {line} already"))
    elif options.dry_run:
        say(printable(f"would change the first line of {script.path} from {script.line} to {line}"))
    else:
        first_line.write(script, line)
        back = "" if options.undo else "; rootless speedup --undo changes it back"
        say(printable(f"changed the first line of {script.path} from {script.line} to {line}{back}"))
    return 0
