"""Show a progress line on a terminal: what is done, how fast, and how long it still takes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

_INTERVAL = 0.1  # seconds between two lines
_BAR, _LEAST_BAR = 20, 5  # characters
_PATIENCE = 1.0  # seconds before the first line, because what is over by then needs none


class ProgressLine:
    """Writes the line to standard error, if that is a terminal or `live` is set, once the work takes a second.

    total: how much there is to do, 0 if that is not known; layers: how many layers, 0 for work without layers; words:
    what is done; is_bytes: whether bytes are counted, otherwise files are. The work's callback `advance` counts.
    """

    def __init__(
        self,
        total: int = 0,
        layers: int = 0,
        *,
        words: str = "",
        is_bytes: bool = True,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._layers = layers
        self._layer = 0
        self._words = words
        self._is_bytes = is_bytes
        self._done = 0
        self._clock = clock
        self._start = clock()
        self._shown = 0.0
        self._live = os.isatty(2) if live is None else live

    def next_layer(self) -> None:
        """Count a layer that begins."""
        self._layer += 1

    def advance(self, size: int = 1) -> None:
        """Add `size` bytes that were read, or files, and show the line if it is time for it."""
        self._done += size
        if not self._live:
            return
        now = self._clock()
        if now - self._start >= _PATIENCE and now - self._shown > _INTERVAL:
            self._shown = now
            self._write(self._line(now - self._start))

    def finish(self) -> None:
        """Remove the line."""
        if self._live and self._shown:
            self._write("")
            self._live = False

    def _line(self, seconds: float) -> str:
        words = f"layer {self._layer} of {self._layers}" if self._layers else self._words
        amount = f"{words}  {self._amount(self._done)}"
        rate = self._done / seconds if seconds > 0 else 0.0
        speed = f"  {self._amount(rate)}/s"
        width = _columns()
        if not self._total or self._done > self._total:  # more than was expected: the rest is unknown
            return (amount + speed)[:width]
        share = self._done / self._total
        done = self._amount(self._done) if self._is_bytes else f"{self._done}"
        amount = f"{words}  {done} of {self._amount(self._total)}"
        if rate and self._done < self._total:
            speed += f"  {_time((self._total - self._done) / rate)} left"
        percent = f" {share:4.0%}"
        if len(amount + percent + speed) <= width:  # in a narrow terminal the rate and the time count for more
            speed = percent + speed
        size = min(_BAR, width - len(amount) - len(speed) - 4)  # the bar gives way to the words
        bar = f"  [{'#' * round(share * size):<{size}}]" if size >= _LEAST_BAR else ""
        return (amount + bar + speed)[:width]

    def _amount(self, number: float) -> str:
        return _size(number) if self._is_bytes else f"{number:.0f} files"

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def _columns() -> int:
    """Return how many characters a line on standard error may have; many where nobody has set the terminal's size."""
    try:
        width = os.get_terminal_size(2).columns
    except OSError:
        width = 0
    return max(20, width - 1) if width else 200


def _time(seconds: float) -> str:
    """Return a time as `12 s`, `3 min` or `1 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _size(number: float) -> str:
    units = ["B", "KB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number /= 1000
        del units[0]
    return f"{number:.0f} B" if units[0] == "B" else f"{number:.1f} {units[0]}"
