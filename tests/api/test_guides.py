"""Execute every Python block of the guides, those of one page in one process and in their order."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
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


def test_the_block_about_conversion_makes_a_bundle_that_runs(busybox: Path, tmp_path: Path) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", (CHECKOUT / "docs/guide/conversion.md").read_text(), re.S | re.M)
    archive = [sys.executable, str(CHECKOUT / "scripts/legacy_archive.py"), str(busybox), str(tmp_path / "busybox.tar")]
    subprocess.run(archive, check=True)
    program = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n{block}"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    run = [sys.executable, "-IS", str(CHECKOUT / "bin/rootless"), "--root", str(tmp_path / "state"), "run", "busybox"]
    ran = subprocess.run([*run, "--", "echo", "yes"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "yes\n"), ran.stderr


def test_the_block_about_agents_starts_the_server(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```json\n(.*?)^```", (CHECKOUT / "docs/guide/agents.md").read_text(), re.S | re.M)
    server = json.loads(block)["mcpServers"]["rootless"]
    words = [sys.executable if server["command"] == "python3" else "", *server["args"]]
    words[words.index("/home/me/project")] = str(tmp_path)
    done = subprocess.run(words, cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if find_spec("mcp") is None:
        assert done.returncode == 1 and "mcp" in done.stderr and "Traceback" not in done.stderr
    else:
        assert done.returncode == 0, done.stderr
