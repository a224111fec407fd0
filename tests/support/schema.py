"""Read the shape of config.json, tests/data/config-schema.json, into kinds from which values and violations are made.

The file is JSON Schema, written by this project after runtime-spec 1.3; tests/unit/test_schema.py validates with it and
compares it with the specification's own files. A kind is one of: bool, str; a range of whole numbers; a tuple of the
allowed strings; a compiled pattern; [kind] for an array; {"*": kind} for an object of free names; {name: kind} for an
object, where "name!" is required and names beyond these are extensions.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from tests.support.checkout import CHECKOUT

Kind = Any
Place = tuple[Any, ...]

SCHEMA: dict[str, Any] = json.loads((CHECKOUT / "tests/data/config-schema.json").read_text())
_ENDLESS = 2**80  # for what the spec sets no limit to


def kind_of(rule: dict[str, Any]) -> Kind:
    """Return the kind of a rule of the file. Raise KeyError if it is in a form that the file does not use."""
    if "$ref" in rule:
        return kind_of(SCHEMA["$defs"][rule["$ref"].removeprefix("#/$defs/")])
    if "enum" in rule:
        return tuple(rule["enum"])
    if rule["type"] == "string":
        return re.compile(rule["pattern"].removeprefix("^").removesuffix("$")) if "pattern" in rule else str
    if rule["type"] == "integer":
        return range(rule.get("minimum", -_ENDLESS), rule.get("maximum", _ENDLESS - 1) + 1)
    if rule["type"] == "array":
        return [kind_of(rule["items"])]
    if "additionalProperties" in rule:
        return {"*": kind_of(rule["additionalProperties"])}
    if "properties" in rule:
        required = rule.get("required", ())
        return {f"{name}!" if name in required else name: kind_of(sub) for name, sub in rule["properties"].items()}
    return {"boolean": bool}[rule["type"]]


CONFIG: dict[str, Kind] = kind_of(SCHEMA)

# Where rootless takes more, on purpose: the place ("*" is any element) and what is taken there.
DIFFERENCES: dict[Place, Kind] = {
    # Go's encoders write the file type into the mode too; it is masked away.
    ("linux", "devices", "*", "fileMode"): range(2**16),
    # A limit of 0 or less asks for nothing, so it is accepted.
    ("linux", "resources", "pids"): {"limit": range(-(2**63), 2**63)},
    # runc takes the recursive forms, and podman writes them.
    ("linux", "rootfsPropagation"): (
        "private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable"
    ),
}  # fmt: skip


def relaxed(kind: Kind, at: Place = ()) -> Kind:
    """Return a kind of value as rootless accepts it: the schema's, with what DIFFERENCES says of this place."""
    if at in DIFFERENCES:
        return DIFFERENCES[at]
    if isinstance(kind, list):
        return [relaxed(kind[0], (*at, "*"))]
    if isinstance(kind, dict):
        return {key: relaxed(below, (*at, key.rstrip("!"))) for key, below in kind.items()}
    return kind


def accepts(kind: Kind, value: Any) -> bool:
    """Return whether a JSON value is of the kind."""
    if kind in (bool, str):
        return type(value) is kind
    if isinstance(kind, range):
        return type(value) is int and value in kind
    if isinstance(kind, tuple):
        return value in kind
    if isinstance(kind, re.Pattern):
        return isinstance(value, str) and kind.fullmatch(value) is not None
    if isinstance(kind, list):
        return isinstance(value, list) and all(accepts(kind[0], item) for item in value)
    if not isinstance(value, dict) or any(key.endswith("!") and key[:-1] not in value for key in kind):
        return False
    return all(accepts(below, value[key]) for key, below in members(kind, value))


def members(kind: dict[str, Kind], value: dict[str, Any]) -> Iterator[tuple[str, Kind]]:
    """Yield the members of an object that its kind declares, with the kind of each."""
    for key in value:
        below = kind.get("*", kind.get(key, kind.get(key + "!")))
        if below is not None:
            yield key, below


def wrong_values(kind: Kind) -> list[Any]:
    """Return values that are not of the kind: every other JSON type, and what lies just outside of its limits."""
    values = [True, 7, 1.5, "text", [], ["text"], {}, {"text": 1}]
    if isinstance(kind, range):
        values += [n for n in (kind.start - 1, kind.stop, -(2**70), 2**70) if abs(n) < _ENDLESS]
    if isinstance(kind, tuple):
        values += ["", kind[0].lower() + "x", kind[0] + " "]
    return [value for value in values if not accepts(kind, value)]


def violations(kind: Kind, value: Any, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield all single changes that make a valid value invalid: (place, wrong value), None to remove a member."""
    yield from ((at, wrong) for wrong in wrong_values(kind))
    if isinstance(kind, list):
        for index, item in enumerate(value):
            yield from violations(kind[0], item, (*at, index))
    elif isinstance(kind, dict):
        yield from (((*at, key[:-1]), None) for key in kind if key.endswith("!"))
        for key, below in members(kind, value):
            yield from violations(below, value[key], (*at, key))


def leaves(kind: Kind, value: Any, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield (place, what is there) for each place of a value that holds neither an object nor an array."""
    if isinstance(kind, list):
        for index, item in enumerate(value):
            yield from leaves(kind[0], item, (*at, index))
    elif isinstance(kind, dict):
        for key, below in members(kind, value):
            yield from leaves(below, value[key], (*at, key))
    else:
        yield at, value


def values(kind: Kind) -> st.SearchStrategy[Any]:
    """Return a strategy of valid values, which tries small ones first."""
    if kind is bool:
        return st.booleans()
    if kind is str:
        return st.one_of(st.sampled_from(["", "/", "/dev/x", "tmpfs", "bind", "ro", "A=1", "0"]), st.text(max_size=4))
    if isinstance(kind, range):
        low, high = max(kind.start, -2), min(kind.stop - 1, 9)
        return st.one_of(st.integers(low, high), st.integers(kind.start, kind.stop - 1))
    if isinstance(kind, tuple):
        return st.sampled_from(kind)
    if isinstance(kind, re.Pattern):
        return st.from_regex(kind, fullmatch=True)
    if isinstance(kind, list):
        return st.lists(values(kind[0]), max_size=2)
    if "*" in kind:
        return st.dictionaries(st.text(max_size=5), values(kind["*"]), max_size=2)
    return _objects(kind)


@st.composite
def _objects(draw: st.DrawFn, kind: dict[str, Kind]) -> dict[str, Any]:
    """Return a strategy of objects: all required members, and a few of the others."""
    needed = [key for key in kind if key.endswith("!")]
    others = [key for key in kind if not key.endswith("!")]
    chosen = draw(st.lists(st.sampled_from(others), max_size=4, unique=True)) if others else []
    return {key.rstrip("!"): draw(values(kind[key])) for key in needed + chosen}


def changed(config: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """Return a copy with another value at a place (None: without it); it shares everything outside of that path."""
    copied: dict[str, Any] = dict(config)
    target: Any = copied
    for key in place[:-1]:
        below = target[key]
        target[key] = dict(below) if isinstance(below, dict) else list(below)
        target = target[key]
    if value is None and (isinstance(target, list) or place[-1] in target):
        del target[place[-1]]
    elif value is not None:
        target[place[-1]] = value
    return copied
