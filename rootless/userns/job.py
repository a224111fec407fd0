"""A long piece of work in a child with the user's id map: signals end it, and the parent takes back what it left.

The child dies of SIGINT, SIGTERM and SIGHUP as it would of SIGKILL or of too little memory, so that there is one way
to clean up and no moment at which it does not work.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NoReturn, TypeVar

from oci.errors import OciError
from oci.remove import remove_tree
from rootless import log
from rootless.errors import RootlessError, printable
from rootless.userns import run as userns

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.kernel.host import IdMap

    T = TypeVar("T")

    Maps = tuple[IdMap, IdMap]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(work: Callable[[], int], maps: Maps, temporary: str = "", take_back: Callable[[], None] = lambda: None) -> int:
    """Run `work` with these id maps ([] for the ids that there are); its exit code, or 128+n.

    temporary: where it writes until all is complete. `take_back` runs with the same ids if the work was killed, and if
    it failed or could not be waited for and left that behind. What remains even then is named.
    """
    try:
        code = userns.run(*maps, work, SIGNALS)
    except BaseException:
        if os.path.lexists(temporary) and not _take_back(take_back, maps, temporary):
            log.error(_left(temporary))
        raise
    if code > 128:
        if os.isatty(2):
            os.write(2, b"\r\033[K")  # the progress line
        is_gone = _take_back(take_back, maps, temporary)
        how = "interrupted" if code - 128 in SIGNALS else f"killed by {signal.Signals(code - 128).name}"
        log.error(f"{how}: nothing is left behind" if is_gone else f"{how}: {_left(temporary)}")
    elif code and os.path.lexists(temporary) and not _take_back(take_back, maps, temporary):
        log.error(_left(temporary))
    return code


def _take_back(take_back: Callable[[], None], maps: Maps, temporary: str) -> bool:
    """Run `take_back` in a child of its own; whether nothing is left. The error that it follows has been told."""

    def work() -> int:
        finishing()  # a second signal must not stop the clean-up
        try:
            take_back()
        except Exception:
            return 1
        return 0

    try:
        code = userns.run(*maps, work, SIGNALS)
    except (OSError, RootlessError):
        code = 1
    return code == 0 and not os.path.lexists(temporary)


def _left(temporary: str) -> str:
    hint = "`rootless unshare rm -rf --one-file-system` removes it"
    return f"this could not be taken back: {printable(temporary)}; hint: {hint}"


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
        try:
            remove_tree(path)
        except OciError as error:  # with the ids that there are this is no child
            raise RootlessError(error.what, error.where, error.errno, error.hint) from None
        return 0

    code = userns.run(*maps, work)
    if code > 128:
        log.error(f"killed by {signal.Signals(code - 128).name}: some of it is still there")
    return code
