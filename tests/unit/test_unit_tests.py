"""Tests in tests/unit neither fork the test nor leave its namespaces; those belong in tests/kernel."""

import ast

from tests.support.checkout import CHECKOUT

LEAVING = {"fork", "unshare", "setns", "clone", "clone3"}


def test_no_unit_test_forks_or_unshares() -> None:
    found = []
    for path in sorted((CHECKOUT / "tests/unit").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called.rpartition(".")[2] in LEAVING and called != "pty.fork":  # it starts a shell, at once
                found.append(f"{path.name}:{node.lineno}")
            if isinstance(node, ast.ImportFrom) and node.module == "tests.support.children":
                found.append(f"{path.name}:{node.lineno}")
            if isinstance(node, ast.ImportFrom) and node.module == "tests.support":
                found += [f"{path.name}:{node.lineno}" for name in node.names if name.name == "children"]
    assert not found
