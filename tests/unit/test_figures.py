"""The figures of the README and of the page about Python are those that `make bench` wrote to docs/bench.json."""

import json
import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
BENCH = json.loads((CHECKOUT / "docs/bench.json").read_text())
MEDIAN = 1  # each figure is [minimum, median]


def test_the_ratios_of_the_readme_are_those_of_the_medians() -> None:
    """README gives the medians of runc and crun as ratios to ours, with one decimal."""
    rows = dict(
        re.findall(r"^\| time of (.*?)(?: \(\[.*)? \| 1 \| (.*) \|$", (CHECKOUT / "README.md").read_text(), re.M)
    )
    names = {"`run`": "run", "`create`, `start` and `delete`": "create+start+delete", "`exec`": "exec"}
    assert rows.keys() == names.keys()
    for row, name in names.items():
        figures = BENCH["command line, ms (minimum, median)"][name]
        wanted = [f"{figures[peer][MEDIAN] / figures['rootless'][MEDIAN]:.1f}" for peer in ("runc", "crun")]
        assert re.findall(r"([\d.]+) \(", rows[row]) == wanted, row


def test_the_page_about_python_allows_for_the_figures() -> None:
    """docs/guide/python.md gives ranges of several runs, and the last run lies in them."""
    page = " ".join((CHECKOUT / "docs/guide/python.md").read_text().partition("## How fast")[2].split())
    python = BENCH["python, ms (minimum, median)"]
    bubblewrap = python["calls"]["bubblewrap"][MEDIAN]
    rates = python["containers a second, 50 at once"]
    for pattern, ratio in (
        (r"medians: ([\d.]+) to ([\d.]+) of bubblewrap's time", python["calls"]["rootless.run"][MEDIAN] / bubblewrap),
        (r"`Sandbox` took ([\d.]+) to ([\d.]+) of", python["calls"]["Sandbox, warm"][MEDIAN] / bubblewrap),
        (r"reached ([\d.]+) to ([\d.]+) of bubblewrap's rate", rates["rootless"] / rates["bubblewrap"]),
        (r"takes (\d+) to (\d+) ms", python["starts"]["first call"][MEDIAN]),
    ):
        least, most = map(float, re.findall(pattern, page)[0])
        assert least <= round(ratio, 0 if "ms" in pattern else 2) <= most, pattern
