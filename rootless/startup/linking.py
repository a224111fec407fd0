"""Compile a module of a cache so that its start is short: without imports, and without what is hardly used.

An import of a module that is there already takes 2 us, because the interpreter words and discards two errors: it looks
for __path__ and __spec__ in what is not a package. A copied name takes a tenth of that. So codecache.py copies the
names (Links), and the statements are left out.

To make a class takes 10 us, and a function with its code 2 us, whether a command uses it or not. So a function that a
command does not call (called.py), a class of which it calls no method, and a long table that only such code reads are
made late: when they are looked for. In the code, such a name is an attribute of its module, which the module's
__getattr__ answers (PEP 562), for modules outside the cache, too.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from typing import TYPE_CHECKING

from rootless.startup.leancode import compiled, lean_tree

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from types import CodeType

    from rootless.startup.codecache import Links

    _Definition = ast.FunctionDef | ast.ClassDef | ast.Assign

_LONG = 500  # characters of a table's source
_MATCHES = (ast.MatchAs, ast.MatchStar)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class Linker:
    """Compile the modules of one cache, in the order in which it loads them.

    loaded: the modules that are there before; late: for each module, the names of what is made late.
    """

    def __init__(self, loaded: Iterable[str]) -> None:
        self.loaded = set(loaded)
        self.late: dict[str, set[str]] = {}

    def compile(
        self, name: str, source: bytes, file: str, called: Container[str] | None = None
    ) -> tuple[CodeType, Links, dict[str, CodeType]]:
        """Return the code of a module, what it imports at its top, and the code of what is made late by name.

        called: the qualified names of what is called, None if nothing may be late. Raises SyntaxError.
        """
        tree = lean_tree(source)
        bound = Counter(_bound(tree))
        late = _late(tree, called, bound) if called is not None else {}
        self.late[name] = set(late)
        places = {each: (f".{name}", each) for each in late}  # no variable's name begins with a dot
        modules = {f".{name}": name} if late else {}  # by their names in this module
        taken: dict[str, dict[str, None]] = {}  # names of other modules, in order
        body = []
        for statement in tree.body:
            found = self._imported(statement)
            if not found and statement not in late.values():
                body.append(statement)
            for module, ours, theirs in found:
                is_late = theirs in self.late.get(module, ())
                if not theirs:
                    modules[ours] = module
                elif is_late and bound[ours] == 1:
                    places[ours] = f".{module}", theirs
                    modules[f".{module}"] = module
                elif is_late or ours != theirs:  # a local variable has the same name, so the name must be there
                    body.append(ast.ImportFrom(module, [ast.alias(theirs, ours)], 0))
                else:
                    taken.setdefault(module, {})[ours] = None
        attributes = _Attributes(places)
        parts = {each: ast.Module([attributes.visit(node)], []) for each, node in late.items()}
        tree.body = [attributes.visit(statement) for statement in body]
        self.loaded.add(name)
        return (
            compiled(tree, file),
            (sum(modules.items(), ()), tuple((module, *names) for module, names in taken.items())),
            {each: compiled(part, file) for each, part in parts.items()},
        )

    def _imported(self, statement: ast.stmt) -> list[tuple[str, str, str]]:
        """Return what a statement imports: (module, name here, name there), "" for the module itself.

        It is empty for another statement, and for an import of modules that are not there yet: it stays in the code.
        """
        found = []
        if isinstance(statement, ast.ImportFrom):
            module = statement.module or ""
            for alias in statement.names:
                part, name = f"{module}.{alias.name}", alias.asname or alias.name
                if statement.level or alias.name == "*":
                    return []
                if part in self.loaded:
                    found.append((part, name, ""))
                elif module in self.loaded and part not in sys.modules:
                    found.append((module, name, alias.name))
                else:
                    return []
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                if alias.name not in self.loaded or ("." in alias.name and not alias.asname):
                    return []
                found.append((alias.name, alias.asname or alias.name, ""))
        return found


def _late(tree: ast.Module, called: Container[str], bound: Counter[str]) -> dict[str, _Definition]:
    """Return the definitions that can be made when they are first looked for.

    The command calls none of them, and no code of the module needs them while it is loaded.
    """
    late: dict[str, _Definition] = {}
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name, decorator_list=[]):
                names = [name]
            case ast.ClassDef(name=name, decorator_list=[]):
                names = [name, *(f"{name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef))]
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if len(ast.unparse(value)) > _LONG:
                names = [name]
            case _:
                continue
        if bound[name] == 1 and not any(each in called for each in names):
            late[name] = node
    if bound["__getattr__"]:  # the module has one of its own
        return {}
    while True:
        others = [node for node in tree.body if node not in late.values()]
        at_once = {name for node in others for name in _read_at_once(node)}
        ever = _read(others)
        needed = at_once & late.keys()
        # Other modules may read a table that no late code of this one reads.
        tables = {name for name, node in late.items() if isinstance(node, ast.Assign)}
        needed |= {name for name in tables if name in ever or name not in _read(late.values())}
        if not needed:
            return late
        late = {name: node for name, node in late.items() if name not in needed}


def _read(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the names that code reads, in the bodies of functions, too."""
    parts = (part for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name))
    return {part.id for part in parts if isinstance(part.ctx, ast.Load)}


def _read_at_once(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement reads when its module is loaded: not those in the bodies of functions."""
    if isinstance(node, ast.Name):
        yield node.id
    parts = ast.iter_child_nodes(node)
    if isinstance(node, _FUNCTIONS):
        parts = iter([*getattr(node, "decorator_list", ()), *node.args.defaults, *filter(None, node.args.kw_defaults)])
    for part in parts:
        yield from _read_at_once(part)


def _bound(tree: ast.AST) -> Iterator[str]:
    """Yield each name that some scope of a module binds, once for each place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, *_MATCHES)):
            yield node.name or ""
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            yield from node.names
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest


class _Attributes(ast.NodeTransformer):
    """Replace the names of what is made late by attributes of their modules."""

    def __init__(self, places: dict[str, tuple[str, str]]) -> None:
        self.places = places

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in self.places or not isinstance(node.ctx, ast.Load):
            return node
        module, name = self.places[node.id]
        return ast.Attribute(ast.Name(module, ast.Load()), name, ast.Load())
