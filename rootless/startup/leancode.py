"""Compile source to byte code without docstrings, annotations, imports for type checkers, and line numbers.

The functions that a command hardly ever calls are stored apart, and a short one stands in for each. codecache.py stores
the result, of which each start reads less than half.
"""

from __future__ import annotations

import ast
import inspect
import marshal
from collections.abc import Container
from types import CodeType
from typing import Any

from rootless.startup import codecache

_SHORT = 250  # bytes of marshal data; the stand-in for a shorter function would not be shorter


def compile_lean(source: bytes, file: str) -> CodeType:
    """Return the code of a module. Raises SyntaxError."""
    return compiled(lean_tree(source), file)


def lean_tree(source: bytes) -> ast.Module:
    """Return a module's syntax tree without what no code reads at run time. Raises SyntaxError."""
    tree = ast.parse(source)
    _Lean().visit(tree)
    return tree


def compiled(tree: ast.Module, file: str) -> CodeType:
    """Return the code of a syntax tree without line numbers."""
    return _without_lines(compile(ast.fix_missing_locations(tree), file, "exec", dont_inherit=True, optimize=2))


class Store:
    """Hold the code of the functions that are loaded at their first call. codecache.function loads them."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.shared: dict[object, object] = {}

    def add(self, code: Any) -> int:
        """Store code, or a list of entries; return its place."""
        data = marshal.dumps(code)
        place = len(self.data) * codecache.LIMIT + len(data)
        self.data += data
        return place

    def thin(self, code: CodeType, called: Container[str], prefix: str = "") -> CodeType:
        """Return a module's code in which stand-ins replace the functions that are not in `called`.

        called: qualified names. A function that uses variables of another one stays, because a stand-in has none of
        them; so does one that is short.
        """
        consts = []
        for const in code.co_consts:
            if isinstance(const, CodeType):
                name = f"{prefix}{const.co_name}"
                is_function = const.co_flags & inspect.CO_NEWLOCALS and const.co_name.isidentifier()
                if is_function and name not in called and not const.co_freevars:
                    const = self._stand_in(const)
                elif is_function:
                    const = self.thin(const, called, f"{name}.<locals>.")
                else:
                    const = self.thin(const, called, f"{name}.")
            consts.append(const)
        return code.replace(co_consts=tuple(consts))

    def _stand_in(self, code: CodeType) -> CodeType:
        if len(marshal.dumps(code)) < _SHORT:
            return code
        place = self.add(code)
        given, passed = _arguments(code)
        text = (
            f"def {code.co_name}({given}):\n"
            " from rootless.startup.codecache import function as _stored\n"  # a parameter may be called `function`
            f" return _stored({place})({passed})\n"
        )
        module = compile(text, code.co_filename, "exec", dont_inherit=True, optimize=2)
        stand_in = _without_lines(next(const for const in module.co_consts if isinstance(const, CodeType)))
        # The same objects in all stand-ins: marshal writes, and each start makes, one of each.
        return stand_in.replace(
            co_names=self._share(stand_in.co_names),
            co_code=self._share(stand_in.co_code),
            co_filename=code.co_filename,
            co_name=code.co_name,
            co_consts=tuple(map(self._share, stand_in.co_consts)),
        )

    def _share(self, value: Any) -> Any:
        return self.shared.setdefault((type(value), value), value)


def _arguments(code: CodeType) -> tuple[str, str]:
    """Return a function's parameters, without defaults, and the arguments that pass them on unchanged."""
    names = code.co_varnames
    total = code.co_argcount + code.co_kwonlyargcount
    keywords = names[code.co_argcount : total]
    given, passed = list(names[: code.co_argcount]), list(names[: code.co_argcount])
    if code.co_posonlyargcount:
        given.insert(code.co_posonlyargcount, "/")
    more = names[total:]
    if code.co_flags & inspect.CO_VARARGS:
        given.append(f"*{more[0]}")
        passed.append(f"*{more[0]}")
        more = more[1:]
    elif keywords:
        given.append("*")
    given += keywords
    passed += [f"{name}={name}" for name in keywords]
    if code.co_flags & inspect.CO_VARKEYWORDS:
        given.append(f"**{more[0]}")
        passed.append(f"**{more[0]}")
    return ", ".join(given), ", ".join(passed)


class _Lean(ast.NodeTransformer):
    """Remove annotations and what only type checkers import, because no code reads an annotation at run time."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return self.generic_visit(ast.Assign([node.target], node.value)) if node.value else ast.Pass()

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.AST]:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return [self.visit(statement) for statement in node.orelse] or ast.Pass()
        return self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        return ast.Pass() if node.module == "__future__" else node


def _without_lines(code: CodeType) -> CodeType:
    inner = tuple(_without_lines(const) if isinstance(const, CodeType) else const for const in code.co_consts)
    # The real co_qualname is not needed, because it only appears in tracebacks.
    return code.replace(co_linetable=b"", co_qualname=code.co_name, co_consts=inner)
