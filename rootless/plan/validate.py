"""All that is wrong with a config.json at once, and the keys that look misspelt: `rootless spec --validate`.

The readers raise at the first error, and there are no others: what is allowed is said in one place. So they are asked
again and again. What an error is about is noted and taken out of their sight, until they find nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.errors import RootlessError, SpecError, printable
from rootless.node import Node, closest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_MOST = 100  # each costs a reading of the whole config


def validate(config: Any, read: Callable[[Node], list[str]]) -> tuple[list[RootlessError], list[str]]:
    """(all errors, all warnings). `read` compiles a config and gives its warnings; it is called until it is content."""
    review = _Review()
    warnings: list[str] = []
    while len(review.errors) < _MOST:
        try:
            warnings = read(_Reviewed(config, "", review))
            break
        except SpecError as error:
            if not review.take(error):
                break
        except RootlessError as error:  # not about a place in the config: taking something away does not help
            review.errors.setdefault("", error)
            break
    else:
        warnings = [f"only the first {_MOST} errors are told"]
    return list(review.errors.values()), warnings + review.misspelt()


class _Review:
    """What was found, by the JSON pointer of its place.

    errors: at most one a place; taken: the places that the readers do not see any more; objects: each object that was
    read, with the keys that were asked for.
    """

    def __init__(self) -> None:
        self.errors: dict[str, RootlessError] = {}
        self.taken: set[str] = set()
        self.objects: dict[str, tuple[dict[str, Any], set[str]]] = {}

    def note(self, error: SpecError, about: str = "") -> None:
        """Keep an error, but not what only follows from one that is there already."""
        if not (self._is_within_error(error.where) or (about and self._holds_error(about))):
            self.errors[error.where] = error

    def take(self, error: SpecError) -> bool:
        """Note an error and take out what it is about; if that was taken already, what holds it. False at the top."""
        self.note(error)
        pointer = error.where
        while pointer in self.taken:
            pointer = pointer.rpartition("/")[0]
        self.taken.add(pointer)
        return pointer not in ("", "/")

    def misspelt(self) -> list[str]:
        """A line for each key that nobody reads (the spec allows those) and that is nearly one that is read."""
        lines = []
        for pointer, (found, asked) in self.objects.items():
            for key in found:
                hint = "" if key in asked else closest(key, asked - found.keys())
                if hint:
                    lines.append(f"unknown key: {printable(f'{pointer}/{key}')}; hint: {hint}")
        return lines

    def _is_within_error(self, pointer: str) -> bool:
        return any(pointer == place or pointer.startswith(place + "/") for place in self.errors)

    def _holds_error(self, pointer: str) -> bool:
        return any(place == pointer or place.startswith(pointer + "/") for place in self.errors)


class _Reviewed(Node):
    """A Node that does not show what was taken, and remembers which keys it was asked for."""

    __slots__ = ("review",)

    def __init__(self, value: Any, pointer: str, review: _Review) -> None:
        super().__init__(None if pointer in review.taken else value, pointer)
        self.review = review

    def __getitem__(self, key: str) -> Node:
        if type(self.value) is dict:
            self.review.objects.setdefault(self.pointer, (self.value, set()))[1].add(key)
        return self._wrap(super().__getitem__(key))

    def items(self) -> list[Node]:
        return [self._wrap(node) for node in super().items() if node.pointer not in self.review.taken]

    def members(self) -> Iterator[tuple[str, Node]]:
        for key, node in super().members():
            if node.pointer not in self.review.taken:
                yield key, node

    def required(self) -> Node:
        if self.value is None:  # its default serves for the rest: what else is wrong beside it is found too
            self.review.note(self.error("is required"))
        return self

    def refuse(self, what: str, hint: str = "", about: str = "") -> None:
        self.review.note(self.error(what, hint), about)

    def _wrap(self, node: Node) -> Node:
        return _Reviewed(node.value, node.pointer, self.review)
