"""Write rootless as one file for machines where nothing can be installed: a zip archive that Python runs (zipapp).

python scripts/zipapp.py [FILE]     # default: dist/rootless.pyz

It holds the packages rootless and oci and, from this interpreter's environment, click, attrs and jeepney, which are
plain Python. Nothing is downloaded. The same sources give the same bytes: the times come from SOURCE_DATE_EPOCH or are
1980, the first year that a zip archive knows.
"""

from __future__ import annotations

import os
import sys
import time
import zipfile
from importlib import metadata
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
DEPENDENCIES = ("click", "attrs", "jeepney")
# -I: no module of the working directory or of PYTHONPATH is imported; -S: no time for site-packages.
SHEBANG = b"#!/usr/bin/env -S python3 -IS\n"
MAIN = b"""\
import sys

if sys.version_info < (3, 11):
    sys.exit("rootless: Python 3.11 or newer is needed, and this is %d.%d" % sys.version_info[:2])
from rootless.__main__ import launcher

launcher()
"""


def contents() -> dict[str, bytes]:
    """Return each file of the archive by its name. Raises SystemExit if a dependency is missing here."""
    members = {"__main__.py": MAIN, "LICENSE": (CHECKOUT / "LICENSE").read_bytes()}
    for package in ("rootless", "oci"):
        for path in (CHECKOUT / package).rglob("*.py"):
            members[str(path.relative_to(CHECKOUT))] = path.read_bytes()
    for name in DEPENDENCIES:
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            raise SystemExit(f"zipapp: the package {name} is not installed for {sys.executable}") from None
        for file in files:
            licence = ".dist-info" in file.parts[0] and "LICEN" in file.name.upper()
            source = file.suffix == ".py" and "tests" not in file.parts
            if source or licence:  # not the byte code, which is for one version of Python
                members[str(file)] = Path(str(file.locate())).read_bytes()
    return members


def write(target: Path) -> None:
    """Write the archive, executable, in place of what was there."""
    moment = max(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), 315532800)
    temporary = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(SHEBANG)
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in sorted(contents().items()):
                    entry = zipfile.ZipInfo(name, time.gmtime(moment)[:6])
                    entry.external_attr = 0o644 << 16
                    archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
        temporary.chmod(0o755)
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    destination = Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKOUT / "dist/rootless.pyz"
    destination.parent.mkdir(exist_ok=True)
    write(destination)
    print(destination)
