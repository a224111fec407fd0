"""The completion of shells: what the option table offers, and what bash, zsh and fish make of it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from rootless.cli.completion import complete
from rootless.cli.options import COMMANDS
from tests.support.checkout import LAUNCHER, TIMEOUT


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with a bundle, another directory, a file, and a state root with two containers."""
    for name in ("bundle", "other", "state/c1", "state/c2", "state2/d1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bundle/config.json").write_text("{}")
    (tmp_path / "image.tar").write_text("")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/rootless").symlink_to(LAUNCHER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROOTLESS_ROOT", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


CASES: list[tuple[str, str | None, set[str] | None]] = [
    ("", "words", {*COMMANDS}), ("ru", "words", {"run"}), ("--root ", "directories", set()),
    ("--root x --log-f", "words", {"--log-format"}),
    ("--log-format=", "words", {"--log-format=json", "--log-format=text"}),
    ("list --format ", "words", {"json", "table"}), ("list -f j", "words", {"json"}),
    ("convert --ow", "words", {"--owners"}), ("state ", "words", {"c1", "c2"}),
    ("--root state2 state ", "words", {"d1"}), ("--root=state2 kill ", "words", {"d1"}),
    ("exec --tty c", "words", {"c1", "c2"}), ("exec c1 ", "words", set()), ("exec c1 -", "words", set()),
    ("exec c1 ls --a", "words", set()), ("kill c1 TER", "words", {"TERM"}),
    ("stop ", "words", {"c1", "c2"}), ("wait c1 ", "words", {"c2"}),
    ("exec --cap CAP_SYS_AD", "words", {"CAP_SYS_ADMIN"}), ("run ", "paths", {"bundle"}),
    ("run ./b", "paths", {"./bundle"}), ("run o", "directories", set()), ("run -b ", "paths", {"bundle"}),
    ("create --bundle=", "paths", {"--bundle=bundle"}), ("run ./bundle --pid-", "words", {"--pid-file"}),
    ("run ./bundle ls -", "words", set()), ("run ./bundle -- ", "words", set()), ("run --pid-file ", "files", set()),
    ("remove ", "paths", {"bundle"}), ("convert ", "files", set()), ("convert -o x i", "files", set()),
    ("unshare l", "programs", set()), ("unshare ls x", "files", set()),
    ("help co", "words", {"completion", "convert"}), ("completion ", "words", {"bash", "fish", "zsh"}),
    ("cache ", "words", {"add", "ls", "prune"}), ("nosuch ", "words", set()), ("run --nosuch ./bundle -", None, None),
    ("run /nosuch/x", "directories", set()), ("-- ru", "words", {"run"}), ("run im", "files", set()),
    ("explain ./im", "files", set()), ("create im", "directories", set()), ("run bin/", "directories", set()),
    ("run -v ./", "files", set()), ("run --device /dev/", "files", set()), ("cp ", "files", set()),
    ("run --security-opt no", "words", {"no-new-privileges"}),
    ("run --host l", "programs", set()), ("run --host ls x", "files", set()), ("run --host ls -", "files", set()),
    ("run --host=false ./b", "paths", {"./bundle"}),
    ("run --host --r", "words", {"--read-only", "--rm", "--root-emulation"}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "kind", "words"), CASES, ids=[case[0] for case in CASES])
def test_what_may_come_next(place: Path, line: str, kind: str | None, words: set[str] | None) -> None:
    found = complete(line.split(" "))
    if kind is not None:
        assert (found[0], {word for word, _ in found[1]}) == (kind, words)


def test_every_flag_and_every_command_has_its_words_of_help(place: Path) -> None:
    for name in COMMANDS:
        kind, found = complete([name, "--"])
        assert kind == "words" and all(text for _, text in found)
        assert {word for word, _ in found} >= {f"--{option[0]}" for option in COMMANDS[name][2]}


def in_bash(*words: str) -> list[str]:
    """Return what bash's function offers for the last of the words, divided as bash divides them."""
    script = (
        'eval "$(rootless completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _rootless_completion; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True, timeout=TIMEOUT
    )
    assert done.stderr == ""
    return sorted(filter(None, done.stdout.split("\n")))


def test_the_script_of_bash(place: Path) -> None:
    assert in_bash("rootless", "ru") == ["run"]
    assert in_bash("rootless", "") == sorted(COMMANDS)
    assert in_bash("rootless", "state", "") == ["c1", "c2"]
    assert in_bash("rootless", "run", "./b") == ["./bundle"]
    assert in_bash("rootless", "convert", "im") == ["image.tar"]
    assert in_bash("rootless", "run", "o") == ["other"]
    assert in_bash("rootless", "run", "im") == in_bash("rootless", "explain", "im") == ["image.tar"]
    assert in_bash("rootless", "list", "--format", "=") == ["json", "table"]
    assert in_bash("rootless", "list", "--format", "=", "j") == ["json"]
    assert in_bash("rootless", "--log", "=", "im") == ["image.tar"]
    assert in_bash("~/bin/rootless", "sta") == ["start", "state"]
    assert in_bash("rootless", "exec", "c1", "-") == []


def test_the_script_of_fish(place: Path) -> None:
    if not shutil.which("fish"):
        pytest.skip("this machine lacks fish")

    def offers(line: str) -> list[str]:
        script = "rootless completion fish | source; complete -C $argv[1]"
        done = subprocess.run(["fish", "-c", script, line], capture_output=True, text=True, check=True, timeout=TIMEOUT)
        return sorted(each.partition("\t")[0] for each in done.stdout.splitlines())

    assert offers("rootless ru") == ["run"]
    assert offers("rootless state ") == ["c1", "c2"]
    assert offers("rootless run ./b") == ["./bundle"]
    assert offers("rootless convert im") == ["image.tar"]
    assert offers("rootless list --format=j") == ["--format=json"]
    assert offers("rootless run --pid-") == ["--pid-file"]
    assert offers("rootless run o") == ["other/"]
    assert offers("rootless run im") == ["image.tar"]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("rootless conv", "rootless convert "), ("rootless delete c", "rootless delete c"),
        ("rootless run ./b", "rootless run ./bundle/"), ("rootless list --form", "rootless list --format "),
        ("rootless convert im", "rootless convert image.tar "), ("rootless run im", "rootless run image.tar "),
    ],
)  # fmt: skip
def test_the_key_in_an_interactive_shell(place: Path, shell: str, typed: str, completed: str) -> None:
    """The test types the line with a Tab, and an alias runs `echo` in place of the command."""
    if not shutil.which(shell):
        pytest.skip(f"this machine lacks {shell}")
    start = {
        "bash": 'eval "$(rootless completion bash)"; bind "set enable-bracketed-paste off"; PS1="READY> "\n',
        "zsh": 'autoload -U compinit; compinit -D -u; eval "$(rootless completion zsh)"; PS1="READY> "\n',
    }[shell]
    pid, master = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "dumb"
        os.execvp(shell, [shell, *(["--norc", "--noprofile"] if shell == "bash" else ["-f"]), "-i"])
    try:
        os.write(master, start.encode())
        _read_until(master, "READY> ", after=len(start))
        os.write(master, typed.encode() + b"\t")
        assert completed in _read_until(master, completed)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(master)


def _read_until(master: int, text: str, after: int = 0) -> str:
    """Return all that the shell has written once `text` is in it beyond the first characters, or what came until the
    time was over.
    """
    seen, end = "", time.monotonic() + TIMEOUT
    while text not in seen[after:] and time.monotonic() < end:
        if select.select([master], [], [], 1)[0]:
            seen += os.read(master, 65536).decode(errors="replace")
    return seen


def test_without_a_name_the_script_is_for_the_users_shell(place: Path) -> None:
    for shell, first in (("/bin/zsh", "#compdef"), ("/bin/dash", "# bash"), ("/usr/bin/fish", "# fish")):
        env = {**os.environ, "SHELL": shell}
        done = subprocess.run(["rootless", "completion"], env=env, capture_output=True, text=True, check=True)
        assert done.stdout.startswith(first)
    done = subprocess.run(["rootless", "completion", "tcsh"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "bash, zsh or fish" in done.stderr
