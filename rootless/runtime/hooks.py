"""Hooks that the runtime runs, and what a failure of one means (runtime.md#lifecycle)."""

from __future__ import annotations

from rootless import log
from rootless.errors import RootlessError
from rootless.process.hooks import HookContext
from rootless.steps import execute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.steps import Step, Tell
    from rootless.steps.hooks import RunHook


def run_hooks(hooks: dict[str, list[RunHook]], moment: str, context: HookContext, tell: Tell | None = None) -> None:
    """Run the hooks of a moment in their order. The first that fails raises RootlessError."""
    execute(hooks.get(moment, ()), context, tell or tell_step)


def tell_step(step: Step) -> None:
    """Log a hook that is run, where there is no plan whose numbers it could have."""
    if log.debugging():
        for line in step.lines():
            log.debug(log.since_start(line))


def failed_in_hook(error: BaseException) -> bool:
    """Return whether it is a hook that failed: then the container goes (runtime.md#lifecycle)."""
    return isinstance(error, RootlessError) and error.where.startswith("/hooks/")


def run_poststop(hooks: list[RunHook], report: dict[str, Any]) -> None:
    """Run the last hooks, when the container is gone. One that fails is warned of, and the rest goes on."""
    for hook in hooks:
        try:
            run_hooks({hook.moment: [hook]}, hook.moment, HookContext(report, "stopped"))
        except RootlessError as error:
            log.warn(str(error))
