"""Copy an object deeply as plain data, to see whether somebody has written to it meanwhile."""

from __future__ import annotations

from typing import Any

_PLAIN = (type(None), bool, int, float, str, bytes, type)


def snapshot(value: Any, above: tuple[int, ...] = ()) -> Any:
    """Return (type's name, content): of an object all its slots and attributes, of a function only which one it is."""
    kind = type(value).__name__
    if isinstance(value, _PLAIN):
        return kind, value
    if callable(value) or id(value) in above:
        return kind, id(value)
    above = (*above, id(value))
    if isinstance(value, dict):
        return kind, [(snapshot(key, above), snapshot(item, above)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return kind, [snapshot(item, above) for item in value]
    if isinstance(value, (set, frozenset)):
        return kind, sorted(repr(snapshot(item, above)) for item in value)
    names = {name for base in type(value).__mro__ for name in getattr(base, "__slots__", ())}
    names |= getattr(value, "__dict__", {}).keys()
    return kind, [(name, snapshot(getattr(value, name), above)) for name in sorted(names) if hasattr(value, name)]
