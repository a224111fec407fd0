"""Read the terminal sessions of a page: their commands, and the output that the page shows."""

from __future__ import annotations

import re


def console_steps(text: str) -> list[tuple[str, str]]:
    """Return (command, expected output) of every console block of a page's text."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines(keepends=True):
            if line.startswith("$ "):
                found.append((line[2:].strip(), ""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def matches(expected: str, output: str) -> bool:
    """Return whether the output is what a page shows, where `...` stands for anything."""
    pattern = "".join(".*" if part == "..." else re.escape(part) for part in re.split(r"(\.\.\.)", expected))
    return re.fullmatch(pattern, output, re.DOTALL) is not None
