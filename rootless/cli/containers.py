"""From the command line to containers: the state root that it means, and the containers that its words name."""

from __future__ import annotations

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
    """Return the root of all states for this command line."""
    if options.root:
        return os.path.abspath(options.root)
    from rootless.kernel.host import Host

    host = Host()
    return default_root(host.uid, host.uid == 0 and host.in_userns)


def enter_state_root(options: Options) -> None:
    """Judge the state root before a command reads anything: root goes on as the user whose states they are.

    The command finds the same root from now on, whoever this process is. A umask that takes permissions from the owner
    would make files that this user could not read again: that part of it is dropped. Raises RootlessError.
    """
    os.umask(os.umask(0o077) & 0o077)
    root = state_root(options)
    fd = open_root(root)
    if fd >= 0:
        os.close(fd)
        options.root = root


def name_of(argument: str) -> str:
    """Return the id that an argument means: itself, or the name of the bundle to which a path leads (`./b`, `.`)."""
    if ("/" in argument or argument in (".", "..")) and os.path.isfile(f"{argument}/config.json"):
        return os.path.basename(os.path.abspath(argument))
    return argument


def load(options: Options, *, lock: bool = False) -> Container:
    """Return the container that the command line names. Raises NoSuchContainer."""
    return container.load(state_root(options), name_of(options.container_id), lock=lock)


def each_match(options: Options, command: Callable[[Options], int]) -> int:
    """Run the command on every id that the regular expression in place of the id matches (--regex)."""
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
