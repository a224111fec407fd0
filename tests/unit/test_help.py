"""The help has every command in one group, the commands for people first, examples that parse, and lines that fit."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from rootless.cli import table
from rootless.cli.commands import list_
from rootless.cli.help import GROUPS, INSTEAD_OF_OTHER_FLAGS, show_help, suggest
from rootless.cli.help_text import COMMAND_GROUPS, EXAMPLES
from rootless.cli.options import COMMANDS, UsageError, parse

CHECKOUT = Path(__file__).resolve().parents[2]
NAMES = ["", *COMMANDS]


def shown(name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int = 100) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    show_help(name)
    return capfd.readouterr().out


def test_every_command_is_in_one_group_and_peoples_come_first() -> None:
    listed = [name for names in COMMAND_GROUPS.values() for name in names]
    assert sorted(listed) == sorted(COMMANDS)
    assert listed.index("run") < listed.index("convert") < listed.index("create") < listed.index("features")


def test_every_command_has_examples_that_parse() -> None:
    assert EXAMPLES.keys() == set(NAMES)
    for name, examples in EXAMPLES.items():
        for line, words in examples:
            assert words and not words.endswith(".")
            for part in line.split(" && "):
                program, *arguments = shlex.split(part.partition(" >")[0])
                if program == "rootless":
                    parse(arguments)
        assert any(line.startswith(f"rootless {name}") for line, _ in examples)


def test_without_a_terminal_the_help_has_80_columns(capfd, monkeypatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("os.get_terminal_size", lambda _: (_ for _ in ()).throw(OSError))
    show_help("run")
    lines = capfd.readouterr().out.splitlines()
    assert 70 < max(map(len, lines)) <= 80


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize("name", NAMES)
def test_the_help_fits(name: str, columns: int, capfd, monkeypatch) -> None:
    text = shown(name, capfd, monkeypatch, columns)
    typed = [line for line, _ in EXAMPLES[name]]
    too_long = [line for line in text.splitlines() if len(line) > columns and line.strip() not in typed]
    assert not [line for line in too_long if columns >= 80 or ("|" not in line and "--" not in line)], too_long
    assert "Examples:" in text and (f"docs/reference/commands.md#{name}" if name else "docs/guide/run.md") in text
    assert columns < 100 or len(text.splitlines()) < 110


def test_wide_terminals_get_no_wider_help(capfd, monkeypatch) -> None:
    for name in ("", "run", "exec", "convert"):
        assert max(map(len, shown(name, capfd, monkeypatch, 300).splitlines())) <= 100


def test_runs_flags_are_grouped(capfd, monkeypatch) -> None:
    text = shown("run", capfd, monkeypatch)
    places = [text.index(f"\n{title} (such as ") for title in GROUPS]
    assert places == sorted(places) and text.index("\nOptions:") < places[0]


# --- tables


def test_a_table_is_aligned_and_fits() -> None:
    rows = [
        ("ID", "BUNDLE", "AGE"),
        ("a", "/home/somebody/with/a/long/path/to/a/bundle", "2 minutes ago"),
        ("b", "/b", "-"),
    ]
    whole = table.laid_out(rows, 0).splitlines()
    assert whole[1].split(maxsplit=2) == list(rows[1])
    fitted = table.laid_out(rows, 40).splitlines()
    assert max(map(len, fitted)) <= 40 and fitted[1].startswith("a    /home/") and fitted[1].endswith("2 minutes ago")
    assert len({line.index(word) for line, word in zip(fitted, ("AGE", "2 min", "-"), strict=True)}) == 1
    assert table.laid_out(rows, 5)  # no terminal is too narrow


def test_columns_that_a_narrow_terminal_can_do_without_are_left_out() -> None:
    rows = [("ID", "WHEN", "PATH", "SIZE"), ("a" * 20, "w" * 30, "p" * 30, "1 B")]
    words = [
        (table.laid_out(rows, width, right=(3,), dispensable=(1, 3)).splitlines()[0].split())
        for width in (0, 70, 45, 35)
    ]
    assert words == [list(rows[0]), list(rows[0]), ["ID", "PATH", "SIZE"], ["ID", "PATH"]]


@pytest.mark.parametrize("columns", [60, 80])
def test_the_list_of_containers_fits(monkeypatch, columns: int) -> None:
    monkeypatch.setattr("rootless.cli.table.columns", lambda: columns)
    report: Any = {"id": "web-" + "x" * 60, "pid": 1 << 20, "status": "running", "bundle": "/home/somebody/a/bundle",
                   "created": "2026-11-29T19:57:40.198334217Z", "owner": "somebody"}  # fmt: skip
    lines = list_._table([report]).splitlines()
    assert max(map(len, lines)) <= columns, lines
    assert lines[0].split()[:4] == ["ID", "PID", "STATUS", "BUNDLE"] and "AGE" in lines[0] and "CREATED" not in lines[0]


def test_nothing_is_shortened_where_there_is_no_terminal(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(table.os, "isatty", lambda _: False)
    assert table.columns() == 0
    monkeypatch.setattr(table.os, "isatty", lambda _: True)
    assert table.columns() == 20


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "1 second ago"), (1, "1 second ago"), (59, "59 seconds ago"), (60, "1 minute ago"), (150, "2 minutes ago"),
        (7200, "2 hours ago"), (86400 * 3, "3 days ago"), (86400 * 70, "2 months ago"), (86400 * 800, "2 years ago"),
        (-5, "1 second ago"),
    ],
)  # fmt: skip
def test_ages(monkeypatch, seconds: int, words: str) -> None:
    monkeypatch.setattr(table.time, "time", lambda: 1_000_000_000.5)
    assert table.age(1_000_000_000 - seconds) == words


def test_control_characters_are_escaped_in_tables() -> None:
    assert "\x1b" not in table.laid_out([("ID",), ("a\x1b[2J",)], 0)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["run", "--json", "box"], "rootless run --help"),  # not --mount, which only has the dashes in common
        (["list", "--jso"], "did you mean '--json'?"),
        (["--log-lvel", "debug", "list"], "did you mean '--log-level'?"),
        (["run", "--log-level", "debug", "box"], "it stands before the command: rootless --log-level ... run"),
        (["--rm", "run", "box"], "it stands behind the command: rootless run --rm"),
        (["--clean"], "it stands behind the command: rootless doctor --clean"),
        (["rnu"], "did you mean 'run'?"),
        (["-it", "run"], "rootless --help"),
        (["kill", "-s", "KILL", "box"], INSTEAD_OF_OTHER_FLAGS["kill", "-s"]),
        *(([*words, "box"], hint) for words, hint in INSTEAD_OF_OTHER_FLAGS.items()),
    ],
)
def test_a_wrong_word_gets_a_suggestion(words: list[str], hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words)
    suggest(caught.value)
    assert caught.value.hint == hint
