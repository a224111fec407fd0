"""Wrap a value of config.json together with its place.

A Node holds its JSON pointer (RFC 6901), so that every error names the place. Readers do not use the raw JSON. They ask
a Node for a string, a number or a list, and get a SpecError if the value is of another type.
"""

from __future__ import annotations

from rootless.errors import SpecError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")

_MISSING = object()
_NAMES = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}


class Node:
    """Hold a JSON value and its pointer. A missing or null value is a Node, too: its `value` is None."""

    __slots__ = ("pointer", "value")

    def __init__(self, value: Any, pointer: str = "") -> None:
        self.value = value
        self.pointer = pointer

    def __bool__(self) -> bool:
        """Return whether there is a value; an empty one counts."""
        return self.value is not None

    def __getitem__(self, key: str) -> Node:
        """Return a member of an object. If the object is missing, so is the member. Raises SpecError."""
        pointer = f"{self.pointer}/{key.replace('~', '~0').replace('/', '~1') if '/' in key or '~' in key else key}"
        if self.value is None:
            return Node(None, pointer)
        if type(self.value) is not dict:
            raise self.wrong("an object")
        return Node(self.value.get(key), pointer)

    def error(self, what: str, hint: str = "") -> SpecError:
        """Return a SpecError at this place."""
        return SpecError(what, printable(self.pointer) or "/", hint=hint)

    def refuse(self, what: str, hint: str = "", about: str = "") -> None:
        """Raise a SpecError at this place for a value that could be read but does not fit another one.

        about: says what does not fit. The review of the whole config (plan/validate.py) overrides this method: it notes
        the error and continues with the value.
        """
        raise self.error(what, hint)

    def wrong(self, allowed: str) -> SpecError:
        """Return the SpecError `found X, allowed is Y` at this place."""
        kind = type(self.value)
        if self.value is None:
            shown = "nothing"
        elif kind in (dict, list):
            shown = _NAMES[kind]
        else:
            shown = repr(self.value) if kind is not bool else "true" if self.value else "false"
            shown = shown if len(shown) < 80 else _NAMES.get(kind, "a value")
        return self.error(f"found {printable(shown)}, allowed is {allowed}")

    def string(self, default: str = "") -> str:
        """Return a string, `default` if it is missing. Raises SpecError, also for a NUL or a lone surrogate in it."""
        if self.value is None:
            return default
        if type(self.value) is not str:
            raise self.wrong("a string")
        if "\0" in self.value:
            raise self.error("holds a NUL character, which no system call takes")
        if not self.value.isascii():
            try:
                self.value.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:
                raise self.error("holds a lone surrogate, which is not a character") from None
        return self.value

    def boolean(self, default: bool = False) -> bool:
        """Return a boolean, `default` if it is missing. Raises SpecError."""
        if self.value is None:
            return default
        if type(self.value) is not bool:
            raise self.wrong("true or false")
        return self.value

    def integer(self, default: int = 0, low: int = -(2**63), high: int = 2**64 - 1) -> int:
        """Return a whole number from low to high, `default` if it is missing. Raises SpecError."""
        if self.value is None:
            return default
        number = self.value
        if type(number) is float and number.is_integer():  # JSON has one type of number, so 1e3 is 1000
            number = int(number)
        if type(number) is not int or not low <= number <= high:
            raise self.wrong(f"a whole number from {low} to {high}")
        return number

    def uint32(self, default: int = 0) -> int:
        """Return an id, a mode or another unsigned 32-bit number. Raises SpecError."""
        return self.integer(default, 0, 2**32 - 1)

    def items(self) -> list[Node]:
        """Return the elements of an array, [] if it is missing. Raises SpecError."""
        if self.value is None:
            return []
        if type(self.value) is not list:
            raise self.wrong("an array")
        return [Node(v, f"{self.pointer}/{i}") for i, v in enumerate(self.value)]

    def strings(self) -> list[str]:
        """Return the elements of an array of strings. Raises SpecError."""
        return [n.required().string() for n in self.items()]

    def members(self) -> Iterator[tuple[str, Node]]:
        """Yield the members of an object in their order, none if it is missing. Raises SpecError."""
        if self.value is None:
            return
        if type(self.value) is not dict:
            raise self.wrong("an object")
        for key in self.value:
            if "\0" in key:
                raise self.error("holds a NUL character in a name, which no system call takes")
            yield key, self[key]

    def string_map(self) -> dict[str, str]:
        """Return an object whose values are strings. Raises SpecError."""
        return {key: node.required().string() for key, node in self.members()}

    def choice(self, table: Mapping[str, T] | Iterable[str], default: Any = _MISSING) -> Any:
        """Return the table's value for this string, or the string if the table is not a dict. Raises SpecError."""
        if self.value is None and default is not _MISSING:
            return default
        name = self.required().string()
        if isinstance(table, dict):
            if name in table:
                return table[name]
        elif name in table:
            return name
        raise self.error(f"found {printable(repr(name))}, allowed is {', '.join(table)}", hint=closest(name, table))

    def required(self) -> Node:
        """Return this Node. Raises SpecError if its value is missing."""
        if self.value is None:
            raise self.missing()
        return self

    def missing(self) -> SpecError:
        """Return the SpecError for a value that must be there."""
        name = self.pointer.rpartition("/")[2]
        return self.error(f'"{printable(name)}" is missing: it is required' if name else "is required")


def closest(name: str, names: Iterable[str]) -> str:
    """Return a hint with the name that the user probably meant, "" if none is close."""
    from difflib import get_close_matches

    folded = {n.lower().lstrip("-"): n for n in names}  # dashes make short flags look alike: --json and --mount
    bare = name.lower().lstrip("-")
    matches = get_close_matches(bare, folded, 1, 0.6 if len(bare) <= 4 else 0.7)  # rnu: 0.67
    return f"did you mean {folded[matches[0]]!r}?" if matches else ""
