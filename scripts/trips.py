"""Follow each option of a command through the code, and count how often it comes back to a package that it has left.

python scripts/trips.py                                     # the options of `create`
python scripts/trips.py rootless.cli.commands.run:main      # those of another command
python scripts/trips.py --files                             # every module is a package
python scripts/trips.py --tree DIR ...                      # another checkout

A package is a folder of rootless/. The program is read in the order in which it is executed; nothing is run. An option
is in a package when a function there is called with its value, or reads it from an attribute: `options.pid_file`,
`request.pid_file`. It travels with calls, with what functions return, and with attributes that hold it; what an
expression makes from it is still the option. These are not:

- what is read from a file or from the kernel (the path of config.json is an option, its contents are not);
- what is put into a dict, which is a record of many things (state.json, the cgroup's record);
- errors.

Packages that every other one uses are not counted: kernel, startup, errors, log, config_node. Branches are read
one after the other, loops once, and a function once for each set of options that it is called with.
"""

from __future__ import annotations

import ast
import itertools
import sys
from dataclasses import dataclass, field
from pathlib import Path

GROUND = {"kernel", "startup", "errors", "log", "config_node"}
# Functions of Python that return their argument in another form, so that it is still the same value.
SAME = {
    "abspath",
    "basename",
    "join",
    "fsencode",
    "fsdecode",
    "str",
    "int",
    "float",
    "bool",
    "list",
    "tuple",
    "max",
    "min",
}
NOTHING: frozenset[str] = frozenset()


@dataclass
class Value:
    """What an expression stands for.

    options: those whose value it has; kind: its class, "" if that is not known; elements: those of a tuple.
    """

    options: frozenset[str] = NOTHING
    kind: str = ""
    elements: tuple[Value, ...] = ()


@dataclass
class Module:
    """A module: its functions and classes, and what its imported names stand for."""

    name: str
    tree: ast.Module
    names: dict[str, str] = field(default_factory=dict)


Scope = dict[str, Value]


class Walk:
    """Follow the options of one command. trips: {option: the packages that it was in, one after the other}."""

    def __init__(self, tree: Path, *, files: bool = False) -> None:
        self.files = files
        self.trips: dict[str, list[str]] = {}
        self.modules: dict[str, Module] = {}
        self.functions: dict[str, ast.FunctionDef] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self.fields: dict[tuple[str, str], Value] = {}
        self.stack: list[str] = []
        self.read: dict[tuple[str, tuple[tuple[frozenset[str], str], ...]], Value] = {}
        for path in sorted(tree.glob("rootless/**/*.py")):
            name = ".".join(path.relative_to(tree).with_suffix("").parts).removesuffix(".__init__")
            self.modules[name] = Module(name, ast.parse(path.read_text()))
        for module in self.modules.values():
            self._index(module)

    def _index(self, module: Module) -> None:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    module.names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    module.names[alias.asname or alias.name.split(".")[0]] = alias.name
        checked = [node.body for node in module.tree.body if isinstance(node, ast.If)]  # if TYPE_CHECKING
        for node in [*module.tree.body, *itertools.chain(*checked)]:
            if isinstance(node, ast.FunctionDef):
                self.functions[f"{module.name}.{node.name}"] = node
            elif isinstance(node, ast.ClassDef):
                self.classes[f"{module.name}.{node.name}"] = node
                for member in node.body:
                    if isinstance(member, ast.FunctionDef):
                        self.functions[f"{module.name}.{node.name}.{member.name}"] = member

    # --- what names stand for

    def module_of(self, name: str) -> Module:
        """Return the module in which a function or class lies."""
        while name not in self.modules:
            name = name.rpartition(".")[0]
        return self.modules[name]

    def resolve(self, node: ast.expr, module: Module) -> str:
        """Return the dotted name of a function, class or module that an expression names, "" for anything else."""
        if isinstance(node, ast.Name):
            here = f"{module.name}.{node.id}"
            name = here if here in self.functions or here in self.classes else module.names.get(node.id, "")
            return self.follow_name(name)
        if isinstance(node, ast.Attribute):
            base = self.resolve(node.value, module)
            return self.follow_name(f"{base}.{node.attr}") if base else ""
        return ""

    def follow_name(self, name: str) -> str:
        """Return where a name is defined that a package hands on."""
        parent, _, last = name.rpartition(".")
        if name not in self.functions and name not in self.classes and parent in self.modules:
            return self.modules[parent].names.get(last, name)
        return name

    def kind_of(self, annotation: ast.expr | None, module: Module) -> str:
        """Return the class that an annotation names, "" for none of ours."""
        for node in ast.walk(annotation) if annotation else ():
            if isinstance(node, (ast.Name, ast.Attribute)):
                name = self.resolve(node, module)
                if name in self.classes:
                    return name
        return ""

    def package_of(self, module: str) -> str:
        """Return the package that a module lies in, "" for one that is not counted."""
        parts = module.split(".")
        package = parts[1] if len(parts) > 1 else module
        return "" if package in GROUND or parts[-1] in GROUND else module if self.files else package

    # --- the walk

    def note(self, module: Module, values: list[Value]) -> None:
        """Note that a function of the module is called with these values."""
        package = self.package_of(module.name)
        for option in NOTHING.union(*(value.options for value in values)) if package else ():
            trip = self.trips.setdefault(option, [])
            if not trip or trip[-1] != package:
                trip.append(package)

    def holds(self, value: Value) -> bool:
        """Return whether a value has, or holds in an attribute, an option."""
        return bool(value.options) or value.kind.endswith(".Options") or any(k == value.kind for k, _ in self.fields)

    def enter(self, name: str, given: list[Value], named: dict[str, Value]) -> Value:
        """Read a function that is called with these values; return what it returns."""
        node, module = self.functions[name], self.module_of(name)
        if name in self.stack or len(self.stack) > 40:
            return Value(kind=self.kind_of(node.returns, module))
        parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        scope: Scope = {}
        for parameter, value in zip(parameters, [*given, *[Value()] * len(parameters)], strict=False):
            value = named.get(parameter.arg, value)
            kind = value.kind or self.kind_of(parameter.annotation, module)
            scope[parameter.arg] = Value(value.options, kind)
        self.note(module, list(scope.values()))
        key = name, tuple((value.options, value.kind) for value in scope.values())
        if key not in self.read:
            self.stack.append(name)
            returned = self.block(node.body, scope, module)
            self.stack.pop()
            kind = returned.kind or self.kind_of(node.returns, module)
            self.read[key] = Value(returned.options, kind, returned.elements)
        return self.read[key]

    def block(self, body: list[ast.stmt], scope: Scope, module: Module) -> Value:
        """Read statements; return what they return."""
        returned = Value()
        for statement in body:
            if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
                value = self.value(statement.value, scope, module) if statement.value else Value()
                if isinstance(statement, ast.AnnAssign) and not value.kind:
                    value = Value(value.options, self.kind_of(statement.annotation, module))
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                for target in targets:
                    self.assign(target, value, scope, module)
                continue
            if isinstance(statement, ast.Return):
                if statement.value:
                    value = self.value(statement.value, scope, module)
                    returned = value if returned == Value() else Value(returned.options | value.options, returned.kind)
                continue
            if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                if isinstance(statement, ast.FunctionDef):
                    self.block(statement.body, dict(scope), module)
                continue
            inner = self.compound(statement, scope, module)
            if inner != Value():
                both = Value(returned.options | inner.options, returned.kind or inner.kind)
                returned = inner if returned == Value() else both
        return returned

    def compound(self, statement: ast.stmt, scope: Scope, module: Module) -> Value:
        """Read a statement that has others, such as `if`; return what they return."""
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, ast.expr):
                value = self.value(child, scope, module)
                if isinstance(statement, ast.For) and child is statement.iter:
                    self.assign(statement.target, Value(value.options), scope, module)
            elif isinstance(child, ast.withitem):
                value = self.value(child.context_expr, scope, module)
                if child.optional_vars:
                    self.assign(child.optional_vars, value, scope, module)
        body: list[ast.stmt] = []
        for part in ("body", "handlers", "orelse", "finalbody"):
            for each in getattr(statement, part, []):
                body += each.body if isinstance(each, ast.ExceptHandler) else [each]
        return self.block(body, scope, module)

    def assign(self, target: ast.expr, value: Value, scope: Scope, module: Module) -> None:
        """Note what a variable or an attribute has from now on."""
        if isinstance(target, ast.Name):
            scope[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            elements = value.elements if len(value.elements) == len(target.elts) else ()
            for index, element in enumerate(target.elts):
                self.assign(element, elements[index] if elements else Value(value.options), scope, module)
        elif isinstance(target, ast.Attribute):
            holder = self.value(target.value, scope, module)
            if holder.kind and (value.options or value.kind) and self.package_of(self.module_of(holder.kind).name):
                before = self.fields.get((holder.kind, target.attr), Value())
                self.fields[holder.kind, target.attr] = Value(before.options | value.options, value.kind or before.kind)

    def value(self, node: ast.expr | None, scope: Scope, module: Module) -> Value:
        """Return what an expression has. Calls in it are followed."""
        if node is None or isinstance(node, ast.Constant):
            return Value()
        if isinstance(node, ast.Name):
            return scope.get(node.id, Value())
        if isinstance(node, ast.Attribute):
            return self.attribute(node, scope, module)
        if isinstance(node, ast.Call):
            return self.call(node, scope, module)
        if isinstance(node, ast.Lambda):
            self.value(node.body, scope, module)
            return Value()
        parts = [
            self.value(child, scope, module) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)
        ]
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.comprehension):
                self.value(child.iter, scope, module)
        if isinstance(node, (ast.Compare, ast.Dict)) or (
            isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
        ):
            return Value()
        if isinstance(node, ast.IfExp):
            parts = parts[1:]  # the condition comes first
        kinds = (
            [part.kind for part in parts if part.kind]
            if isinstance(node, (ast.BoolOp, ast.IfExp, ast.NamedExpr, ast.List))
            else []
        )
        elements = tuple(parts) if isinstance(node, ast.Tuple) else ()
        value = Value(NOTHING.union(*(part.options for part in parts)), kinds[0] if kinds else "", elements)
        if isinstance(node, ast.NamedExpr):
            self.assign(node.target, value, scope, module)
        return value

    def attribute(self, node: ast.Attribute, scope: Scope, module: Module) -> Value:
        """Return what an attribute has: an option of `options`, or what was put down there."""
        holder = self.value(node.value, scope, module)
        if holder.kind.endswith(".Options"):
            value = Value(frozenset({node.attr}))
        elif (holder.kind, node.attr) in self.fields:
            value = self.fields[holder.kind, node.attr]
        else:
            declared = self.declared(holder.kind, node.attr)
            return Value(holder.options if not declared else NOTHING, declared)
        self.note(module, [value])
        return value

    def declared(self, kind: str, name: str) -> str:
        """Return the class that an attribute is declared to have."""
        for member in self.classes[kind].body if kind in self.classes else ():
            if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name) and member.target.id == name:
                return self.kind_of(member.annotation, self.module_of(kind))
        return ""

    def call(self, node: ast.Call, scope: Scope, module: Module) -> Value:
        """Follow a call, if an option or what holds one goes with it."""
        given = [self.value(argument, scope, module) for argument in node.args]
        named = {keyword.arg or "": self.value(keyword.value, scope, module) for keyword in node.keywords}
        arguments = [*given, *named.values()]
        name = "" if isinstance(node.func, ast.Name) and node.func.id in scope else self.resolve(node.func, module)
        if name in self.classes:
            made = Value(kind=name)
            if f"{name}.__init__" in self.functions:
                self.enter(f"{name}.__init__", [made, *given], named)
            return made
        if name not in self.functions and isinstance(node.func, ast.Attribute):
            holder = self.value(node.func.value, scope, module)
            method = f"{holder.kind}.{node.func.attr}"
            if method in self.functions:
                decorators = [d.id for d in self.functions[method].decorator_list if isinstance(d, ast.Name)]
                name, given = method, given if "staticmethod" in decorators else [holder, *given]
                arguments = [holder, *arguments]
            elif not name and holder.options and not holder.kind.endswith(".Options"):
                return Value(holder.options)  # a method of str, list and so on
        if name in self.functions:
            if "classmethod" in [d.id for d in self.functions[name].decorator_list if isinstance(d, ast.Name)]:
                given = [Value(kind=name.rpartition(".")[0]), *given]
            if name == "rootless.steps.execute":
                self.execute(given[0].kind, given[1])
            if any(self.holds(value) for value in arguments):
                return self.enter(name, given, named)
            return Value(kind=self.kind_of(self.functions[name].returns, self.module_of(name)))
        last = getattr(node.func, "attr", getattr(node.func, "id", ""))
        return Value(NOTHING.union(*(value.options for value in arguments))) if last in SAME else Value()

    def execute(self, step: str, context: Value) -> None:
        """Follow the context into the execute() of a kind of step, or of each kind that takes one of its class."""
        runtime = (
            "rootless.steps.context.Runtime" if context.kind == "rootless.runtime.create.Creation" else context.kind
        )
        for name, node in sorted(self.functions.items()):
            kind, _, method = name.rpartition(".")
            if method == "execute" and kind.startswith("rootless.steps.") and len(node.args.args) == 2:
                takes = self.kind_of(node.args.args[1].annotation, self.module_of(name))
                if takes and takes == runtime and step in (kind, "", "rootless.steps.Step"):
                    self.enter(name, [Value(kind=kind), context], {})


def returns(trip: list[str]) -> int:
    """Return how often a trip leads into a package in which it was before."""
    return len(trip) - len(set(trip))


def follow(function: str, tree: Path, *, files: bool = False) -> dict[str, list[str]]:
    """Return {option: its packages in their order} for the main function of a command."""
    walk = Walk(tree, files=files)
    for _ in range(2):  # because a function may read an attribute that only a later one in the file sets
        walk.trips.clear()
        walk.read.clear()
        walk.enter(function.replace(":", "."), [], {})
    return dict(sorted(walk.trips.items()))


def main(arguments: list[str]) -> int:
    """Print the trip of each option, and the sum."""
    tree = Path(__file__).resolve().parents[1]
    if "--tree" in arguments:
        at = arguments.index("--tree")
        tree = Path(arguments[at + 1])
        del arguments[at : at + 2]
    files = "--files" in arguments
    [function] = [a for a in arguments if a != "--files"] or ["rootless.cli.commands.create:main"]
    trips = follow(function, tree, files=files)
    for option, trip in trips.items():
        print(f"{option:16} {returns(trip):3}  {' '.join(package.removeprefix('rootless.') for package in trip)}")
    print(f"{'all':16} {sum(map(returns, trips.values())):3}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
