"""Our reading against runtime-spec's shape of config.json: nothing that it rejects is taken, but for what is listed.

Taken on purpose besides schema.DIFFERENCES: null, as if the member were missing (Go's decoder does the same), and 1e3
as the whole number that it is. Refused on purpose though the shape allows it: what the text of the spec, the kernel or
cgroup v2 forbids, which the other tests are about.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.errors import RootlessError
from rootless.node import Node
from rootless.plan.describe import describe
from rootless.plan.validate import validate
from tests.support import schema
from tests.support.full_config import FULL, compiled

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
    """The names of all properties, array elements as `*`."""
    if isinstance(kind, list):
        return properties(kind[0], f"{at}/*")
    if isinstance(kind, dict):
        return [at] + [name for key, below in kind.items() for name in properties(below, f"{at}/{key.rstrip('!')}")]
    return [at]


def held(kind: schema.Kind, value: Any, at: str = "") -> list[str]:
    """The same for those that a value holds."""
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
    """Each property in turn gets every wrong type and what is just out of its range, or is taken away."""
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
    """Any config of the right shape, one value of it spoilt: no crash, and never taken."""
    config = data.draw(schema.values(schema.CONFIG))
    assert schema.accepts(RELAXED, config)
    errors(config)
    place, wrong = data.draw(st.sampled_from([v for v in schema.violations(RELAXED, config) if v[0]]))
    assert errors(schema.changed(config, place, wrong)) != []


# --- the schema files themselves, where they are


class Files:
    """Draft 4 of JSON Schema, as far as the files of runtime-spec use it."""

    def __init__(self, directory: Path) -> None:
        self.files = {path.name: json.loads(path.read_text()) for path in directory.glob("*.json")}

    def accepts(self, value: Any, rule: dict[str, Any], file: str = "config-schema.json") -> bool:
        if "$ref" in rule:
            name, _, pointer = rule["$ref"].partition("#")
            target: Any = self.files[name or file]
            for key in pointer.split("/")[1:]:
                target = target[key]
            return self.accepts(value, target, name or file)
        if not all(self.accepts(value, each, file) for each in rule.get("allOf", ())):
            return False
        if "anyOf" in rule and not any(self.accepts(value, each, file) for each in rule["anyOf"]):
            return False
        if "type" in rule and not self._is_a(value, rule["type"]):
            return False
        if "enum" in rule and value not in rule["enum"]:
            return False
        if isinstance(value, str):
            return re.search(rule.get("pattern", "").replace("$", r"\Z"), value) is not None
        if isinstance(value, int):
            return rule.get("minimum", value) <= value <= rule.get("maximum", value)
        if isinstance(value, list):
            return all(self.accepts(item, rule.get("items", {}), file) for item in value)
        return not isinstance(value, dict) or self._members(value, rule, file)

    def _members(self, value: dict[str, Any], rule: dict[str, Any], file: str) -> bool:
        if any(key not in value for key in rule.get("required", ())):
            return False
        patterns = rule.get("patternProperties", {}).items()
        for key, item in value.items():
            if key in rule.get("properties", {}):
                rules = [rule["properties"][key]]
            else:
                rules = [r for pattern, r in patterns if re.search(pattern, key, re.DOTALL)]
                rules = rules or [rule.get("additionalProperties", {})]
            if not all(self.accepts(item, each, file) for each in rules):
                return False
        return True

    @staticmethod
    def _is_a(value: Any, name: str) -> bool:
        types = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
        return type(value) is types[name]


@pytest.fixture(scope="session")
def files() -> Files:
    directory = os.environ.get("ROOTLESS_SCHEMA", "")
    if not directory:
        pytest.skip("ROOTLESS_SCHEMA does not name the directory schema/ of runtime-spec")
    return Files(Path(directory))


def test_the_shape_is_that_of_the_schema_files(files: Files) -> None:
    root = files.files["config-schema.json"]
    assert files.accepts(FULL, root)
    differ = []
    for place, wrong in schema.violations(RELAXED, FULL):
        config = schema.changed(FULL, place, wrong) if place else wrong
        if files.accepts(config, root) != schema.accepts(schema.CONFIG, config):
            differ.append((place, wrong))
    assert differ == []


@settings(max_examples=150, database=None)
@given(schema.values(schema.CONFIG))
def test_the_schema_files_accept_what_the_shape_makes(files: Files, config: Any) -> None:
    assert files.accepts(config, files.files["config-schema.json"])


# --- the plan


# What a change of leaves no trace in the plan, and why.
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
    """Other values of the same type; None is none at all."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value * 2, value - 1]
    return [value + "x", "/x", None]


def test_a_change_of_any_property_changes_the_plan() -> None:
    """Nothing is read and then forgotten."""
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
