"""Large files written by a thread beside the one that reads on: write(2) lets go of the interpreter's lock."""

from __future__ import annotations

import os
import queue
import threading

LARGE = 1 << 16  # bytes from which a handover costs less than the write
_BEHIND = 16  # jobs that the thread may be behind


class Writer:
    """Takes files that are open for writing; a context manager, at whose end all is written and closed.

    An OSError of the thread is raised by the next call, or at the end.
    """

    def __init__(self) -> None:
        self._jobs: queue.Queue[tuple[int, memoryview | int] | None] = queue.Queue(_BEHIND)
        self._thread: threading.Thread | None = None
        self._failure: OSError | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
        if kind is None:
            self._check()

    def write(self, file: int, piece: memoryview) -> None:
        """Append a piece to the file."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        self._jobs.put((file, piece))
        self._check()

    def close(self, file: int, mtime: int) -> None:
        """Set the file's time (ns) and close it; it is the writer's from now on. Nothing was written: nothing is."""
        self._jobs.put((file, mtime))

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            file, what = job
            try:
                if isinstance(what, int):
                    self._close(file, what)
                elif self._failure is None:
                    self._append(file, what)
            except OSError as error:
                self._failure = error

    @staticmethod
    def _append(file: int, piece: memoryview) -> None:
        while piece:
            piece = piece[os.write(file, piece) :]

    @staticmethod
    def _close(file: int, mtime: int) -> None:
        try:
            os.utime(file, ns=(mtime, mtime))
        finally:
            os.close(file)
