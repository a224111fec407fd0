"""Every property of the specification has a row, or a file, that tests it in a real container."""

from collections.abc import Iterator
from pathlib import Path

from tests.containers.test_property_table import ELSEWHERE, ROWS
from tests.support import schema

TESTS = Path(__file__).parent.parent
# Objects whose members are properties of their own; of any other, the tests are about the whole.
OPENED = ("", "/root", "/process", "/process/user", "/process/capabilities", "/mounts", "/linux")
# What no program can see: for other platforms, or not the runtime's.
UNSEEN = {"/process/commandLine", "/process/user/username"}


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


def test_the_files_speak_of_their_property() -> None:
    for pointer, file in ELSEWHERE.items():
        assert pointer.rpartition("/")[2] in (TESTS / file).read_text(), (pointer, file)
