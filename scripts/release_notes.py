"""Print the notes of a release: its section of CHANGELOG.md, with links that work outside of the checkout.

python scripts/release_notes.py [VERSION]     # default: the version of this checkout
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def notes(version: str, changelog: str, source: str) -> str:
    """Return the section of a version without its heading. Raises SystemExit if there is none, or if it is empty.

    source: the address to which the paths of links are appended.
    """
    for section in re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        if heading.split()[:1] == [version]:
            if not body.strip():
                raise SystemExit(f"release_notes: CHANGELOG.md says nothing about {version}")
            return re.sub(r"\]\((?![a-z]+:|#)", f"]({source}", body).strip() + "\n"
    raise SystemExit(f"release_notes: CHANGELOG.md has no section {version}")


if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT))
    from rootless import __version__

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = sys.argv[1] if len(sys.argv) > 1 else __version__
    print(notes(wanted, (CHECKOUT / "CHANGELOG.md").read_text(), project["urls"]["Source"]), end="")
