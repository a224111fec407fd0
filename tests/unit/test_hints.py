"""Hints about the machine are in one table; the code uses each of them, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.errors import RootlessError, advice
from rootless.kernel.hints import HINTS, ROOT, USER

CHECKOUT = Path(__file__).resolve().parents[2]
TABLES = (CHECKOUT / "rootless/kernel/hints.py", CHECKOUT / "oci/hints.py")
# Words of a hint about the machine, not about what the user has typed.
MACHINE = re.compile(
    r"\b(apt|apk|dnf|pip install|Debian|Fedora|Ubuntu|package|sysctl|modprobe|systemctl|loginctl|journalctl|kernel"
    r"|Linux \d|CONFIG_\w+|SELinux|AppArmor|initramfs|subuid|newuidmap|setuid|XDG_RUNTIME_DIR|chmod|usermod|mount -t)\b"
    r"|/proc/|/sys/|/etc/"
)
# The kernel's own words are not ours.
KERNELS = "the kernel says"


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted([*CHECKOUT.glob("rootless/**/*.py"), *CHECKOUT.glob("oci/**/*.py")]):
        if path not in TABLES:
            yield str(path.relative_to(CHECKOUT)), ast.parse(path.read_text())


def literals(node: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression can have."""
    if isinstance(node, (ast.Call, ast.Compare)):
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.expr) and not isinstance(each, ast.Call):
            yield from literals(each)


def hints(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of what is passed as `hint`, or assigned to such a name."""
    for node in ast.walk(tree):
        values: list[ast.expr] = []
        if isinstance(node, ast.Call):
            values += [keyword.value for keyword in node.keywords if keyword.arg == "hint"]
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("RootlessError", "SpecError", "OciError", "from_os") and len(node.args) > 3:
                values.append(node.args[3])
        elif isinstance(node, ast.Assign) and any(ast.unparse(target).endswith("hint") for target in node.targets):
            values.append(node.value)
        for value in values:
            yield from ((value.lineno, text) for text in literals(value))


def test_a_hint_about_the_machine_is_in_the_table() -> None:
    wrong = [
        f"{path}:{line}: {text}"
        for path, tree in sources()
        for line, text in hints(tree)
        if MACHINE.search(text) and KERNELS not in text
    ]
    assert not wrong, "move them to rootless/kernel/hints.py or oci/hints.py:\n" + "\n".join(wrong)


def test_a_hint_of_doctor_is_in_the_table() -> None:
    wrong = [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "Hint"
        and isinstance(node.args[0], (ast.Constant, ast.JoinedStr))
    ]
    assert not wrong


def asked_for() -> dict[str, str]:
    """Return {name of a hint: where the code uses it}."""
    found = {}
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in ("advice", "hint"):
                    for text in literals(node.args[0]):
                        found[text] = path
            elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "HINTS":
                for text in literals(node.slice):
                    found[text] = path
            elif isinstance(node, ast.Assign):  # the name of one of two is chosen first
                found.update(dict.fromkeys((text for text in literals(node.value) if text in HINTS), path))
    return found


def test_every_hint_that_is_asked_for_is_in_the_table_and_the_other_way_round() -> None:
    found = asked_for()
    unknown = {name: path for name, path in found.items() if name not in HINTS}
    assert not unknown
    assert not HINTS.keys() - found.keys()


@pytest.mark.parametrize("name", sorted(HINTS))
def test_a_command_says_who_types_it(name: str) -> None:
    hint = HINTS[name]
    assert hint.text and "\n" not in hint.text
    assert bool(hint.command) == (hint.who in (ROOT, USER))


@pytest.mark.parametrize("name", sorted(HINTS))
def test_an_error_fills_in_the_words(name: str) -> None:
    words = {word: f"<{word}>" for word in re.findall(r"\{(\w+)\}", HINTS[name].text + HINTS[name].command)}
    shown = str(RootlessError("what", hint=advice(name, **words)))
    assert shown.startswith("what; hint: ") and "{" not in shown.replace('{"', "")
    assert all(f"<{word}>" in shown for word in re.findall(r"\{(\w+)\}", HINTS[name].text))
