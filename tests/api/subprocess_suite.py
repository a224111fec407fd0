"""CPython's own test_subprocess, run with `rootless.Popen` and `rootless.run` in place of subprocess's.

    /usr/bin/python3 tests/api/subprocess_suite.py [--list] [unittest's arguments]

The suite is Debian's libpython3.11-testsuite; nothing of it is copied here. Two directories are given to each container
as volumes at their own paths, the temp directory and the test library, and `cwd` and `env` are this process's where a
test names none: what the suite takes for granted of a child of its own. docs/conformance.md lists what does not pass.
"""

from __future__ import annotations

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
# Tests of what a container has no equivalent of, by name: preexec_fn, the C module behind subprocess, and its mocks.
NOT_COUNTED = ("preexec", "posix_spawn", "vfork", "fork_exec", "_cleanup", "close_fds_false")


class Popen(popen.Popen):
    """What the suite's tests take for a child of their own process."""

    def __init__(self, args: Any, bufsize: int = -1, executable: Any = None, **keywords: Any) -> None:
        temp = tempfile.gettempdir()
        keywords.setdefault("volumes", [f"{path}:{path}" for path in (temp, LIBRARY)])
        if keywords.get("cwd") is None:
            keywords["cwd"] = os.getcwd()
        if keywords.get("env") is None:
            keywords["env"] = os.environ
        super().__init__(args, bufsize, executable, **keywords)


def main() -> None:
    """Replace the names, then run the suite."""
    from test import test_subprocess

    Popen.__qualname__ = Popen.__name__ = "Popen"
    subprocess.Popen = Popen  # type: ignore[misc]
    unittest.main(module=test_subprocess, argv=[sys.argv[0], *sys.argv[1:]])


if __name__ == "__main__":
    assert rootless.__version__
    main()
