"""Find the state root and the containers that a command line names."""

from __future__ import annotations

from rootless import log
from rootless.errors import RootlessError
from rootless.runtime import container
from rootless.runtime.state import default_root, ids, open_root
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.cli.options import Options
    from rootless.runtime.container import Container


def state_root(options: Options) -> str:
    """Return the absolute path of the directory that holds the containers' state directories."""
    if options.root:
        return os.path.abspath(options.root)
    from rootless.kernel.host import Host

    host = Host()
    return default_root(host.uid, host.uid == 0 and host.in_userns)


def enter_state_root(options: Options) -> None:
    """Check the state root before the command reads anything in it. Raises RootlessError.

    If the root belongs to another user, a process of root becomes that user here (runtime/owner.py). options.root then
    keeps the path, because the default root depends on the user. A umask must not take permissions from the owner,
    because this user could not read such files again.
    """
    os.umask(os.umask(0o077) & 0o077)
    root = state_root(options)
    fd = open_root(root)
    if fd >= 0:
        os.close(fd)
        options.root = root


def name_of(argument: str) -> str:
    """Return the ID that an argument means: the name of the bundle if it is a path (`./b`, `.`), else the argument."""
    if ("/" in argument or argument in (".", "..")) and os.path.isfile(f"{argument}/config.json"):
        return os.path.basename(os.path.abspath(argument))
    return argument


def load(options: Options, *, lock: bool = False) -> Container:
    """Return the container that the command line names; with `lock`, wait for its lock. Raises NoSuchContainer."""
    return container.load(state_root(options), name_of(options.container_id), lock=lock)


def each_named(options: Options, *commands: Callable[[str], None]) -> None:
    """Run each command for every ID of the command line. An error does not keep the others from being served.

    All errors but the last are logged, and that one is raised. Raises RootlessError.
    """
    failures = []
    names = [options.container_id, *options.others]
    for command in commands:
        for name in list(names):
            try:
                command(name)
            except RootlessError as error:
                failures.append(error)
                names.remove(name)
    for failure in failures[:-1]:
        log.error(failure.message())
    if failures:
        raise failures[-1]


def each_match(options: Options, command: Callable[[Options], int]) -> int:
    """Run the command for every container whose ID matches the regular expression in place of the ID (--regex)."""
    import re

    try:
        pattern = re.compile(options.container_id)
    except re.error as error:
        raise RootlessError(f"not a regular expression: {error}", options.container_id) from None
    options.regex = False
    for container_id in ids(state_root(options)):
        if pattern.search(container_id):
            options.container_id = container_id
            command(options)
    return 0
