"""Imports point one way: a package imports what stands to the right of it, and the leaves at the end import nothing."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = [
    "cli", "api", "runtime", "init", "outside", "plan", "steps", "cgroup", "userns", "emulation", "process", "kernel",
]  # fmt: skip
TOP = {"errors", "log", "config_node"}
LEAVES = {f"rootless.startup.{name}" for name in ("lean_os", "lean_path", "jsonlite")}
STARTERS = {
    "rootless.__main__",
    "bin/rootless",
    "rootless.cli.commands.run",
    "rootless.api.launcher",
    "rootless.cli.doctor.installation",
}  # may know of the cache


def sources() -> dict[str, Path]:
    found = {"bin/rootless": CHECKOUT / "bin/rootless"}
    for path in [*(CHECKOUT / "rootless").rglob("*.py"), *(CHECKOUT / "oci").rglob("*.py")]:
        found[".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


SOURCES = sources()


def imports(name: str) -> Iterator[str]:
    """Yield the modules of this checkout that a module imports, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(SOURCES[name].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in SOURCES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from names & SOURCES.keys()
            if node.module in SOURCES and not names <= SOURCES.keys():
                yield node.module


EDGES = {name: set(imports(name)) - {name} for name in SOURCES}


def rank(name: str) -> int:
    """Return how far right a module of `rootless` is: its package, then errors, log and
    config_node, then the leaves.
    """
    package = name.split(".")[1] if "." in name else name
    if name in LEAVES:
        return len(PACKAGES) + 1
    return PACKAGES.index(package) if package in PACKAGES else len(PACKAGES) if package in TOP else -1


def test_a_package_imports_only_what_stands_to_its_right() -> None:
    wrong = []
    for name, others in EDGES.items():
        for other in others:
            if not name.startswith("rootless.") or not other.startswith("rootless."):
                continue
            same_package = name.split(".")[1] == other.split(".")[1] or {name.split(".")[1], other.split(".")[1]} <= TOP
            cache = other in {f"rootless.startup.{each}" for each in ("codecache", "leancode", "linking", "making")}
            allowed = name in STARTERS or same_package if cache else same_package or rank(name) < rank(other)
            if not allowed:
                wrong.append(f"{name} -> {other}")
    assert sorted(wrong) == []


def test_there_are_no_circles() -> None:
    TopologicalSorter(EDGES).prepare()  # raises CycleError, which names one


def test_oci_knows_nothing_of_rootless() -> None:
    assert [n for n, others in EDGES.items() if n.startswith("oci") for o in others if o.startswith("rootless")] == []


def test_the_top_holds_no_more_than_errors_log_and_config_node() -> None:
    top = {path.stem for path in (CHECKOUT / "rootless").glob("*.py")}
    assert top == {"__init__", "__main__", *TOP}
    packages = {path.parent.name for path in (CHECKOUT / "rootless").glob("*/__init__.py")}
    assert packages - {"startup", "api", "mcp"} == set(PACKAGES) - {"api"}  # mcp: what `python -m rootless.mcp` starts
