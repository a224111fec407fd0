"""`run` until its first call, which spawns the launcher before it imports the rest (api/spawn.py)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run(
    *popenargs: "Any",
    input: "Any" = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **kwargs: "Any",
) -> "Any":
    """Run a program in a container, wait for its end, and return a CompletedProcess: subprocess.run's arguments.

    Raises subprocess's own TimeoutExpired and CalledProcessError, with the output so far, and RootlessError.
    """
    import sys

    if "rootless.api.client" not in sys.modules:
        from rootless.api import spawn

        spawn.begin()
    from rootless.api import popen

    package = vars(sys.modules["rootless"])
    if package.get("run") is run:
        package["run"] = popen.run
    kwargs.update(input=input, capture_output=capture_output, timeout=timeout, check=check)
    return popen.run(*popenargs, **kwargs)
