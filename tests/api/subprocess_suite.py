"""Run CPython's own test_subprocess with `rootless.Popen` and `rootless.run` in place of subprocess's.

cd "$(mktemp -d)" && /usr/bin/python3 CHECKOUT/tests/api/subprocess_suite.py [unittest's arguments]

The suite is Debian's libpython3.11-testsuite; nothing of it is copied here. The suite expects some things of a child
process, so each container gets two volumes at their own paths, the temp directory and the test library, and this
process's `cwd` and `env` if a test names none. docs/conformance.md lists the tests that do not pass.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import rootless
from rootless.api import popen

LIBRARY = os.path.dirname(os.__file__) + "/test"
# What a container has no equivalent of: a test whose source has one of these words does not count.
WORDS = ("preexec_fn", "_posixsubprocess", "subprocess._", "mock.patch")


class Popen(popen.Popen):
    """Give containers what the suite's tests expect of a child of their own process."""

    def __init__(self, args: Any, bufsize: int = -1, executable: Any = None, **keywords: Any) -> None:
        temp = tempfile.gettempdir()
        keywords.setdefault("volumes", [f"{path}:{path}" for path in (temp, LIBRARY)])
        if keywords.get("cwd") is None:
            keywords["cwd"] = os.getcwd()
        if keywords.get("env") is None:
            keywords["env"] = os.environ
        super().__init__(args, bufsize, executable, **keywords)


class Result(unittest.TextTestResult):
    """Print how many of the tests that count have passed."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.passed: set[str] = set()
        self.not_counted: set[str] = set()

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        if any(word in inspect.getsource(getattr(test, test._testMethodName)) for word in WORDS):
            self.not_counted.add(test.id())

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self.passed.add(test.id())

    def stopTestRun(self) -> None:
        super().stopTestRun()
        failed = {getattr(test, "test_case", test).id() for test, _ in [*self.failures, *self.errors]}
        skipped = {test.id() for test, _ in self.skipped}
        counted = (self.passed | failed) - self.not_counted - skipped
        passed = len(counted - failed)
        print(f"\npassed {passed} of {len(counted)} that count ({100 * passed / max(len(counted), 1):.1f} %)")
        for title, names in (("failed", counted & failed), ("not counted", self.not_counted), ("skipped", skipped)):
            print(f"{title}: {len(names)}", *sorted(name.partition(".")[2] for name in names), sep="\n  ")


def run(*popenargs: Any, **keywords: Any) -> Any:
    """Run a program as rootless.run does, with the class that subprocess has now."""
    return popen.run_with(subprocess.Popen, *popenargs, **keywords)  # type: ignore[arg-type]


def main() -> None:
    """Replace the names, then load and run the suite, whose own classes derive from Popen."""
    Popen.__qualname__ = Popen.__name__ = "Popen"
    subprocess.Popen = Popen  # type: ignore[misc]
    subprocess.run = run
    from test import test_subprocess

    runner = unittest.TextTestRunner(resultclass=Result)
    unittest.main(module=test_subprocess, argv=[sys.argv[0], *sys.argv[1:]], testRunner=runner)


if __name__ == "__main__":
    assert rootless.__version__
    main()
