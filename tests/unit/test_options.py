"""The command line accepts Go's and GNU's spellings, and has one error for everything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.cli import help as cli
from rootless.cli import options
from rootless.cli.options import UsageError, parse
from rootless.errors import RootlessError


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--bundle", "/b", "c"], ["run", "--bundle=/b", "c"], ["run", "-b", "/b", "c"], ["run", "-b=/b", "c"],
        ["run", "-bundle", "/b", "c"], ["run", "c", "--bundle", "/b"], ["run", "c", "-b", "/b", "--"],
    ],
)  # fmt: skip
def test_spellings_of_a_flag(words: list[str]) -> None:
    found = parse(words)
    assert (found.command, found.bundle, found.container_id) == ("run", "/b", "c")


def test_update_has_the_short_flag_of_docker_and_podman() -> None:
    assert parse(["update", "-m", "256m", "c"]).memory == "256m"


def test_global_flags_stand_before_the_command() -> None:
    found = parse(["--root", "/r", "--log-format=json", "--debug", "state", "c"])
    assert (found.root, found.log_format, found.debug, found.command) == ("/r", "json", True, "state")


def test_after_two_dashes_nothing_is_a_flag() -> None:
    assert parse(["run", "c", "--", "sh", "-c", "--debug"]).args == ["sh", "-c", "--debug"]


def test_flags_without_a_value_may_be_written_together() -> None:
    options = parse(["run", "-it", "-dt", "./b", "ls", "-it"])
    assert options.tty and options.interactive and options.detach and options.args == ["ls", "-it"]


def test_with_host_all_words_from_the_first_on_are_the_programs() -> None:
    for words in (["ls", "-d", "/"], ["df", "-h"], ["sh", "-c", "x"], ["ls", "--help"], ["ls", "--", "-d"], ["true"]):
        options = parse(["run", "--rm", "--host", *words])
        assert [options.container_id, *options.args] == words and not options.detach and not options.help
    options = parse(["run", "--host=false", "c", "-d", "ls"])
    assert options.detach and options.args == ["ls"]


def test_unshare_takes_the_rest_as_it_is() -> None:
    assert parse(["unshare", "ls", "-l", "--all"]).args == ["ls", "-l", "--all"]


@pytest.mark.parametrize(("word", "value"), [("true", True), ("false", False), ("1", True), ("0", False), ("T", True)])
def test_boolean_values(word: str, value: bool) -> None:
    assert parse(["delete", f"--force={word}", "c"]).force is value


def test_the_signal_may_be_missing() -> None:
    assert parse(["kill", "c"]).signal == ""
    assert parse(["kill", "c", "KILL"]).signal == "KILL"


def test_a_negative_looking_value_belongs_to_its_flag() -> None:
    assert parse(["run", "--pid-file", "-x", "c"]).pid_file == "-x"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nosuch"], "no such command"), (["state"], "missing"), (["state", "a", "b"], "unexpected argument"),
        (["run", "--nosuch", "c"], "not defined: --nosuch"), (["run", "c", "--bundle"], "needs an argument"),
        (["run", "--preserve-fds", "x", "c"], "a number"), (["run", "--preserve-fds=-1", "c"], "a number"),
        (["delete", "--force=maybe", "c"], "boolean"), (["run", "-xb", "c"], "not defined"),
        (["doctor", ""], "doctor: the bundle or image is an empty word"), (["remove", ""], "the bundle is an empty"),
        (["convert", ""], "the image is an empty"), (["cp", "a", ""], "the target is an empty"),
    ],
)  # fmt: skip
def test_mistakes(words: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        parse(words)


_FLAGS = sorted({f"--{o[0]}" for _, _, table in options.COMMANDS.values() for o in table})
_WORDS = st.one_of(
    st.sampled_from([*options.COMMANDS, *_FLAGS, "--", "-", "--=", "-b", "=", "c", "--root"]), st.text(max_size=8)
)


@given(st.lists(_WORDS, max_size=8))
def test_any_words_parse_or_are_a_usage_error(words: list[str]) -> None:
    try:
        parse(words)
    except UsageError as error:
        assert "\n" not in error.message()


def test_every_command_has_a_summary_and_unique_flags() -> None:
    for name, (summary, _, table) in options.COMMANDS.items():
        assert summary, name
        names = [o[0] for o in table] + [o[1] for o in table if o[1]]
        assert len(names) == len(set(names)), name


def test_help_without_click_names_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("site.main", lambda: None)
    with pytest.raises(RootlessError, match="needs the Python package click") as refused:
        cli.show_help("run")
    assert refused.value.hint


@pytest.mark.parametrize(
    ("words", "args"),
    [
        (["run", "./b", "ls", "-d", "/root"], ["ls", "-d", "/root"]), (["run", "./b", "--", "ls", "-h"], ["ls", "-h"]),
        (["run", "c", "-b", "/b", "ls", "-d"], ["ls", "-d"]), (["run", "c", "--", "--", "x"], ["--", "x"]),
        (["run", "-d", "c", "-b=/b", "--", "-t"], ["-t"]), (["run", "c", "ls", "--", "-d"], ["ls", "--", "-d"]),
        (["exec", "c", "df", "-h"], ["df", "-h"]), (["exec", "c", "--", "--help"], ["--help"]),
        (["exec", "c", "-t"], ["-t"]), (["exec", "-t", "c", "--", "--", "x"], ["--", "x"]),
        (["exec", "--", "c", "--", "ls"], ["ls"]), (["ps", "c", "-h"], ["-h"]), (["ps", "c", "--", "aux"], ["aux"]),
        (["unshare", "df", "-h"], ["df", "-h"]), (["unshare", "--", "--x", "--"], ["--x", "--"]),
    ],
)  # fmt: skip
def test_what_is_the_programs(words: list[str], args: list[str]) -> None:
    found = parse(words)
    assert (found.args, found.help) == (args, False)


@pytest.mark.parametrize(
    "words", [["-h"], ["run", "-h"], ["run", "c", "--help"], ["exec", "-t", "-help"], ["--help", "run"]]
)
def test_where_the_help_is_ours(words: list[str]) -> None:
    assert parse(words).help


def test_a_value_is_no_flag() -> None:
    found = parse(["--root", "-h", "run", "--pid-file", "--help", "c"])
    assert (found.root, found.pid_file, found.help) == ("-h", "--help", False)


def test_a_flag_without_its_value_does_not_suggest_itself() -> None:
    with pytest.raises(UsageError, match="needs an argument: --pid-file; hint: rootless run --pid-file FILE"):
        parse(["run", "--pid-file"])
