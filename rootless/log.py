"""The log: errors for people on stderr, or in a file as text or JSON lines, and debug lines where asked for.

`--log-format json` writes one object a line with the keys level, msg, time: the last one whose level is "error" is
what containerd and podman show to their user.
"""

from __future__ import annotations

import time

from rootless.errors import printable
from rootless.startup import lean_os as os

_fd = 2
_json = False
_debug = False
_start = time.monotonic()


def configure(*, path: str = "", json_format: bool = False, debug: bool = False) -> None:
    """Set where lines go. Raises OSError where the file cannot be opened for appending."""
    global _fd, _json, _debug
    _json, _debug = json_format, debug
    if path and path != "/dev/stderr":
        _fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def descriptor() -> int:
    """Return the descriptor that lines go to: 2, or that of the log file, which is close-on-exec."""
    return _fd


def debugging() -> bool:
    """Whether --debug was given."""
    return _debug


def debug(text: str) -> None:
    """A line for --debug."""
    if _debug:
        _write(_fd, "debug", text)


def since_start(text: str) -> str:
    """Return a step's line with the time since this command began, which a clone of this process counts from, too."""
    return f"+{(time.monotonic() - _start) * 1000:.3f} ms {text}"


def warn(text: str) -> None:
    """A line that a user should see although the command goes on: in the log, and only there, as with runc."""
    _write(_fd, "warning", text)


def notice(text: str) -> None:
    """A line for whoever sits at the terminal, wherever the log is."""
    _write(2, "warning", text, plain=True)


def error(text: str) -> None:
    """The line that says why the command failed; on stderr too when the log is a file: runc does so, because one client
    shows what the log holds (containerd) and another what stderr says (conmon)."""
    _write(_fd, "error", text)
    if _fd != 2:
        _write(2, "error", text, plain=True)


def trace(error: BaseException) -> None:
    """Write where an exception comes from on stderr, if --debug was given."""
    if not _debug:
        return
    import traceback

    lines = "".join(traceback.format_exception(error)).rstrip().split("\n")
    try:
        _write_all(2, "".join(f"{printable(line)}\n" for line in lines).encode("utf-8", "surrogateescape"))
    except OSError:
        pass


def last_words(text: str) -> None:
    """An error on stderr where `error` cannot do it: without memory or descriptors JSON cannot be written."""
    try:
        os.write(2, b"rootless: " + text.encode("utf-8", "replace") + b"\n")
    except OSError:
        pass


def _write(fd: int, level: str, text: str, *, plain: bool = False) -> None:
    text = printable(text.strip().replace("\n", " "))
    if _json and not plain:
        from rootless.startup.jsonlite import dumps

        line = dumps({"level": level, "msg": text, "time": rfc3339(time.time())})
    elif fd == 2 and level != "debug":  # for people; what is for developers looks as runc's
        line = f"rootless: {text}" if level == "error" else f"rootless: {level}: {text}"
    else:
        quoted = text.replace("\\", r"\\").replace('"', r"\"")  # else a hook's words could end msg and add a level
        line = f'time="{rfc3339(time.time())}" level={level} msg="{quoted}"'
    try:
        _write_all(fd, line.encode("utf-8", "surrogateescape") + b"\n")
    except OSError:
        pass  # nobody is left to be told


def _write_all(fd: int, data: bytes) -> None:
    while data:  # kernel/files.py has the same, but stands above this module
        data = data[os.write(fd, data) :]


def rfc3339(seconds: float) -> str:
    """UTC with nanoseconds, as runc writes it: 2026-01-02T03:04:05.123456789Z."""
    whole = int(seconds)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{stamp}.{int((seconds - whole) * 1e9):09d}Z"
