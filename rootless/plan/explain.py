"""Explain a plan to people who want to learn what a container is: its steps as a story (`rootless explain`)."""

from __future__ import annotations

import re
import textwrap
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from rootless.plan.stories import STORIES, manual

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.plan.compiler import Plan

WIDTH = 100
_INDENT = 6  # columns of the steps' numbers
_STYLES = {"title": "1", "chapter": "1;34", "step": "", "why": "2", "manual": "36", "answer": "32"}
_POINTER = re.compile(r"(\[/[^ ]*\])$")


class Told(NamedTuple):
    """One step's line: its number, as --dry-run has it, the sentence, and the JSON pointer that asks for it."""

    number: int
    chapter: str
    sentence: str
    pointer: str
    why: str
    manual: str


class Line(NamedTuple):
    """A line of the output: what it is (a key of _STYLES) and its text without colours."""

    kind: str
    text: str


def tell(plan: Plan) -> list[Told]:
    """Return the plan's lines with their stories, in the order and with the numbers of --dry-run."""
    told: list[Told] = []
    for step in plan.steps():
        story = STORIES[type(step)]
        for sentence, line in zip(story.tell(step), step.lines(), strict=True):
            pointer = line[line.rindex(" [") + 2 : -1]
            told.append(Told(len(told) + 1, story.chapter, sentence, pointer, story.reason(step), manual(step)))
    return told


def introduction(container_id: str, bundle: str, plan: Plan) -> str:
    """Return what the reader needs to know before the first step."""
    return (
        f"{len(tell(plan))} steps make the container {container_id} of {bundle}. The runtime is the process that you"
        " start. Init is its child, which sets up the container from the inside and becomes the program at the end. The"
        " place in config.json that asks for a step stands in brackets."
    )


def layout(told: list[Told], answers: Mapping[int, list[str]] | None = None, width: int = WIDTH) -> list[Line]:
    """Return the story as lines that fit the width. Neighbours with the same reason share it.

    answers: what the kernel answered to a step, by its number.
    """
    lines: list[Line] = []
    chapter = ""
    for (heading, why, pages), steps in groupby(told, lambda each: (each.chapter, each.why, each.manual)):
        if heading != chapter:
            chapter = heading
            lines += [Line("step", ""), *wrapped("chapter", heading, "", width)]
        for step in steps:
            lines += wrapped("step", f"{step.sentence} [{step.pointer}]", f"{step.number:4}  ", width)
            for answer in (answers or {}).get(step.number, ()):
                lines += wrapped("answer", answer, " " * _INDENT + "=> ", width)
        lines += wrapped("why", why, " " * _INDENT + "Why: ", width)
        lines += wrapped("manual", pages, " " * _INDENT + "Read: ", width)
    return lines


def wrapped(kind: str, text: str, start: str, width: int = WIDTH) -> list[Line]:
    """Return a paragraph as lines of one kind. The lines after the first are indented as far as `start` is long."""
    lines = textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False)
    return [Line(kind, line) for line in lines]


def painted(lines: list[Line], *, colour: bool) -> str:
    """Return lines as text, with the escape sequences of ECMA-48 for colours if they are wanted."""
    if not colour:
        return "".join(f"{line.text}\n" for line in lines)
    return "".join(f"{_paint(line)}\n" for line in lines)


def _paint(line: Line) -> str:
    style = _STYLES[line.kind]
    if line.kind == "step":
        return _POINTER.sub("\x1b[36m\\1\x1b[0m", line.text)
    return f"\x1b[{style}m{line.text}\x1b[0m"
