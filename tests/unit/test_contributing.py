"""CONTRIBUTING.md names files that exist, and its worked example is the code."""

import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
TEXT = (CHECKOUT / "CONTRIBUTING.md").read_text()
DIFFS = re.findall(r"```diff\n(.*?)```", TEXT, re.DOTALL)


def places() -> list[str]:
    """Return the paths in backquotes in the right column of "To change X, go to Y"."""
    table = TEXT.partition("## To change X, go to Y")[2].partition("\n## ")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("| ") and "go to" not in line]
    return [place for row in rows for place in re.findall(r"`([^`]+)`", row) if "/" in place]


def test_every_place_to_go_to_exists() -> None:
    named = places()
    assert len(named) >= 20
    missing = [place for place in named if not list(CHECKOUT.glob(place.replace("NAME", "*").strip("/")))]
    assert missing == []


@pytest.mark.parametrize("diff", DIFFS, ids=[re.findall(r"\+\+\+ b/(\S+)", diff)[0] for diff in DIFFS])
def test_the_worked_example_is_in_the_code(diff: str, tmp_path: Path) -> None:
    """The test takes the change out of the file, and patch(1) applies the example's change to that."""
    _, named, *lines = diff.splitlines()
    path = CHECKOUT / named.removeprefix("+++ b/")
    now = path.read_text()
    after = "".join(f"{line[1:]}\n" for line in lines if line[0] in "+ ")
    before = "".join(f"{line[1:]}\n" for line in lines if line[0] in "- ")
    assert after in now
    first = now[: now.index(after)].count("\n") + 1
    copy = tmp_path / path.name
    copy.write_text(now.replace(after, before, 1))
    counts = [len([line for line in lines if line[0] in kinds]) for kinds in ("- ", "+ ")]
    at = first if counts[0] else first - 1  # unified format: an empty range is named by the line before it
    header = f"--- a/{path.name}\n+++ b/{path.name}\n@@ -{at},{counts[0]} +{first},{counts[1]} @@\n"
    patch = header + "".join(f"{line}\n" for line in lines)
    subprocess.run(["patch", "-s", str(copy)], input=patch, text=True, check=True)
    assert copy.read_text() == now


def test_there_are_a_step_a_reader_a_story_a_test_and_a_page() -> None:
    files = [re.findall(r"\+\+\+ b/(\S+)", diff)[0] for diff in DIFFS]
    assert [file.split("/")[0] for file in files] == ["rootless", "rootless", "rootless", "tests", "docs"]
