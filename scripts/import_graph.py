"""Print the structure of rootless/ in figures: modules, imports between packages, circles, imports that run upwards.

python scripts/import_graph.py            # the figures
python scripts/import_graph.py --arrows   # each arrow between two packages, with the number of imports it stands for
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "rootless"
# Each package imports only from those that come after it. errors, log and config_node come last, for all of them.
ORDER = (
    "cli", "api", "runtime", "init", "outside", "plan", "steps", "cgroup", "userns", "emulation", "process", "kernel",
)  # fmt: skip


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    files = {path.relative_to(PACKAGE.parent).with_suffix(""): path for path in PACKAGE.rglob("*.py")}
    return {".".join(name.parts).removesuffix(".__init__"): path for name, path in files.items()}


def imports(name: str, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of the package that a module imports, in functions and for type checkers too."""
    for node in ast.walk(ast.parse(known[name].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                target = f"{node.module}.{alias.name}"
                yield target if target in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def graph() -> dict[str, set[str]]:
    """Return {module: the modules of the package that it imports}."""
    known = modules()
    return {name: {target for target in imports(name, known) if target in known} - {name} for name in known}


def package_of(name: str) -> str:
    """Return the folder of a module, or the module itself at the top of the package."""
    return name.split(".")[1] if "." in name else name


def upward(arrows: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the imports that run against ORDER."""
    ranks = {name: rank for rank, name in enumerate(ORDER)}
    return sorted(
        (name, target)
        for name, targets in arrows.items()
        for target in targets
        if ranks.get(package_of(target), 99) < ranks.get(package_of(name), -1)
    )


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or in a circle: what is left when no more module
    can be taken away that imports nothing, or that nothing imports."""
    left = {name: set(targets) for name, targets in arrows.items()}
    while True:
        imported = set().union(*left.values()) if left else set()
        ends = {name for name, targets in left.items() if not targets or name not in imported}
        if not ends:
            return [sorted(left)] if left else []
        left = {name: targets - ends for name, targets in left.items() if name not in ends}


def main(arguments: list[str]) -> int:
    """Print the figures, or the arrows."""
    arrows = graph()
    between = Counter(
        (package_of(name), package_of(target))
        for name, targets in arrows.items()
        for target in targets
        if package_of(name) != package_of(target)
    )
    if arguments == ["--arrows"]:
        for (source, target), count in sorted(between.items()):
            print(f"{source} -> {target}: {count}")
        return 0
    top = [path for path in PACKAGE.glob("*.py")]
    print(f"modules: {len(arrows)}, of them {len(top)} at the top of the package")
    print(f"arrows between packages: {len(between)}")
    print(f"circles: {len(circles(arrows))}")
    print(f"imports that run upwards: {len(upward(arrows))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
