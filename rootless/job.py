"""A long piece of work in a child with the user's id map: signals end it, and the parent takes back what it left.

The child dies of SIGINT, SIGTERM and SIGHUP as it would of SIGKILL or of too little memory, so that there is one way
to clean up and no moment at which it does not work.
"""

from __future__ import annotations

import signal

from oci.errors import OciError
from oci.remove import remove_tree
from rootless import lean_os as os
from rootless import log, userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TypeVar

    from rootless.host import IdMap

    T = TypeVar("T")

    Maps = tuple[IdMap, IdMap]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(work: Callable[[], int], maps: Maps, take_back: Callable[[], None] = lambda: None) -> int:
    """Run `work` with these id maps ([] for the ids that there are); its exit code, or 128+n.

    `take_back` runs with the same ids if it was killed.
    """
    code = userns.run(*maps, lambda: _told(work), SIGNALS)
    if code > 128:
        if os.isatty(2):
            os.write(2, b"\r\033[K")  # the progress line
        left = userns.run(*maps, lambda: _told(lambda: _taken_back(take_back)), SIGNALS)
        how = "interrupted" if code - 128 in SIGNALS else f"killed by {signal.Signals(code - 128).name}"
        log.error(f"{how}: {'what was made could not be taken back' if left else 'nothing is left behind'}")
    return code


def interruptible(work: Callable[[], T]) -> T:
    """What `work`, which leaves nothing behind, returns; a signal meanwhile ends the command with 128+n and says so."""

    def end(signum: int, _frame: object) -> NoReturn:
        log.error("interrupted: nothing is left behind")
        raise SystemExit(128 + signum)

    before = {signum: signal.signal(signum, end) for signum in SIGNALS}
    try:
        return work()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def finishing() -> None:
    """For the child: from now on it is too late for a signal, what was made is put in its place."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def remove(path: str, maps: Maps) -> int:
    """Remove a tree with these id maps; the exit code."""

    def work() -> int:
        remove_tree(path)
        return 0

    return userns.run(*maps, lambda: _told(work))


def _told(work: Callable[[], int]) -> int:
    """In the child: an OciError is told there, in one line, and ends it with 1."""
    try:
        return work()
    except OciError as error:
        log.error(error.message())
        return 1


def _taken_back(take_back: Callable[[], None]) -> int:
    finishing()  # a second signal must not stop the clean-up
    take_back()
    return 0
