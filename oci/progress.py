"""Show a progress line on a terminal: layer i of n, bytes, time left."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

_INTERVAL = 0.1  # seconds between two lines


class ProgressLine:
    """Write the line to standard error, if that is a terminal or `live` is set.

    The reader's callback `advance` counts bytes that were read from the archive.
    """

    def __init__(
        self, total: int, layers: int, *, live: bool | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = total
        self._layers = layers
        self._layer = 0
        self._done = 0
        self._clock = clock
        self._start = clock()
        self._shown = 0.0
        self._live = os.isatty(2) if live is None else live

    def next_layer(self) -> None:
        """Count a layer that begins."""
        self._layer += 1

    def advance(self, size: int) -> None:
        """Add `size` bytes that were read, and show the line if it is time for it."""
        self._done += size
        now = self._clock()
        if self._live and now - self._shown > _INTERVAL:
            self._shown = now
            self._write(self._line(now - self._start))

    def finish(self) -> None:
        """Remove the line."""
        if self._live and self._shown:
            self._write("")
            self._live = False

    def _line(self, seconds: float) -> str:
        text = f"layer {self._layer} of {self._layers}  {_size(self._done)}"
        if self._total:
            share = min(self._done / self._total, 1.0)
            bar = "#" * round(share * 20)
            text += f" of {_size(self._total)}  [{bar:<20}] {share:4.0%}"
            if share > 0.01 and seconds > 1:
                text += f"  {seconds / share * (1 - share):.0f} s left"
        return text

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def _size(number: float) -> str:
    units = ["B", "KB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number /= 1000
        del units[0]
    return f"{number:.0f} B" if units[0] == "B" else f"{number:.1f} {units[0]}"
