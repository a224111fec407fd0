"""Write the log: errors and warnings on standard error or in a file, as text or JSON, and debug lines with --debug.

`--log-format json` writes one object a line, with the keys level, msg and time. containerd and podman show their user
the last one whose level is "error".
"""

from __future__ import annotations

import time

from rootless.errors import printable
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_fd = 2
_json = False
_debug = False
_start = time.monotonic()
_told: Callable[[str], None] | None = None  # gets the warnings in place of the log


def configure(*, path: str = "", json_format: bool = False, debug: bool = False) -> None:
    """Set where lines go, and their format. Raises OSError if the file cannot be opened for appending."""
    global _fd, _json, _debug
    _json, _debug = json_format, debug
    _fd = 2
    if path and path != "/dev/stderr":
        _fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def tell_warnings(function: Callable[[str], None] | None) -> None:
    """Give warnings to a function in place of the log; None gives them to the log again."""
    global _told
    _told = function


def descriptor() -> int:
    """Return the descriptor that lines go to: 2, or the log file's, which is close-on-exec."""
    return _fd


def debugging() -> bool:
    """Return whether --debug was given."""
    return _debug


def debug(text: str) -> None:
    """Log a line if --debug was given."""
    if _debug:
        _write(_fd, "debug", text)


def since_start(text: str) -> str:
    """Return a line with the time since this command began. A clone of this process counts from the same moment."""
    return f"+{(time.monotonic() - _start) * 1000:.3f} ms {text}"


def warn(text: str) -> None:
    """Log a problem that does not stop the command. The line goes only to the log, like with runc."""
    if _told:
        _told(text)
    else:
        _write(_fd, "warning", text)


def notice(text: str) -> None:
    """Write a line on standard error for the user at the terminal, wherever the log is."""
    _write(2, "warning", text, plain=True)


def error(text: str) -> None:
    """Log why the command failed. If the log is a file, write the line on standard error, too.

    runc does the same: containerd shows its user the log, and conmon shows standard error.
    """
    _write(_fd, "error", text)
    if _fd != 2:
        _write(2, "error", text, plain=True)


def trace(error: BaseException) -> None:
    """Write the traceback of an exception on standard error if --debug was given."""
    if not _debug:
        return
    import traceback

    lines = "".join(traceback.format_exception(error)).rstrip().split("\n")
    try:
        _write_all(2, "".join(f"{printable(line)}\n" for line in lines).encode("utf-8", "surrogateescape"))
    except OSError:
        pass


def last_words(text: str) -> None:
    """Write an error on standard error with one system call, for a process without memory or descriptors."""
    try:
        os.write(2, b"rootless: " + text.encode("utf-8", "replace") + b"\n")
    except OSError:
        pass


def _write(fd: int, level: str, text: str, *, plain: bool = False) -> None:
    text = printable(text.strip().replace("\n", " "))
    if _json and not plain:
        from rootless.startup.jsonlite import dumps

        line = dumps({"level": level, "msg": text, "time": rfc3339(time.time())})
    elif fd == 2 and level != "debug":  # for people; debug lines look like runc's
        line = f"rootless: {text}" if level == "error" else f"rootless: {level}: {text}"
    else:
        # Otherwise a hook's output could end msg and add a level.
        quoted = text.replace("\\", r"\\").replace('"', r"\"")
        line = f'time="{rfc3339(time.time())}" level={level} msg="{quoted}"'
    try:
        _write_all(fd, line.encode("utf-8", "surrogateescape") + b"\n")
    except OSError:
        pass  # nobody is left to be told


def _write_all(fd: int, data: bytes) -> None:
    while data:  # kernel/files.py has the same function, but log.py may not import it
        data = data[os.write(fd, data) :]


def rfc3339(seconds: float) -> str:
    """Return a time in seconds since the epoch as UTC with nanoseconds, like runc: 2026-01-02T03:04:05.123456789Z."""
    whole = int(seconds)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{stamp}.{int((seconds - whole) * 1e9):09d}Z"
