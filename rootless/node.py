"""One value of config.json that knows where it stands.

A Node carries its JSON pointer (RFC 6901), so that every complaint names the place. Readers never touch the raw
JSON: they ask a Node for a string, a number, a list, and get a `SpecError` where something else is found.
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
    """A JSON value and its pointer; a missing (or null) value is a Node too, with `value` None."""

    __slots__ = ("pointer", "value")

    def __init__(self, value: Any, pointer: str = "") -> None:
        self.value = value
        self.pointer = pointer

    def __bool__(self) -> bool:
        """Whether there is a value at all (an empty one counts)."""
        return self.value is not None

    def __getitem__(self, key: str) -> Node:
        """The member of an object; of a missing object a missing member."""
        pointer = f"{self.pointer}/{key.replace('~', '~0').replace('/', '~1') if '/' in key or '~' in key else key}"
        if self.value is None:
            return Node(None, pointer)
        if type(self.value) is not dict:
            raise self.wrong("an object")
        return Node(self.value.get(key), pointer)

    def error(self, what: str, hint: str = "") -> SpecError:
        """A SpecError at this place."""
        return SpecError(what, printable(self.pointer) or "/", hint=hint)

    def refuse(self, what: str, hint: str = "", about: str = "") -> None:
        """Raise the error of this place. For what does not fit another place, `about`: all that was read stays of use,
        so that a review of the whole config (rootless/plan/validate.py) notes it and goes on."""
        raise self.error(what, hint)

    def wrong(self, allowed: str) -> SpecError:
        """`found X, allowed is Y` at this place."""
        kind = type(self.value)
        if self.value is None:
            found = "nothing"
        elif kind in (dict, list):
            found = _NAMES[kind]
        else:
            found = repr(self.value) if kind is not bool else "true" if self.value else "false"
            found = found if len(found) < 80 else _NAMES.get(kind, "a value")
        return self.error(f"found {printable(found)}, allowed is {allowed}")

    def string(self, default: str = "") -> str:
        """A string without NUL bytes."""
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
                raise self.error("holds a lone surrogate, which is no character") from None
        return self.value

    def boolean(self, default: bool = False) -> bool:
        """true or false."""
        if self.value is None:
            return default
        if type(self.value) is not bool:
            raise self.wrong("true or false")
        return self.value

    def integer(self, default: int = 0, low: int = -(2**63), high: int = 2**64 - 1) -> int:
        """A whole number from low to high."""
        if self.value is None:
            return default
        number = self.value
        if type(number) is float and number.is_integer():  # JSON knows one kind of number: 1e3 is 1000
            number = int(number)
        if type(number) is not int or not low <= number <= high:
            raise self.wrong(f"a whole number from {low} to {high}")
        return number

    def uint32(self, default: int = 0) -> int:
        """An id, a mode or another unsigned 32-bit number."""
        return self.integer(default, 0, 2**32 - 1)

    def items(self) -> list[Node]:
        """The elements of an array, [] where it is missing."""
        if self.value is None:
            return []
        if type(self.value) is not list:
            raise self.wrong("an array")
        return [Node(v, f"{self.pointer}/{i}") for i, v in enumerate(self.value)]

    def strings(self) -> list[str]:
        """The elements of an array of strings."""
        return [n.required().string() for n in self.items()]

    def members(self) -> Iterator[tuple[str, Node]]:
        """The members of an object in their order, none where it is missing."""
        if self.value is None:
            return
        if type(self.value) is not dict:
            raise self.wrong("an object")
        for key in self.value:
            if "\0" in key:
                raise self.error("holds a NUL character in a name, which no system call takes")
            yield key, self[key]

    def string_map(self) -> dict[str, str]:
        """An object of strings."""
        return {key: node.required().string() for key, node in self.members()}

    def choice(self, table: Mapping[str, T] | Iterable[str], default: Any = _MISSING) -> Any:
        """The table's value for this string (the string itself where the table is no mapping)."""
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
        """This Node, or the complaint that it is missing."""
        if self.value is None:
            raise self.error("is required")
        return self


def closest(name: str, names: Iterable[str]) -> str:
    """A hint that names what the user may have meant, or ""."""
    from difflib import get_close_matches

    folded = {n.lower(): n for n in names}
    found = get_close_matches(name.lower(), folded, 1, 0.7)
    return f"did you mean {folded[found[0]]!r}?" if found else ""
