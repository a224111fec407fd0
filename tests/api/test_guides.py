"""Every Python block of the guides is executed, those of a page in one process, in their order."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["python.md", "agents.md"])
def test_the_blocks_of_a_page_work(page: str, busybox_root: Path, tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```", (CHECKOUT / "docs/guide" / page).read_text(), re.DOTALL | re.MULTILINE
    )
    assert len(blocks) >= 3
    (tmp_path / "rootfs").symlink_to(busybox_root)
    program = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n" + "\n".join(blocks)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
