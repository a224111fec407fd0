"""`run` until its first call, which spawns the launcher before it imports the rest (api/spawn.py)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _announce(keywords: "dict[str, Any]") -> None:
    """Tell the launcher which container it will be asked for, so that it has the plan when the request comes.

    The launcher then does nothing else until the program runs (api/first_container.py), so this is for a process whose
    one thread waits for it. `popen.run` reports what is wrong with the keywords.
    """
    import _thread

    if _thread._count():  # beside the main thread
        return
    from rootless.api import settings, spawn

    user, group, groups = (keywords.get(name) for name in ("user", "group", "extra_groups"))
    about = {name: keywords[name] for name in settings.NAMES.intersection(keywords)}
    if about.get("seccomp") not in (None, "default", "unconfined"):  # a file that may be read only once, such as a pipe
        return
    if any(hasattr(value, "__next__") for value in (groups, *about.values())):  # an iterator can be read only once
        return
    try:
        spawn.announce(settings.Packed(about, user, group, groups).data)  # type: ignore[arg-type]
    except Exception:
        pass


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
        _announce(kwargs)
    from rootless.api import popen

    package = vars(sys.modules["rootless"])
    if package.get("run") is run:
        package["run"] = popen.run
    kwargs.update(input=input, capture_output=capture_output, timeout=timeout, check=check)
    return popen.run(*popenargs, **kwargs)
