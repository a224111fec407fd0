"""List all errors in a config.json, and keys that look misspelt: `rootless spec --validate`.

The plan's readers stop at the first error. To list all, this module runs them repeatedly, and hides the value that
failed each time. There is no second set of checks, so what is allowed is written in one place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.config_node import Node, closest
from rootless.errors import RootlessError, SpecError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_MOST = 100  # errors to list, because each costs a reading of the whole config


def validate(config: Any, read: Callable[[Node], list[str]]) -> tuple[list[RootlessError], list[str]]:
    """Return (all errors, all warnings). read: compiles a config and returns its warnings; raises SpecError."""
    review = _Review()
    warnings: list[str] = []
    while len(review.errors) < _MOST:
        try:
            warnings = read(_Reviewed(config, "", review))
            break
        except SpecError as error:
            if not review.hide(error):
                break
        except RootlessError as error:  # not about a value of the config, so hiding one does not help
            review.errors.setdefault("", error)
            break
    else:
        warnings = [f"only the first {_MOST} errors are listed"]
    return list(review.errors.values()), warnings + review.misspelt()


class _Review:
    """Collect the errors, and which keys the readers have asked for.

    errors: {JSON pointer: error}; hidden: pointers of values that the readers do not see; objects: {pointer: (object,
    keys that were read)}.
    """

    def __init__(self) -> None:
        self.errors: dict[str, RootlessError] = {}
        self.hidden: set[str] = set()
        self.objects: dict[str, tuple[dict[str, Any], set[str]]] = {}

    def note(self, error: SpecError, about: str = "") -> None:
        """Keep an error, unless it only follows from one that is kept already."""
        if not (self._is_within_error(error.where) or (about and self._holds_error(about))):
            self.errors[error.where] = error

    def hide(self, error: SpecError) -> bool:
        """Keep an error and hide its value, or, if that is hidden already, the object around it.

        Return False if that would hide the whole config.
        """
        self.note(error)
        pointer = error.where
        while pointer in self.hidden:
            pointer = pointer.rpartition("/")[0]
        self.hidden.add(pointer)
        return pointer not in ("", "/")

    def misspelt(self) -> list[str]:
        """Return a line for each key that no reader asked for and that is nearly one that they asked for.

        Other unknown keys are fine, because the specification allows them (config.md#extensibility).
        """
        lines = []
        for pointer, (keys, asked) in self.objects.items():
            for key in keys:
                hint = "" if key in asked else closest(key, asked - keys.keys())
                if hint:
                    lines.append(f"unknown key: {printable(f'{pointer}/{key}')}; hint: {hint}")
        return lines

    def _is_within_error(self, pointer: str) -> bool:
        return any(pointer == place or pointer.startswith(place + "/") for place in self.errors)

    def _holds_error(self, pointer: str) -> bool:
        return any(place == pointer or place.startswith(pointer + "/") for place in self.errors)


class _Reviewed(Node):
    """A Node that does not show hidden values, and remembers which keys it was asked for."""

    __slots__ = ("review",)

    def __init__(self, value: Any, pointer: str, review: _Review) -> None:
        super().__init__(None if pointer in review.hidden else value, pointer)
        self.review = review

    def __getitem__(self, key: str) -> Node:
        if type(self.value) is dict:
            self.review.objects.setdefault(self.pointer, (self.value, set()))[1].add(key)
        return self._wrap(super().__getitem__(key))

    def items(self) -> list[Node]:
        return [self._wrap(node) for node in super().items() if node.pointer not in self.review.hidden]

    def members(self) -> Iterator[tuple[str, Node]]:
        for key, node in super().members():
            if node.pointer not in self.review.hidden:
                yield key, node

    def required(self) -> Node:
        if self.value is None:  # note the error and continue with the default, to find the errors after it
            self.review.note(self.missing())
        return self

    def refuse(self, what: str, hint: str = "", about: str = "") -> None:
        self.review.note(self.error(what, hint), about)

    def _wrap(self, node: Node) -> Node:
        return _Reviewed(node.value, node.pointer, self.review)
