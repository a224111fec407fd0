"""Read and write JSON without the `json` package, because that imports `re`, which takes milliseconds.

`loads` uses the C scanner of the json package. If the scanner refuses a text, json.loads parses it again and words the
error. `dumps` writes plain data; the members of an object keep their order.
"""

from __future__ import annotations

from _json import encode_basestring_ascii, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BLANKS = " \t\n\r"


class _Context:
    """Hold the attributes that _json.make_scanner reads from a json.JSONDecoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}  # noqa: RUF012 (the scanner clears it)

    @staticmethod
    def parse_constant(name: str) -> Any:
        raise ValueError(f"{name} is not a JSON value")


_scan = make_scanner(_Context)  # type: ignore[arg-type]


def loads(data: bytes) -> Any:
    """Parse a JSON text in UTF-8. Raises ValueError (with line and column) for anything else."""
    text = data.decode("utf-8")
    start = len(text) - len(text.lstrip(_BLANKS))
    try:
        value, end = _scan(text, start)
    except (StopIteration, ValueError, RecursionError, SystemError):  # SystemError: it looks for json.JSONDecodeError
        return _loads_slowly(text)
    if text[end:].strip(_BLANKS):
        return _loads_slowly(text)
    return value


def _loads_slowly(text: str) -> Any:
    import json

    try:
        return json.loads(text, parse_constant=_Context.parse_constant)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def dumps(value: Any, indent: int = 0, _level: int = 1) -> str:
    """Return plain data (dict, list, str, int, float, bool, None) as JSON text.

    indent: blanks for each level, 0 for one line.
    """
    kind = type(value)
    if kind is str:
        return str(encode_basestring_ascii(value))
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is float:
        return repr(value).replace("inf", "1e999")  # JSON has no infinity; a reader turns 1e999 into it
    if kind is dict:
        parts = [f"{encode_basestring_ascii(k)}:{' ' if indent else ''}{dumps(v, indent, _level + 1)}"
                 for k, v in value.items()]  # fmt: skip
        opening, closing = "{", "}"
    else:
        parts = [dumps(v, indent, _level + 1) for v in value]
        opening, closing = "[", "]"
    if not parts or not indent:
        return opening + ",".join(parts) + closing
    pad = "\n" + " " * (indent * _level)
    return opening + pad + ("," + pad).join(parts) + pad[:-indent] + closing
