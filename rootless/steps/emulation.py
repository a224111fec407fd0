"""Execute the steps of root emulation: its filter, and a configuration for apt (rootless/emulation)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless.emulation.filter import emulation_profile
from rootless.kernel import syscalls as sc
from rootless.kernel.files import write_all
from rootless.steps import Step

if TYPE_CHECKING:
    from rootless.process.seccomp_names import Profile
    from rootless.steps import Words
    from rootless.steps.context import Ending, Init

_APT = b'APT::Sandbox::User "root";\n'  # apt checks that it has changed its user, and `errno` cannot show that


class EmulateRoot(Step):
    """Load the filter of root emulation: seccomp(2).

    mode: `errno` or `notify`; ids: the program's (uid, gid); is_asked: whether the caller has asked for it.
    """

    __slots__ = ("ids", "is_asked", "mode", "profile")

    def __init__(
        self, pointer: str, mode: str, kernel: tuple[int, int], ids: tuple[int, int], *, is_asked: bool
    ) -> None:
        super().__init__(pointer)
        self.mode = mode
        self.ids = ids
        self.is_asked = is_asked
        self.profile: Profile = emulation_profile(mode, sc.MACHINE, kernel=kernel)

    def words(self) -> Words:
        return "root-emulation", self.mode

    def execute(self, context: Ending) -> None:
        if context.emulation:
            context.emulation(context.verdict)


class ConfigureApt(Step):
    """Make a configuration file for apt on the tmpfs of /dev, so that nothing is written into the root."""

    __slots__ = ("path",)

    def __init__(self, pointer: str, path: str) -> None:
        super().__init__(pointer)
        self.path = path

    def words(self) -> Words:
        return "apt-configuration", self.path

    def execute(self, context: Init) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        fd = sc.open_in_root(context.root.fd, self.path, flags, mode=0o644)
        try:
            write_all(fd, _APT)
        finally:
            os.close(fd)
