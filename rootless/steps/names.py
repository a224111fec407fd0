"""Set the container's host name, domain name and sysctls."""

from __future__ import annotations

from rootless.errors import RootlessError
from rootless.kernel import syscalls as sc
from rootless.kernel.files import write_at_once
from rootless.startup import lean_os as os
from rootless.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.steps import Words
    from rootless.steps.context import Init


class SetHostname(Step):
    """Set the host name of the uts namespace: sethostname(2)."""

    __slots__ = ("name",)

    def __init__(self, pointer: str, name: str) -> None:
        super().__init__(pointer)
        self.name = name

    def words(self) -> Words:
        return "hostname", self.name

    def execute(self, init: Init) -> None:
        sc.sethostname(self.name)


class SetDomainname(Step):
    """Set the NIS domain name of the uts namespace: setdomainname(2)."""

    __slots__ = ("name",)

    def __init__(self, pointer: str, name: str) -> None:
        super().__init__(pointer)
        self.name = name

    def words(self) -> Words:
        return "domainname", self.name

    def execute(self, init: Init) -> None:
        sc.setdomainname(self.name)


class WriteSysctl(Step):
    """Write a sysctl of one of the container's own namespaces.

    name: the path below /proc/sys.
    """

    __slots__ = ("name", "value")

    def __init__(self, pointer: str, name: str, value: str) -> None:
        super().__init__(pointer)
        self.name = name
        self.value = value

    def words(self) -> Words:
        return "sysctl", self.name, self.value

    def execute(self, init: Init) -> None:
        resolve = sc.RESOLVE_BENEATH | sc.RESOLVE_NO_SYMLINKS
        try:
            fd = sc.openat2(init.prepared.proc_fd, f"sys/{self.name}", os.O_WRONLY, resolve=resolve)
            write_at_once(fd, self.value.encode())
            os.close(fd)
        except OSError as error:
            what = f"sysctl {self.name.replace('/', '.')}={self.value}"
            raise RootlessError.from_os(error, what, f"/proc/sys/{self.name}") from None
