"""Word an error for a caller from Python: it names the keyword where the command line's error names its flag."""

from __future__ import annotations

import re

from rootless.api.settings import NAMES
from rootless.errors import RootlessError, advice
from rootless.plan.settings import TABLE

_KEYWORDS = {flag: keyword for keyword, flag, _ in TABLE if keyword in NAMES} | {"ephemeral": "ephemeral"}
_LISTS = ("cap_add", "cap_drop", "publish", "tmpfs", "ulimits", "volumes")
_PLACE = re.compile(r"--([a-z-]+)(?:[ =](.*))?")
_FLAG = re.compile(r"--([a-z][a-z-]*[a-z])(?:[ =]([\w./:=-]+))?")


def name_keywords(error: RootlessError) -> RootlessError:
    """Change the error's place and hint, and return it: `--memory 64q` becomes `memory='64q'`."""
    if (place := _PLACE.fullmatch(error.where)) and place[1] in _KEYWORDS:
        error.where = _assignment(_KEYWORDS[place[1]], place[2] or "")
    hint = error.hint
    if "--ephemeral" in hint:  # its other form, with the changes on disk, has no keyword
        error.hint = advice("no-memory-root-from-python")
    elif "--" in hint:
        error.hint = _FLAG.sub(_reword, hint)
    return error


def _assignment(keyword: str, value: str) -> str:
    if keyword in ("ephemeral", "no_host_loopback"):
        return f"{keyword}=True"
    return f"{keyword}={[value]!r}" if keyword in _LISTS else f"{keyword}={value!r}"


def _reword(found: re.Match[str]) -> str:
    flag, value = found.groups()
    if flag not in _KEYWORDS:
        return found[0]
    if not value or value.isupper():  # `--memory SIZE`
        return f"{_KEYWORDS[flag]}={value or ''}"
    return _assignment(_KEYWORDS[flag], value)
