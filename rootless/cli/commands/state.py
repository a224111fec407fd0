"""`state`: print the state of a container as JSON (runtime.md#state)."""

from __future__ import annotations

from rootless.cli.containers import load
from rootless.kernel.files import write_out
from rootless.startup import lean_os as os
from rootless.startup.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless state ID`."""
    container = load(options)
    report = container.report()
    report["owner"] = owner_name(os.fstat(container.directory.fd).st_uid)
    write_out(dumps(report, 2).encode() + b"\n")
    return 0


def owner_name(uid: int) -> str:
    """Return the name of a user, "" if the user database has none for this uid."""
    from pwd import getpwuid

    try:
        return getpwuid(uid).pw_name
    except KeyError:
        return ""
