"""Compile source to byte code without docstrings, annotations, imports for type checkers, and line numbers.

A third less has to be read at each start. codecache.py stores the result.
"""

import ast
from types import CodeType


def compile_lean(source: bytes, file: str) -> CodeType:
    """Return the code of a module. Raises SyntaxError."""
    tree = ast.fix_missing_locations(_Lean().visit(ast.parse(source)))
    return _without_lines(compile(tree, file, "exec", dont_inherit=True, optimize=2))


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
