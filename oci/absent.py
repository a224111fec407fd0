"""Say what to do about an archive that is not there: a near name, or the command of another tool that makes it."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable

from oci.errors import printable
from oci.reference import is_name

# The transports of skopeo (containers-transports(5)), and those of other tools that users bring along.
_TRANSPORT = re.compile(
    r"(docker|docker-daemon|containers-storage|docker-archive|oci-archive|oci|dir|library|shub|oras|https?)"
    r"(://|:)(.+)"
)


def explain_absent(source: str) -> str:
    """Return the hint for an archive that does not exist, "" if nothing is known. source: what the user has typed."""
    match = _TRANSPORT.fullmatch(source)
    if match:
        return _by_transport(match[1], match[3], source)
    near = near_name(source)
    if near:
        return f"did you mean {printable(near)}?"
    name = source if "/" in source else source.removesuffix(".tar")  # busybox.tar is where skopeo's copy would be
    if is_name(name) and not name.endswith((".tar", ".tgz", ".gz", ".zst", ".xz")):
        return _pull(f"docker://{name}", name)
    return ""


def near_name(path: str, fits: Callable[[str], bool] = os.path.exists) -> str:
    """Return the path beside this one whose name is nearly the same, or the same with a suffix; "" for none."""
    parent, name = os.path.split(path.rstrip("/"))
    try:
        names = [each for each in sorted(os.listdir(parent or ".")) if fits(os.path.join(parent, each))]
    except OSError:
        return ""
    longer = [each for each in names if name and each.partition(".")[0] == name.partition(":")[0]]
    near = longer or difflib.get_close_matches(name, names, 1, 0.6 if len(name) <= 4 else 0.7)
    if not near:
        return ""
    path_near = os.path.join(parent, near[0])
    return path_near if "/" in path_near else f"./{path_near}"


def _by_transport(kind: str, rest: str, source: str) -> str:
    shown = printable(rest)
    if kind == "docker":
        return _pull(source, rest)
    if kind in ("docker-daemon", "containers-storage"):
        tool = "docker" if kind == "docker-daemon" else "podman"
        return f"nothing is asked of other programs: {tool} save -o {_file(rest)} {shown}"
    if kind in ("http", "https"):
        return f"nothing is downloaded: curl -LO {printable(source)}"
    if kind in ("library", "shub", "oras"):
        return "nothing is pulled, and only docker's and OCI's image archives are read"
    return f"the path alone is enough: {printable(rest.partition(':')[0])}"


def _pull(source: str, name: str) -> str:
    return f"nothing is pulled: skopeo copy {printable(source)} docker-archive:{_file(name)}:{_short(name)}"


def _short(name: str) -> str:
    return printable(name.rstrip("/").rpartition("/")[2])


def _file(name: str) -> str:
    return f"{_short(name).partition('@')[0].partition(':')[0]}.tar"
