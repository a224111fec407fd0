"""Lay out tables for people: aligned, within the terminal's columns, and with ages in place of times."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

from rootless.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_GAP = "   "
_LEAST = 8  # columns that a shortened cell keeps
_READABLE = 16  # columns in which a shortened cell still tells something
_UNITS = (("year", 31_536_000), ("month", 2_592_000), ("day", 86_400), ("hour", 3600), ("minute", 60))


def columns() -> int:
    """Return the columns of the terminal on standard output, 0 if it is not one: then nothing is shortened.

    COLUMNS counts before what the terminal says (ioctl_tty(2), TIOCGWINSZ).
    """
    try:
        if not os.isatty(1):
            return 0
    except OSError:
        return 0
    return shutil.get_terminal_size((0, 0)).columns


def laid_out(
    rows: Iterable[Sequence[str]],
    width: int | None = None,
    right: Sequence[int] = (),
    dispensable: Sequence[int] = (),
) -> str:
    """Return rows, the first of which is the heading, as aligned lines.

    width: the columns to fit into, 0 for no limit, None for the terminal's; right: the columns that are aligned right;
    dispensable: the columns that are left out, in this order, where the others would have to be shortened too much.
    The widest columns are shortened, down to 8 characters; where that is not enough, lines are longer than that.
    """
    width = columns() if width is None else width
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    kept = list(range(len(widths)))
    for column in dispensable:
        if not width or _together(min(widths[each], _READABLE) for each in kept) <= width:
            break
        kept.remove(column)
    cells = [[row[column] for column in kept] for row in cells]
    widths = [widths[column] for column in kept]
    right = [kept.index(column) for column in right if column in kept]
    while width and _together(widths) > width:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] <= max(_LEAST, len(cells[0][widest])):
            break
        widths[widest] -= 1
    lines = []
    for row in cells:
        shown = [_cut(cell, size) for cell, size in zip(row, widths, strict=True)]
        sides = [
            cell.rjust(size) if column in right else cell.ljust(size)
            for column, (cell, size) in enumerate(zip(shown, widths, strict=True))
        ]
        lines.append(_GAP.join(sides).rstrip() + "\n")
    return "".join(lines)


def _together(widths: Iterable[int]) -> int:
    """Return how long a line with columns of these widths is."""
    return sum(each + len(_GAP) for each in widths) - len(_GAP)


def _cut(cell: str, width: int) -> str:
    """Return a cell, shortened in its middle, because the ends of paths and names tell most."""
    if len(cell) <= width:
        return cell
    mark = "…" if "utf" in (sys.stdout.encoding or "").lower() else "~"
    tail = (width - 1) // 2
    return f"{cell[: width - 1 - tail]}{mark}{cell[len(cell) - tail :]}"


def age(seconds: float) -> str:
    """Return how long ago a time was: `2 minutes ago`, at least a second. seconds: since the epoch."""
    passed = time.time() - seconds
    for unit, size in _UNITS:
        if passed >= size:
            number = int(passed // size)
            return f"{number} {unit}{'' if number == 1 else 's'} ago"
    number = max(1, int(passed))
    return f"{number} second{'' if number == 1 else 's'} ago"


def size(number: int) -> str:
    """Return bytes as `12.5 MB`, in units of 1000, as docker and ls --si do."""
    amount, units = float(number), ["B", "KB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount /= 1000
        del units[0]
    return f"{number} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"
