"""Check names of images, `[HOST[:PORT]/]PATH[:TAG]`, by docker's and podman's grammar (distribution/reference)."""

from __future__ import annotations

import re

from oci.errors import OciError, printable

_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_NAME = re.compile(
    rf"(?P<name>(?:{_HOST}(?:\.{_HOST})*(?::[0-9]+)?/)?{_PART}(?:/{_PART})*)(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
)
_LONGEST = 255  # characters without the tag


def is_name(text: str) -> bool:
    """Return whether the text is a valid name of an image."""
    match = _NAME.fullmatch(text)
    return match is not None and len(match["name"]) <= _LONGEST


def check_name(text: str) -> None:
    """Refuse a name that neither a registry nor `docker load` would accept. Raises OciError."""
    if not is_name(text):
        what = f"{printable(text)!r} is not an image's name"
        hint = "lower case, such as app:1 or registry.example.com/team/app:1"
        raise OciError(what, "--tag", hint=hint)


def name_of(text: str) -> str:
    """Return a valid name made of any text, such as a directory's name. A dash replaces what a name cannot hold."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST].rstrip("-") or "image"
