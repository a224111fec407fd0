"""Define the steps of a plan: one small class for each kind, which describes itself and executes itself.

A step has its place in config.json (`pointer`), the process that executes it (`where`), its words for people
(`describe`) and its action (`execute`). `--dry-run` prints the words, and `--debug` logs them when the step is
executed. To add a kind of step, add a class, and its story in plan/stories.py. Nobody writes to a step after the plan
is compiled; what executing it opens or learns is kept in the classes of steps/context.py.
"""

from __future__ import annotations

from rootless.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Tell = Callable[["Step"], None]
    Words = tuple[str, ...]

RUNTIME, INIT = "runtime", "init"  # the processes that execute steps


class Step:
    """One action for a container.

    pointer: the JSON pointer of the property that asks for it.
    """

    __slots__ = ("pointer",)
    where = INIT

    def __init__(self, pointer: str) -> None:
        self.pointer = pointer

    def words(self) -> Words:
        """Return the operation and its arguments."""
        raise NotImplementedError

    def describe(self) -> str:
        """Return what the step does as one line of text that is safe on a terminal."""
        return in_words(self.words())

    def lines(self) -> list[str]:
        """Return the step's lines for --dry-run and --debug, without their numbers: one, or one for each entry."""
        return [f"{self.describe()} [{printable(self.pointer)}]"]

    def execute(self, context: Any) -> None:
        """Do the action. context: one of the classes of steps/context.py, which each kind of step names.

        Raises OSError, or RootlessError if there is more to say.
        """
        raise NotImplementedError


def in_words(words: Words) -> str:
    """Return words as one line. A word that has a blank, or is not printable, is quoted."""
    return " ".join(word if word and word.isprintable() and " " not in word else ascii(word) for word in words)


def execute(steps: Iterable[Step], context: Any, tell: Tell | None) -> None:
    """Execute steps in their order. tell: logs a step before it is executed, None without --debug.

    Raises StepFailed, which names the step, for an OSError.
    """
    for step in steps:
        if tell:
            tell(step)
        try:
            step.execute(context)
        except OSError as error:
            raise StepFailed(step, error) from error


class StepFailed(Exception):
    """A step whose system call failed: the step and the OSError."""

    def __init__(self, step: Step, error: OSError) -> None:
        super().__init__(step.words()[0])
        self.step = step
        self.error = error
