"""Compile annotations org.systemd.property.NAME into properties of the scope. Pure.

The value is GVariant text as systemd's tools print it: true, 5, uint64 5, 'text', ['a', 'b']. The value of a name that
ends in Sec is in seconds; systemd's property ends in USec.
"""

from __future__ import annotations

from rootless.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node

    Property = list[object]  # [name, D-Bus signature, value]

PREFIX = "org.systemd.property."
_INTEGERS = {"byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t"}


def compile_properties(annotations: Node) -> list[Property]:
    """Return the properties in the annotations' order. Raises SpecError for a value that is not such GVariant text."""
    properties: list[Property] = []
    for key, node in annotations.members():
        if not key.startswith(PREFIX):
            continue
        name = key.removeprefix(PREFIX)
        if not (name.isascii() and name.isalnum() and name[:1].isupper()):
            raise node.error(f"{printable(name)} is not the name of a systemd property")
        signature, value = _variant(node)
        if name.endswith("Sec") and not name.endswith("USec") and isinstance(value, int | float):
            name, signature, value = f"{name.removesuffix('Sec')}USec", "t", int(value * 1000000)
        properties.append([name, signature, value])
    return properties


def _variant(node: Node) -> tuple[str, object]:
    text = node.required().string().strip()
    if text in ("true", "false"):
        return "b", text == "true"
    kind, _, rest = text.partition(" ")
    if kind in _INTEGERS:
        return _INTEGERS[kind], _integer(node, rest)
    from ast import literal_eval

    try:
        value = literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if isinstance(value, str):
        return "s", value
    if type(value) is int:
        return "i", value
    if isinstance(value, float):
        return "d", value
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return "as", value
    raise node.wrong("GVariant text such as true, 5, uint64 5, 'text' or ['a', 'b']")


def _integer(node: Node, text: str) -> int:
    try:
        return int(text.strip(), 0)
    except ValueError:
        raise node.wrong("a number after the type's name") from None
