"""The package `oci` works without the runtime beside it, as others may use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import oci
from tests.support import archives as a
from tests.support.checkout import CHECKOUT


def test_example_of_the_documentation_works_without_the_runtime(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/oci").symlink_to(CHECKOUT / "oci")
    (tmp_path / "busybox.tar").write_bytes(a.docker_archive([a.file("f", b"data") + a.END]))
    assert oci.__doc__
    code = oci.__doc__.partition("\n\n")[2].rpartition("\n\n")[0].replace("1000", str(os.geteuid()))
    script = f"import sys; sys.path.insert(0, {str(tmp_path / 'lib')!r})\n{code}\n"
    script += "import json; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-I", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "busybox/rootfs/f").read_bytes() == b"data"
    assert not {"rootless", "click", "ctypes"} & set(json.loads(done.stdout))


def test_every_public_name_is_there() -> None:
    assert all(getattr(oci, name).__doc__ for name in oci.__all__)
