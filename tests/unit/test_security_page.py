"""Every test that docs/security.md names for a known attack exists."""

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
ROW = re.compile(r"^\| (?=CVE-|GHSA-)", re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_test_that_the_page_names_exists() -> None:
    named = NAMED.findall((CHECKOUT / "docs/security.md").read_text())
    assert len(named) > 40
    missing = [f"{path}::{name}" for path, name in named if not defines(CHECKOUT / path, name)]
    assert not missing


def test_every_attack_has_a_test_or_no_such_part() -> None:
    attacks, _, no_such_part = (CHECKOUT / "docs/security.md").read_text().partition("### No such part here")
    rows = [line for line in attacks.splitlines() if ROW.match(line)]
    assert len(rows) > 40 and no_such_part
    assert not [row for row in rows if not NAMED.search(row)]


def test_every_number_of_the_tests_is_on_the_page() -> None:
    page = (CHECKOUT / "docs/security.md").read_text()
    numbers = {
        number
        for path in (CHECKOUT / "tests").rglob("test_*.py")
        for number in re.findall(r"CVE-\d{4}-\d{4,}", path.read_text())
    }
    assert not [number for number in sorted(numbers) if number not in page]


def defines(path: Path, name: str) -> bool:
    return path.exists() and re.search(rf"^def {name}\(", path.read_text(), re.MULTILINE) is not None
