"""Run hooks in the runtime, and treat their failures as runtime.md#lifecycle says."""

from __future__ import annotations

from rootless import log
from rootless.errors import RootlessError
from rootless.process.hooks import HookContext
from rootless.steps import execute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.process.report import Report
    from rootless.steps import Step, Tell
    from rootless.steps.hooks import RunHook


def run_hooks(hooks: dict[str, list[RunHook]], moment: str, context: HookContext, tell: Tell | None = None) -> None:
    """Run the hooks of a moment in their order. Raises RootlessError at the first that fails."""
    execute(hooks.get(moment, ()), context, tell or tell_step)


def tell_step(step: Step) -> None:
    """Log a hook with --debug, without a number, because there is no plan here that numbers it."""
    if log.debugging():
        for line in step.lines():
            log.debug(log.since_start(line))


def failed_in_hook(error: BaseException) -> bool:
    """Return whether an error comes from a hook: then the container must be destroyed (runtime.md#lifecycle)."""
    return isinstance(error, RootlessError) and error.where.startswith("/hooks/")


def run_poststop(hooks: list[RunHook], report: Report) -> None:
    """Run the poststop hooks, after the container is gone. A failure is only a warning, and the next hook runs."""
    for hook in hooks:
        try:
            run_hooks({hook.moment: [hook]}, hook.moment, HookContext(report, "stopped"))
        except RootlessError as error:
            log.warn(str(error))
