"""rootless: a daemonless OCI runtime that needs no root.

In Python: `rootless.run`, `Popen` and the other names are subprocess's, in a container (docs/guide/python.md). Each
name is loaded when it is first used, because commands and small programs need none of them.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.api.aio import async_popen as async_popen
    from rootless.api.aio import async_run as async_run
    from rootless.api.popen import CompletedProcess as CompletedProcess
    from rootless.api.popen import Popen as Popen
    from rootless.api.popen import run as run
    from rootless.api.sandbox import Sandbox as Sandbox
    from rootless.api.sandbox import SandboxResult as SandboxResult
    from rootless.api.tasks import TaskDied as TaskDied
    from rootless.api.tasks import contained as contained
    from rootless.errors import LauncherError as LauncherError
    from rootless.errors import NoSuchContainer as NoSuchContainer
    from rootless.errors import ProgramNotExecutable as ProgramNotExecutable
    from rootless.errors import ProgramNotFound as ProgramNotFound
    from rootless.errors import RootlessError as RootlessError

_HOMES = {
    "CompletedProcess": "rootless.api.popen",
    "LauncherError": "rootless.errors",
    "NoSuchContainer": "rootless.errors",
    "Popen": "rootless.api.popen",
    "ProgramNotExecutable": "rootless.errors",
    "ProgramNotFound": "rootless.errors",
    "RootlessError": "rootless.errors",
    "Sandbox": "rootless.api.sandbox",
    "SandboxResult": "rootless.api.sandbox",
    "TaskDied": "rootless.api.tasks",
    "async_popen": "rootless.api.aio",
    "async_run": "rootless.api.aio",
    "contained": "rootless.api.tasks",
    "run": "rootless.api.first",
}
__all__ = list(_HOMES)


if not TYPE_CHECKING:  # otherwise every name would be an attribute for type checkers, also a mistyped one

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'rootless' has no attribute {name!r}")
        import sys

        __import__(home)  # the package importlib takes a third of a millisecond to load
        value: object = getattr(sys.modules[home], name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
