"""Define what a check answers: one line of `rootless doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless.kernel.hints import Hint, hint_of

if TYPE_CHECKING:
    from typing import TypedDict

    from rootless.errors import RootlessError

    class LineDocument(TypedDict):
        """Declare the keys of a line in `doctor --json`; they are stable."""

        name: str
        status: str
        detail: str
        cost: str
        hint: str
        command: str
        who: str


OK, LIMITED, MISSING = "ok", "limited", "missing"


class Line:
    """Say how one thing stands on this machine.

    name: a stable name for programs; status: OK, LIMITED or MISSING; detail: what was found; cost: what does not work
    because of it, "" for nothing; hint: the words that the error message has, too; command: what mends it, "" for
    nothing; who: who has to type the command.
    """

    __slots__ = ("command", "cost", "detail", "hint", "name", "status", "who")

    def __init__(self, name: str, status: str, detail: str, cost: str = "", hint: Hint | None = None) -> None:
        self.name = name
        self.status = status
        self.detail = detail
        self.cost = cost
        self.hint = hint.text if hint else ""
        self.command = hint.command if hint else ""
        self.who = hint.who if hint and hint.command else ""

    def document(self) -> LineDocument:
        """Return the line for `--json`."""
        return {
            "name": self.name,
            "status": self.status,
            "detail": self.detail,
            "cost": self.cost,
            "hint": self.hint,
            "command": self.command,
            "who": self.who,
        }


def failed(name: str, error: RootlessError, cost: str) -> Line:
    """Return the line for something that an error has ended, with the error's hint as its own."""
    what, _, mend = error.message().partition("; hint: ")
    return Line(name, MISSING, what, cost, hint_of(mend) if mend else None)
