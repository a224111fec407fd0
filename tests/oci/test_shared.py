"""Archives beside the checkout that cannot be read count as missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import readable


def test_what_may_not_be_entered_is_not_there(tmp_path: Path) -> None:
    assert readable(tmp_path)
    assert not readable(tmp_path / "nosuch")
    (tmp_path / "closed/below").mkdir(parents=True)
    if os.geteuid() == 0:
        assert readable(tmp_path / "closed/below")
        return
    (tmp_path / "closed").chmod(0)
    try:
        assert not readable(tmp_path / "closed/below")
        assert not readable(tmp_path / "closed")
    finally:
        (tmp_path / "closed").chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_the_tests_are_collected_beside_a_closed_directory(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    env = {**os.environ, "ROOTLESS_SHARED": str(tmp_path / "closed/shared")}
    here = Path(__file__).resolve().parent
    files = [here / name for name in ("test_fixtures.py", "test_peers.py", "test_convert_run.py")]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--collect-only", *files]
    done = subprocess.run(command, env=env, cwd=here.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "tests collected" in done.stdout, done.stdout
