"""Every hint of the table has a test that takes its cause away, or a reason here why there can be none."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from rootless.kernel.hints import HINTS

HERE = Path(__file__).resolve().parent
# Not to be taken away on a machine that tests run on: hint: (why, the test that shows its words all the same).
ELSEWHERE = {
    "initramfs": (
        "only the guest has an initramfs to be in",
        "vm/test_no_pivot.py::test_without_it_the_error_names_it",
    ),
    "no-selinux-policy": (
        "this needs a kernel with SELinux, which the guest boots",
        "vm/test_selinux.py::test_new_file_systems_have_the_mount_label",
    ),
    "cgroup-of-session": (
        "this needs a plain login beside the user's systemd, which the guest has",
        "vm/test_place.py::test_exec_enters_the_containers_cgroup_from_every_session",
    ),
}


def named() -> dict[str, str]:
    """Return {name of a hint: a test file of this directory that names it}."""
    found: dict[str, str] = {}
    for path in sorted(HERE.glob("test_*.py")):
        if path.name != Path(__file__).name:
            texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
            found |= {name: path.name for name in HINTS if name in texts}
    return found


def test_every_hint_has_a_test_or_a_reason() -> None:
    tested = named()
    assert not HINTS.keys() - tested.keys() - ELSEWHERE.keys(), "write a test that takes the thing away"
    assert not ELSEWHERE.keys() - HINTS.keys() and not ELSEWHERE.keys() & tested.keys()


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_the_test_elsewhere_is_there(name: str) -> None:
    reason, test = ELSEWHERE[name]
    file, _, function = test.partition("::")
    assert reason and f"def {function}(" in (HERE.parent / file).read_text()
