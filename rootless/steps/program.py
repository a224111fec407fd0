"""Execute the last steps: environment, seccomp filter, execve."""

from __future__ import annotations

from rootless import log
from rootless.errors import RootlessError, errno_text
from rootless.kernel import channel
from rootless.process import program
from rootless.startup import lean_os as os
from rootless.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

    from rootless.process.seccomp_names import Profile
    from rootless.steps import Words
    from rootless.steps.context import Ending

    LinesOf = Callable[[Step], list[str]]


class SetEnvironment(Step):
    """Give the program its environment."""

    __slots__ = ("env",)

    def __init__(self, pointer: str, env: list[str]) -> None:
        super().__init__(pointer)
        self.env = env

    def words(self) -> Words:
        return "env", *(entry.partition("=")[0] for entry in self.env)

    def execute(self, context: Ending) -> None:
        """Turn NAME=VALUE entries into what execve takes. They include HOME from the container's passwd."""
        pairs = (os.fsencode(entry).split(b"=", 1) for entry in context.env)
        context.environment = {name: value for name, value in pairs}


class LoadFilter(Step):
    """Load the seccomp filter: seccomp(2)."""

    __slots__ = ("profile",)

    def __init__(self, profile: Profile) -> None:
        super().__init__("/linux/seccomp")
        self.profile = profile

    def words(self) -> Words:
        from _blake2 import blake2b

        from rootless.process.seccomp_names import ACTIONS, FLAGS

        profile = self.profile
        names = {value: name for name, value in ACTIONS.items()}
        action, number = names[profile["default"] & 0xFFFF0000], profile["default"] & 0xFFFF
        digest = blake2b(repr(profile["rules"] + profile["architectures"]).encode("utf-8", "replace"), digest_size=4)
        words = [f"{action}({number})" if number else action, f"rules={len(profile['rules'])}:{digest.hexdigest()}"]
        words += [name for name, flag in FLAGS.items() if profile["flags"] & flag]
        if profile["notify"]:
            words += [f"listener={profile['listener_path']}", f"metadata={profile['metadata']}"]
        return "seccomp", *words

    def execute(self, context: Ending) -> None:
        assert context.filter is not None
        context.filter(context.verdict)


class Execute(Step):
    """Run the program: execve(2)."""

    __slots__ = ("args",)

    def __init__(self, args: list[str]) -> None:
        super().__init__("/process/args")
        self.args = args

    def words(self) -> Words:
        return "execve", *self.args

    def execute(self, context: Ending) -> None:
        os.execve(context.path, [os.fsencode(arg) for arg in self.args], context.environment)


def run_program(steps: list[Step], ending: Ending, tell: StepSender | None) -> None:
    """Execute the last steps: send byte `E`, load the filter, call execve. It does not return.

    tell: logs the steps before the first of them, because the filter may deny sending. Nothing comes between the filter
    and execve. Raises RootlessError.
    """
    passed = program.passed_on(ending.preserve_fds)  # not each of them: pass_fds of a call from Python have gaps
    for step in steps if tell else ():
        tell(step)  # type: ignore[misc]
    environment, *rest = steps
    environment.execute(ending)
    try:
        program.close_all_but([ending.verdict.fileno(), *passed])
        program.restore_signals()
        if ending.options:
            ending.options.apply()
        channel.send(ending.verdict, channel.EXECUTING)
        for step in rest:
            step.execute(ending)
    except OSError as error:
        if error.filename is None:  # another call than execve has failed
            raise
        hint = program.exec_hint(ending.path, error, labelled=ending.labelled)
        if ending.options:  # a caller in Python gets the number
            raise RootlessError(f"exec {ending.path}", "/process/args/0", error.errno or 0, hint) from None
        reason = errno_text(error.errno or 0).partition(" (")[2].rstrip(")")
        raise RootlessError(f"exec {ending.path}: {reason}", "/process/args/0", hint=hint) from None


class StepSender:
    """Send the lines of a step over the verdict socket to `start` or `exec`, which logs them."""

    def __init__(self, verdict: socket, lines: LinesOf) -> None:
        self.verdict = verdict
        self.lines = lines

    def __call__(self, step: Step) -> None:
        for line in self.lines(step):
            self.say(log.since_start(line))

    def say(self, line: str) -> None:
        """Send a line that stands in no plan."""
        channel.send(self.verdict, channel.STEP, line.encode("utf-8", "surrogateescape"))
