"""Parse sizes, durations and lists of numbers, in the forms that people and the kernel write."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node

MAX_CPUS = 8192  # NR_CPUS at its largest
MAX_NODES = 1024  # MAX_NUMNODES at its largest

_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SECONDS = {"": 1.0, "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_MAX_SIZE = 2**63 - 1  # of a file, and of a limit of cgroup v2
_MAX_DIGITS = 20  # more can only be a mistake, and int() takes long for very many


def parse_size(text: str) -> int:
    """Return the bytes of `4096`, `512m`, `1GiB` or `1.5g`. All units are powers of 1024. Raises ValueError."""
    number = text.strip(" ").lower()
    binary = number.endswith("ib")
    number = number.removesuffix("ib") if binary else number.removesuffix("b")
    unit = number[-1:] if number[-1:].isalpha() else ""
    digits = number.removesuffix(unit)
    if unit not in _BYTES or (binary and not unit) or not is_number(digits):
        raise ValueError(f"not a size: {text!r}")
    size = int((float(digits) if "." in digits else int(digits)) * _BYTES[unit])
    if size > _MAX_SIZE:
        raise ValueError(f"not a size: {text!r}")
    return size


def parse_duration(text: str) -> float:
    """Return the seconds of `90`, `1.5s`, `250ms` or `1m30s`: Go's form, or a bare number of seconds.

    Raises ValueError, also for a duration of 0.
    """
    seconds, rest = 0.0, text
    while rest:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(digits) :]
        unit = rest[: len(rest) - len(rest.lstrip("nuµmsh"))]
        rest = rest[len(unit) :]
        if not is_number(digits) or unit not in _SECONDS or (not unit and digits != text):
            raise ValueError(f"not a duration: {text!r}")
        seconds += float(digits) * _SECONDS[unit]
    if seconds <= 0:
        raise ValueError(f"not a duration: {text!r}")
    return seconds


def parse_numbers(text: str, limit: int) -> list[int]:
    """Return the numbers of a list such as `0-3,7` in order, each below `limit`; [] for an empty text.

    CPUs and memory nodes are listed like this (cpuset(7), "List format"). An empty element and a range that runs
    downwards are mistakes. Raises ValueError.
    """
    numbers: set[int] = set()
    for part in text.split(",") if text.strip(" \n") else []:
        first, dash, last = (word.strip(" \n") for word in part.partition("-"))
        if not dash:
            last = first
        if not all(word.isascii() and word.isdigit() and len(word) < 6 for word in (first, last)):
            raise ValueError(f"not a list of numbers: {text!r}")
        if not int(first) <= int(last) < limit:
            raise ValueError(f"not a list of numbers below {limit}: {text!r}")
        numbers.update(range(int(first), int(last) + 1))
    return sorted(numbers)


def read_numbers(node: Node, limit: int) -> list[int]:
    """Return the numbers of a list in config.json (`parse_numbers`). Raises SpecError."""
    try:
        return parse_numbers(node.string(), limit)
    except ValueError:
        raise node.wrong(f"a list such as '0-3,7', numbers below {limit}") from None


def is_number(digits: str) -> bool:
    """Return whether it is an unsigned number, perhaps with a point in it."""
    plain = digits.replace(".", "", 1)
    return plain.isascii() and plain.isdigit() and len(digits) <= _MAX_DIGITS
