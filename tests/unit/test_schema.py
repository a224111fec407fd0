"""What runtime-spec's shape of config.json rejects is refused, except for the differences that are listed.

Besides schema.DIFFERENCES, two things are accepted on purpose: null, as if the member were missing (Go's decoder does
the same), and 1e3 as the whole number that it is. What the shape allows, but the text of the spec, the kernel or cgroup
v2 forbids, is refused; other tests are about that.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.config_node import Node
from rootless.errors import RootlessError
from rootless.plan.describe import describe
from rootless.plan.validate import validate
from tests.support import schema
from tests.support.checkout import CHECKOUT, SHARED
from tests.support.full_config import FULL, compiled
from tests.support.golden import CONFIGS

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

REFUSED = (
    "/linux/personality/flags/*",  # the spec has none yet
    "/mounts/*/uidMappings", "/mounts/*/gidMappings",
)  # fmt: skip
RELAXED = schema.relaxed(schema.CONFIG)


def errors(config: Any) -> list[RootlessError]:
    return validate(config, lambda node: compiled(node).warnings)[0]


def test_the_full_config_is_valid_and_holds_every_property() -> None:
    assert schema.accepts(schema.CONFIG, FULL)
    assert errors(FULL) == []
    missing = set(properties(schema.CONFIG)) - set(held(schema.CONFIG, FULL))
    assert not [name for name in missing if not name.startswith(REFUSED)]


def properties(kind: schema.Kind, at: str = "") -> list[str]:
    """Return the names of all properties, with `*` for array elements."""
    if isinstance(kind, list):
        return properties(kind[0], f"{at}/*")
    if isinstance(kind, dict):
        return [at] + [name for key, below in kind.items() for name in properties(below, f"{at}/{key.rstrip('!')}")]
    return [at]


def held(kind: schema.Kind, value: Any, at: str = "") -> list[str]:
    """Return the names of the properties that a value holds."""
    if isinstance(kind, list):
        return [name for item in value for name in held(kind[0], item, f"{at}/*")]
    if isinstance(kind, dict):
        pairs = [("*" if "*" in kind else key, below, value[key]) for key, below in schema.members(kind, value)]
        return [at] + [name for key, below, item in pairs for name in held(below, item, f"{at}/{key}")]
    return [at]


VIOLATIONS = [(place, wrong) for place, wrong in schema.violations(RELAXED, FULL) if place]


@pytest.mark.parametrize("section", ["ociVersion", "hooks", "annotations", "hostname", "domainname", "mounts", "root",
                                     "process", "linux"])  # fmt: skip
def test_every_violation_is_refused_at_its_place(section: str) -> None:
    """Each property in turn gets every wrong type and what is just out of its range, or is removed."""
    accepted, misplaced = [], []
    for place, wrong in VIOLATIONS:
        if place[0] != section:
            continue
        pointer = "".join(f"/{key}" for key in place)
        found = errors(schema.changed(FULL, place, wrong))
        if not found:
            accepted.append((pointer, wrong))
        elif not any(e.where == pointer or e.where.startswith(pointer + "/") for e in found):
            misplaced.append((pointer, wrong, [e.where for e in found]))
    assert accepted == []
    assert misplaced == []


@settings(max_examples=150, database=None)
@given(st.data())
def test_what_the_shape_rejects_is_refused(data: st.DataObject) -> None:
    """A config of the right shape with one damaged value is never accepted, and never crashes the reader."""
    config = data.draw(schema.values(schema.CONFIG))
    assert schema.accepts(RELAXED, config)
    errors(config)
    place, wrong = data.draw(st.sampled_from([v for v in schema.violations(RELAXED, config) if v[0]]))
    assert errors(schema.changed(config, place, wrong)) != []


# --- the file as JSON Schema, its examples, and the specification's own files where they are

DATA = CHECKOUT / "tests/data"
GOOD, BAD = (sorted((DATA / "configs" / verdict).glob("*.json")) for verdict in ("good", "bad"))


@pytest.fixture(scope="session")
def ours() -> Validator:
    pytest.importorskip("jsonschema", reason="this Python lacks jsonschema (a development dependency)")
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(schema.SCHEMA)
    return Draft202012Validator(schema.SCHEMA)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_example_is_taken(ours: Validator, path: Path) -> None:
    config = json.loads(path.read_text())
    assert [error.message for error in ours.iter_errors(config)] == []
    assert errors(config) == []


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_example_is_refused_at_the_place_of_the_schema(ours: Validator, path: Path) -> None:
    """The schema reports a missing member at its object, and the program at the member."""
    config = json.loads(path.read_text())
    places = {"".join(f"/{key}" for key in error.absolute_path) for error in ours.iter_errors(config)}
    assert len(places) == 1
    assert all(error.where.startswith(tuple(places)) for error in errors(config)) and errors(config)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_clients_write_is_of_the_shape(ours: Validator, path: Path) -> None:
    """Exceptions are the propagation `rslave` and its like, and the file type in a
    device's mode: schema.DIFFERENCES.
    """
    places = {"/".join(map(str, error.absolute_path)) for error in ours.iter_errors(json.loads(path.read_text()))}
    assert not [place for place in places if not re.fullmatch(r"linux/(rootfsPropagation|devices/\d+/fileMode)", place)]


def test_the_kinds_are_what_the_file_says(ours: Validator) -> None:
    """The other tests make values and violations from kinds, so both ways to read the schema's file must agree."""
    assert ours.is_valid(FULL)
    differ = []
    for place, wrong in schema.violations(schema.CONFIG, FULL):
        config = schema.changed(FULL, place, wrong) if place else wrong
        if ours.is_valid(config):
            differ.append((place, wrong))
    assert differ == []


@pytest.fixture(scope="session")
def theirs() -> Validator:
    """Return the specification's files: where ROOTLESS_SCHEMA names them, or in ../shared/runtime-spec-schema."""
    directory = Path(os.environ.get("ROOTLESS_SCHEMA") or SHARED / "runtime-spec-schema")
    if not os.access(directory / "config-schema.json", os.R_OK):
        pytest.skip("ROOTLESS_SCHEMA does not name the directory schema/ of runtime-spec")
    pytest.importorskip("jsonschema", reason="this Python lacks jsonschema (a development dependency)")
    from jsonschema import Draft4Validator
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT4

    files = {path.name: json.loads(path.read_text()) for path in directory.glob("*.json")}
    registry: Registry[Any] = Registry().with_resources(
        (name, Resource.from_contents(content, default_specification=DRAFT4)) for name, content in files.items()
    )
    return Draft4Validator(files["config-schema.json"], registry=registry)


def test_the_shape_is_that_of_the_specifications_files(theirs: Validator) -> None:
    assert theirs.is_valid(FULL)
    differ = []
    for place, wrong in schema.violations(RELAXED, FULL):
        config = schema.changed(FULL, place, wrong) if place else wrong
        if theirs.is_valid(config) != schema.accepts(schema.CONFIG, config):
            differ.append((place, wrong))
    assert differ == []


@settings(max_examples=150, database=None)
@given(schema.values(schema.CONFIG))
def test_the_specifications_files_accept_what_the_shape_makes(theirs: Validator, config: Any) -> None:
    assert theirs.is_valid(config)


@pytest.mark.parametrize("verdict", ["good", "bad"])
def test_the_specifications_examples(ours: Validator, theirs: Validator, verdict: str) -> None:
    """Both schemas agree on each example for Linux, and the program refuses each bad one."""
    directory = Path(os.environ.get("ROOTLESS_SCHEMA") or SHARED / "runtime-spec-schema") / "test/config" / verdict
    examples = [path for path in directory.glob("*.json") if not path.name.startswith(("zos-", "freebsd-"))]
    assert examples
    for path in examples:
        if path.name == "invalid-json.json":
            continue
        config = json.loads(path.read_text())
        assert (ours.is_valid(config), theirs.is_valid(config)) == (verdict == "good",) * 2, path.name
        if verdict == "bad":
            assert errors(config) != [], path.name


# --- the plan


# Properties whose change does not change the plan, and why.
SILENT = (
    "/annotations/", "/process/user/username", "/process/commandLine",  # nothing is done about them
    "/process/execCPUAffinity/",  # of `exec` alone
    *(f"/hooks/{moment}/0/args/0" for moment in schema.CONFIG["hooks"]),  # argv[0]
    "/mounts/1/type",  # the option says that it is a bind mount
    *(f"/linux/devices/0/{key}" for key in ("fileMode", "uid", "gid")),  # of a node that is bound: the host's
    *(f"/linux/resources/memory/{key}" for key in (
        "kernel", "kernelTCP", "swappiness", "disableOOMKiller", "useHierarchy", "checkBeforeUpdate",
    )),  # without form in cgroup v2
    "/linux/mountLabel",  # an option of the mounts where SELinux runs
)  # fmt: skip


def changes(value: Any) -> list[Any]:
    """Return other values of the same type; None is none at all."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value * 2, value - 1]
    return [value + "x", "/x", None]


def test_a_change_of_any_property_changes_the_plan() -> None:
    """No property is read and then forgotten."""
    before = describe(compiled(Node(FULL)))
    silent = []
    for place, value in schema.leaves(schema.CONFIG, FULL):
        for other in changes(value):
            try:
                if describe(compiled(Node(schema.changed(FULL, place, other)))) != before:
                    break
            except RootlessError:
                break
        else:
            silent.append("".join(f"/{key}" for key in place))
    assert [pointer for pointer in silent if not pointer.startswith(SILENT)] == []


def test_every_step_names_a_place_of_the_config() -> None:
    pointers = [line.rpartition(" [")[2].rstrip("]") for line in describe(compiled(Node(FULL)))]
    for pointer in pointers:
        value: Any = FULL
        for key in pointer.split("/")[1:]:
            value = value[int(key)] if isinstance(value, list) else value[key]
