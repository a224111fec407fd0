"""`state`: what runtime.md#state says of a container, as JSON."""

from __future__ import annotations

from rootless.cli.containers import load
from rootless.kernel.files import write_all
from rootless.startup import lean_os as os
from rootless.startup.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """`rootless state ID`."""
    container = load(options)
    found = container.report()
    found["owner"] = owner_name(os.fstat(container.directory.fd).st_uid)
    write_all(1, dumps(found, 2).encode() + b"\n")
    return 0


def owner_name(uid: int) -> str:
    """The user's name, "" for one without."""
    from pwd import getpwuid

    try:
        return getpwuid(uid).pw_name
    except KeyError:
        return ""
