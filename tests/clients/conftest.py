"""The last lines of the report say how many steps passed with which runtime."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What docs/conformance.md has in its table, as this run found it."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, value in getattr(report, "user_properties", ()):
                if name == "steps":
                    terminalreporter.write_line(value)
