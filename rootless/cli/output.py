"""Write to standard output, without print(3): an error of print may come too late, and does not say what failed."""

from __future__ import annotations

from rootless import log
from rootless.errors import errno_text
from rootless.kernel.files import write_out


def say(text: str) -> None:
    """Print a text and a newline. Raises OSError, whose file name is standard output."""
    write_out(f"{text}\n".encode("utf-8", "surrogateescape"))


def tell(text: str) -> None:
    """Print the name of what was made. If that fails it is only a warning, because the work is done and stays."""
    try:
        say(text)
    except BrokenPipeError:
        pass  # as in `rootless convert image.tar | true`: nobody wants to know
    except OSError as error:
        log.warn(f"cannot write {text} to standard output: {errno_text(error.errno or 0)}")
