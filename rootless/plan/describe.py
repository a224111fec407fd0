"""Describe a plan for people: a numbered line for each step, with the property that asks for it (`--dry-run`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rootless.plan.compiler import Plan
    from rootless.steps import Step


def describe(plan: Plan) -> list[str]:
    """Return the whole plan, in the order in which it is carried out."""
    lines = (line for step in plan.steps() for line in step.lines())
    return [f"{number:3} {line}" for number, line in enumerate(lines, 1)]


class Numbering:
    """Number a plan's lines as --dry-run does, so that --debug can log a step with the same number."""

    def __init__(self, plan: Plan) -> None:
        self.numbers: dict[tuple[str, ...], int] = {}
        number = 1
        for step in plan.steps():
            lines = tuple(step.lines())
            self.numbers.setdefault(lines, number)
            number += len(lines)

    def lines(self, step: Step) -> list[str]:
        """Return the step's lines as `describe` has them."""
        lines = step.lines()
        first = self.numbers.get(tuple(lines), 0)
        return [f"{number:3} {line}" for number, line in enumerate(lines, first)]
