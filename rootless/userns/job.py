"""Do long work in a child with the user's id map. A signal ends the child, and the parent removes what it left.

SIGINT, SIGTERM and SIGHUP kill the child, like SIGKILL or the OOM killer would. So there is only one way to clean up,
and it works at every moment.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, NoReturn, TypeVar

from oci.errors import OciError
from oci.progress import ProgressLine
from oci.remove import recorded_files, remove_tree
from rootless import log
from rootless.errors import RootlessError, printable
from rootless.kernel.hints import hint
from rootless.userns.run import run_in_userns

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.kernel.host import IdMap

    T = TypeVar("T")

    Maps = tuple[IdMap, IdMap]

_ONE_KEY = 0.3  # seconds
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_interruptible(
    work: Callable[[], int], maps: Maps, temporary: str = "", take_back: Callable[[], None] = lambda: None
) -> int:
    """Run `work` in a child with these id maps; return its exit code, or 128+n. Empty maps keep the ids as they are.

    temporary: the path that `work` writes to until all is complete. take_back: removes it, with the same ids. It runs
    if the work was killed, and if `temporary` still exists after an error. A path that remains is named in a warning.
    """
    try:
        code = run_in_userns(*maps, work, SIGNALS)
    except BaseException as error:
        if os.path.lexists(temporary) and not _take_back(take_back, maps, temporary):
            log.warn(_left(temporary))
        if isinstance(error, OSError):
            raise RootlessError.from_os(
                error, "cannot run the child that does the work", printable(temporary)
            ) from error
        raise
    if code > 128:
        if os.isatty(2):
            os.write(2, b"\r\033[K")  # the progress line
        is_gone = _take_back(take_back, maps, temporary)
        how = "interrupted" if code - 128 in SIGNALS else f"killed by {signal.Signals(code - 128).name}"
        log.error(f"{how}: nothing is left behind" if is_gone else f"{how}: {_left(temporary)}")
    elif code and os.path.lexists(temporary) and not _take_back(take_back, maps, temporary):
        log.warn(_left(temporary))
    return code


def _take_back(take_back: Callable[[], None], maps: Maps, temporary: str) -> bool:
    """Run `take_back` in a child; return whether nothing is left. The error that led here has been printed."""

    def work() -> int:
        finishing()  # a second signal must not stop the clean-up
        try:
            take_back()
        except Exception:
            return 1
        return 0

    try:
        code = run_in_userns(*maps, work, SIGNALS)
    except (OSError, RootlessError):
        code = 1
    return code == 0 and not os.path.lexists(temporary)


def _left(temporary: str) -> str:
    return f"this could not be removed: {printable(temporary)}; hint: {hint('left-on-one-fs').text}"


def interruptible(work: Callable[[], T]) -> T:
    """Return what `work` returns. A signal meanwhile ends the command with 128+n and an error line.

    `work` must leave nothing behind, because nothing is cleaned up. Raises SystemExit.
    """

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
    """Block signals in the child while it moves its result into place, because a signal is too late now."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _despite_signals(work: Callable[[], None]) -> int:
    """Do work that is of no use if it is half done; return 0, or 128+n if a signal came. A second one ends it.

    The terminal sends SIGINT to this process, and the parent passes its own on, so two within a moment are one.
    """
    first: list[tuple[int, float]] = []

    def note(signum: int, _frame: object) -> None:
        if first and time.monotonic() - first[0][1] > _ONE_KEY:
            raise KeyboardInterrupt
        if not first:
            first.append((signum, time.monotonic()))
            log.warn("interrupted: the rest is removed first, because half a bundle is of no use; again to stop")

    before = {signum: signal.signal(signum, note) for signum in SIGNALS}
    try:
        work()
    except KeyboardInterrupt:
        pass
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    return 128 + first[0][0] if first else 0


def _is_anothers(path: str) -> bool:
    try:
        return os.stat(path).st_uid != os.geteuid()  # of a user namespace, where other users' files are nobody's
    except OSError:
        return False


def remove(path: str, maps: Maps) -> int:
    """Remove a tree with these id maps; return the exit code. Raises RootlessError."""

    def work() -> int:
        progress = ProgressLine(recorded_files(path), words="removing", is_bytes=False)
        try:
            return _despite_signals(lambda: remove_tree(path, progress.advance))
        except OciError as error:  # with empty maps this runs in the parent, whose caller expects a RootlessError
            raise RootlessError(error.what, error.where, error.errno, error.hint) from None
        except OSError as error:
            name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
            where = f"{path}: {name}" if name and name != os.path.basename(path) else path
            hint_text = "it belongs to another user" if _is_anothers(path) else ""
            raise RootlessError.from_os(error, "cannot remove", printable(where), hint_text) from None
        finally:
            progress.finish()

    code = run_in_userns(*maps, work, SIGNALS)
    if code > 128 and os.path.lexists(path):
        log.error(f"killed by {signal.Signals(code - 128).name}: a part of it is still there")
    return code
