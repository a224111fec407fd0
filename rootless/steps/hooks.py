"""Run hooks as steps (config.md#posix-platform-hooks). The context has the container's state."""

from __future__ import annotations

from rootless.process import hooks
from rootless.process.hooks import Hook
from rootless.steps import INIT, RUNTIME, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.process.hooks import HookContext
    from rootless.steps import Words

MOMENTS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_IN_THE_CONTAINER = ("createContainer", "startContainer")


class RunHook(Step):
    """Run one program at its moment, with the container's state on its standard input."""

    __slots__ = ("hook", "moment")

    def __init__(self, moment: str, hook: Hook) -> None:
        super().__init__(hook.pointer)
        self.moment = moment
        self.hook = hook

    @property
    def where(self) -> str:  # type: ignore[override]
        """The process that runs it: init for hooks in the container's namespaces, the runtime for the others."""
        return INIT if self.moment in _IN_THE_CONTAINER else RUNTIME

    def limited(self, seconds: int) -> RunHook:
        """Return the same hook, with a time limit of that many seconds (0 for none) if it has none of its own."""
        hook = self.hook
        if hook.timeout or not seconds:
            return self
        return RunHook(
            self.moment, Hook(hook.pointer, hook.path, hook.args, hook.env, seconds, hook.stdout, hook.stderr)
        )

    def words(self) -> Words:
        hook = self.hook
        names = ",".join(entry.partition("=")[0] for entry in hook.env or ())
        options = [f"env={names}"] * bool(names) + [f"timeout={hook.timeout}"] * bool(hook.timeout)
        return "hook", self.moment, hook.path, *hook.args[1:], *options

    def execute(self, context: HookContext) -> None:
        hooks.run_hook(self.hook, self.moment, context)
