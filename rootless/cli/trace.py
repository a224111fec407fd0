"""Run a container for `explain --trace`, and tell at each step what the kernel answered and how long it took.

The times come from the lines of --debug, which go to a file in memory. What the kernel made is read in /proc/PID while
init waits for `start`: it has done all but the last steps then, and the program does not run yet.
"""

from __future__ import annotations

import json
import os
import re
from itertools import pairwise
from typing import TYPE_CHECKING, TypedDict

from rootless import log
from rootless.cli.kernel_answers import Kernel
from rootless.plan.explain import Line, layout, tell, wrapped
from rootless.runtime.run import run
from rootless.steps.program import Execute

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.kernel.host import Host
    from rootless.plan.compiler import Plan
    from rootless.runtime.bundle import CreateRequest
    from rootless.runtime.create import Created
    from rootless.steps import Step

_STEP = re.compile(r" *\+(\d+\.\d+) ms +(\d+) ")


class LogLine(TypedDict):
    """A line of the log in JSON (log.py)."""

    level: str
    msg: str
    time: str


class Trace:
    """The log of a run, and the story that is told of it: one piece before the program runs, one after it has ended.

    title: what stands before the first step; show: writes lines; restore_log: makes the log what the command line asks
    for.
    """

    def __init__(
        self, plan: Plan, title: list[Line], width: int, show: Callable[[list[Line]], None],
        restore_log: Callable[[], None],
    ) -> None:  # fmt: skip
        self.title = title
        self.told = tell(plan)
        self.width = width
        self.show = show
        self.restore_log = restore_log
        self.steps: dict[int, Step] = {}  # {number of the last of its lines: step}
        number = 0
        for step in plan.steps():
            number += len(step.lines())
            if step.lines():
                self.steps[number] = step
        self.warnings = plan.warnings
        self.shown = 0
        self.fd = -1

    def run(self, request: CreateRequest, host: Host) -> int:
        """Run the container and tell its story; return the program's exit code. Raises RootlessError, OSError.

        If the set-up fails, the steps that were begun are told before the error is raised.
        """
        self.fd = os.memfd_create("trace", os.MFD_CLOEXEC)
        log.configure(path=f"/proc/self/fd/{self.fd}", json_format=True, debug=True)
        answers: dict[int, list[str]] = {}
        try:
            code = run(request, host, lambda: None, at_start=self._created)
            ended = next(number for number, step in self.steps.items() if isinstance(step, Execute))
            answers[ended] = [f"the program ended with exit code {code}"]
        finally:
            self.restore_log()
            lines = self._logged()
            os.close(self.fd)
            self._tell(lines, answers, to_the_end=bool(answers))
            for line in lines:
                if line["level"] == "warning" and line["msg"] not in self.warnings:
                    log.warn(line["msg"])
        return code

    def _created(self, created: Created) -> None:
        """Tell what is done when only the program is missing."""
        kernel = Kernel(created.container.pid)
        self._tell(self._logged(), {number: kernel.answers(step) for number, step in self.steps.items()})
        text = "The container is ready, and init waits. Now the program runs. What it writes follows."
        self.show([Line("step", ""), *wrapped("title", text, "", self.width), Line("step", "")])

    def _logged(self) -> list[LogLine]:
        with open(f"/proc/self/fd/{self.fd}", errors="surrogateescape") as file:
            return [json.loads(line) for line in file]

    def _tell(self, lines: list[LogLine], answers: dict[int, list[str]], *, to_the_end: bool = False) -> None:
        """Show the steps that were begun and not shown yet.

        to_the_end: show all, because --debug does not log the hooks that follow the program as steps.
        """
        begun = begun_steps(lines)
        count = self.shown
        while count < len(self.told) and (to_the_end or self.told[count].number in begun):
            count += 1
        times = durations(begun, set(self.steps))
        told = self.told[self.shown : count]
        extended = {each.number: [*answers.get(each.number, ()), *times.get(each.number, ())] for each in told}
        self.show([*([] if self.shown else self.title), *layout(told, extended, self.width)])
        self.shown = count


def begun_steps(lines: list[LogLine]) -> dict[int, float]:
    """Return {number of a step's line: milliseconds after the command's begin} of what --debug has logged."""
    steps = (_STEP.match(line["msg"]) for line in lines if line["level"] == "debug")
    return {int(each[2]): float(each[1]) for each in steps if each}


def durations(begun: dict[int, float], last: set[int]) -> dict[int, list[str]]:
    """Return {number: the time until the next step, in words}; the step that was begun last has none.

    last: the numbers of the last lines of the steps. All lines of a step are logged before it is executed.
    """
    order = sorted(begun, key=lambda number: (begun[number], number))
    return {
        number: [f"{begun[after] - begun[number]:.2f} ms until the next step"]
        for number, after in pairwise(order)
        if number in last
    }
