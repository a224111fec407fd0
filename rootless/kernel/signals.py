"""Name signals (signal(7)), and end the command at one. The module `signal` is not used, because it imports slowly."""

from __future__ import annotations

from _signal import (  # type: ignore[import-not-found]
    SIG_BLOCK,
    SIG_IGN,
    SIG_UNBLOCK,
    getsignal,
    pthread_sigmask,
    signal,
)

from rootless.errors import RootlessError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

SIGNALS = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "IOT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10,
    "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CLD": 17, "CONT": 18,
    "STOP": 19, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27,
    "WINCH": 28, "IO": 29, "POLL": 29, "PWR": 30, "SYS": 31, "RTMIN": 34, "RTMAX": 64,
}  # fmt: skip
ENDING = (1, 2, 3, 15)
# Signals that can be caught and mean something to a program. runc forwards all but CHLD, PIPE and URG.
FORWARDED = (1, 2, 3, 10, 12, 14, 15, 18, 20, 21, 22, 24, 26, 27, 28, 29, 30, *range(34, 65))


def parse_signal(text: str) -> int:
    """Return the number of a signal: 15, TERM, SIGTERM, sigterm, RTMIN+3, RTMAX-2. Raises RootlessError."""
    if text.isascii() and text.isdigit():
        number = int(text)
        if 0 <= number <= 64:
            return number
        raise RootlessError(f"unknown signal {text}", hint="the numbers are 1 to 64")
    name = text.upper().removeprefix("SIG")
    base, sign, offset = name, "", ""
    for mark in "+-":
        if mark in name:
            base, sign, offset = name.partition(mark)
    if base in SIGNALS and (not sign or (base in ("RTMIN", "RTMAX") and offset.isascii() and offset.isdigit())):
        number = SIGNALS[base] + (int(offset) if sign == "+" else -int(offset) if sign else 0)
        if not sign or 34 <= number <= 64:
            return number
    from rootless.config_node import closest

    hint = closest(name, SIGNALS) or "a name such as TERM or SIGKILL, or a number"
    raise RootlessError(f"unknown signal {printable(repr(text))}", hint=hint)


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command, raised so that the command undoes what it has made."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


def end_on_signals(unless: Callable[[], bool] | None = None) -> None:
    """Raise the first HUP, INT, QUIT or TERM as Interrupted from now on; ignore the ones after it.

    unless: is asked when a signal has come, and says whether it shall only be noted.
    """
    handler = _raise if unless is None else lambda signum, frame: None if unless() else _raise(signum, frame)
    for signum in ENDING:
        if getsignal(signum) != SIG_IGN:  # nohup(1) ignores HUP, and that must stay so
            signal(signum, handler)


def block(signums: Iterable[int]) -> None:
    """Block these signals until `unblock` (sigprocmask(2)).

    Callers do it while there is no program yet to forward them to, or while something is made that is not yet on the
    undo stack.
    """
    pthread_sigmask(SIG_BLOCK, signums)


def unblock(signums: Iterable[int]) -> None:
    """Undo `block`. Signals that came meanwhile are delivered before this returns, so it may raise Interrupted."""
    pthread_sigmask(SIG_UNBLOCK, signums)


def _raise(signum: int, _frame: Any) -> None:
    for each in ENDING:
        signal(each, SIG_IGN)
    raise Interrupted(signum)
