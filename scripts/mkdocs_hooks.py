"""Hooks of mkdocs: pages beside docs/ become pages of the site, and links from docs/ to the checkout lead to them.

The forge shows CONTRIBUTING.md and its like at the top of the checkout, so they stay there. A link to a file that is
not part of the site (a script, a README of contrib/) becomes the file's path in the checkout.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

CHECKOUT = Path(__file__).resolve().parents[1]
TOP_PAGES = {name: f"project/{name.lower()}" for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")}
PLACES = {page: name for name, page in TOP_PAGES.items()}
_LINK = re.compile(r"\[([^]\n]*)\]\(([^)\s]+)\)")


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages that lie at the top of the checkout."""
    for name, page in TOP_PAGES.items():
        files.append(File.generated(config, page, content=(CHECKOUT / name).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Return the page with its links as they are in the site."""
    return _LINK.sub(lambda link: _relink(link, page.file.src_uri), markdown)


def _relink(link: re.Match[str], page: str) -> str:
    """Return a link of a page, rewritten if it leaves docs/."""
    text, target = link.groups()
    path, hash_, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return link[0]
    here = posixpath.dirname(PLACES.get(page, f"docs/{page}"))
    in_checkout = posixpath.normpath(posixpath.join(here, path))
    if in_checkout in TOP_PAGES:
        in_site = TOP_PAGES[in_checkout]
    elif in_checkout.startswith("docs/"):
        in_site = in_checkout.removeprefix("docs/")
    elif (CHECKOUT / in_checkout).exists():
        return text if text.strip("`") == in_checkout else f"{text} (`{in_checkout}`)"
    else:
        return link[0]  # mkdocs says that it leads nowhere
    return f"[{text}]({posixpath.relpath(in_site, posixpath.dirname(page) or '.')}{hash_}{anchor})"
