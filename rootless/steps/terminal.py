"""Open the container's terminal, a pty of its own devpts, and bind it onto /dev/console."""

from __future__ import annotations

from rootless.kernel import syscalls as sc
from rootless.process import console
from rootless.steps import Step
from rootless.steps.places import attach_node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.steps import Words
    from rootless.steps.context import Init


class OpenTerminal(Step):
    """Open a pty, bind its slave onto /dev/console and send the master to the runtime.

    size: rows and columns, (0, 0) where config.json gives none.
    """

    __slots__ = ("size", "uid")

    def __init__(self, size: tuple[int, int], uid: int) -> None:
        super().__init__("/process/terminal")
        self.size = size
        self.uid = uid

    def words(self) -> Words:
        rows, columns = self.size
        return "terminal", *([f"{rows}x{columns}"] if rows or columns else [])

    def execute(self, init: Init) -> None:
        master, slave = console.open_pty(init.root.fd, self.size)
        tree = sc.open_tree(slave, b"", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE)
        attach_node(init.root, tree, "/dev/console")
        console.offer(init.sync, master, slave, self.uid)
        init.console = slave
