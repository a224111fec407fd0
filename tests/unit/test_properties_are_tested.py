"""Every property of the specification has a row, or a test, that looks at it in a real container."""

import ast
from collections.abc import Iterator

import pytest

from tests.containers.test_property_table import ELSEWHERE, ROWS
from tests.support import schema
from tests.support.checkout import CHECKOUT

# Objects whose members are properties of their own; of any other, the tests are about the whole.
OPENED = ("", "/root", "/process", "/process/user", "/process/capabilities", "/mounts", "/linux")
# What no program can see: for other platforms, or not the runtime's.
UNSEEN = {"/process/commandLine", "/process/user/username"}
# The fixtures behind which a container runs.
RUNNING = {"container", "boxed", "on_host", "resctrl"}


def properties(kind: schema.Kind = schema.CONFIG, pointer: str = "") -> Iterator[str]:
    if pointer not in OPENED:
        yield pointer
        return
    for key, below in (kind[0] if isinstance(kind, list) else kind).items():
        yield from properties(below, f"{pointer}/{key.rstrip('!')}")


def test_every_property_is_tested() -> None:
    known = set(properties())
    tested = {row.pointer for row in ROWS} | set(ELSEWHERE)
    assert known - tested == UNSEEN and tested - known == set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.pointer)
def test_a_row_looks_at_something(row) -> None:
    """A probe that says only that it ran would pass whatever the runtime does with the property."""
    assert row.expected.strip() not in ("", "ran") or row.pointer == "/ociVersion"


@pytest.mark.parametrize("pointer", ELSEWHERE)
def test_the_test_runs_a_container_with_the_property(pointer: str) -> None:
    """The name of the property is in the file's code and not only in its words, and the test takes a fixture that runs
    a container.
    """
    path, _, name = ELSEWHERE[pointer].partition("::")
    tree = ast.parse((CHECKOUT / "tests" / path).read_text())
    named = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert len(named) == 1
    assert {argument.arg for argument in named[0].args.args} & RUNNING
    keys = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    keys |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    assert pointer.rpartition("/")[2] in keys
