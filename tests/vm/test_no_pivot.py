"""Where the root is the initramfs pivot_root(2) cannot work; `--no-pivot` can, and the error names it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.limits import run

pytestmark = pytest.mark.vm

ENTER = [sys.executable, str(Path(__file__).parent / "initramfs.py")]
ROOTFS = "/rootless-test"  # on the initramfs
LOOK = """sh -c "grep -c ' / r[ow].* - rootfs ' /proc/self/mountinfo; ls /; echo; ls /../.." """


@pytest.fixture
def on_initramfs(container, rootless, who):
    """Return `on_initramfs(flags)`, which returns what `run` with those flags and then `exec` print there."""
    if who != "root":
        pytest.skip("only root gets to the initramfs")

    def start(flags=""):
        box = container({"root": {"path": ROOTFS}, "process": {"args": ["sleep", "1000"]}})
        call, of = " ".join(rootless.command()), f"{flags} -b {box.bundle.path} {box.id}"
        script = (
            f"cp -a {box.bundle.rootfs} {ROOTFS}; {call} run {of} -- {LOOK} && echo && {call} run -d {of} && "
            f"{call} exec {box.id} {LOOK}; s=$?; {call} delete --force {box.id}; rm -r {ROOTFS}; exit $s"
        )
        return run(*ENTER, "sh", "-c", script)

    return start


def test_no_pivot_moves_the_root(on_initramfs):
    """`run` and `exec` see the container's root, and nothing above it."""
    result = on_initramfs("--no-pivot")
    assert result.returncode == 0, result.stderr
    below = "bin\ndev\netc\nhome\nproc\nroot\nsys\ntmp\nvar"
    assert result.stdout.strip().split("\n\n") == [f"1\n{below}", below] * 2


def test_without_it_the_error_names_it(on_initramfs, rootless):
    result = on_initramfs()
    assert result.returncode == 1
    assert result.stderr == (
        "rootless: pivot_root: /root/path: EINVAL (invalid argument); hint: the root here is the initramfs, which "
        "cannot be exchanged for another: --no-pivot\n"
    )
    assert rootless.ids() == []
