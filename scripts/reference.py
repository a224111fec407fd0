"""Write docs/reference/commands.md, the man pages and the completion scripts from the table of commands and flags.

The man pages are in docs/reference/man and the scripts in docs/reference/completions, where packages take them from.

python scripts/reference.py           # write them
python scripts/reference.py --check   # only compare: 1, and the names of the files that are out of date
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))
from rootless import __version__  # noqa: E402
from rootless.cli.commands.completion import SCRIPTS  # noqa: E402
from rootless.cli.help_text import OPERANDS  # noqa: E402
from rootless.cli.options import COMMANDS, GLOBAL, Option  # noqa: E402
from rootless.kernel.hints import HINTS  # noqa: E402

REFERENCE = CHECKOUT / "docs/reference"
# The names under which the shells look for a script.
COMPLETIONS = {"bash": "rootless", "zsh": "_rootless", "fish": "rootless.fish"}
NAMES = {"container_id": "ID", "bundle_dir": "BUNDLE", "subject": "BUNDLE|ARCHIVE"}
ONE_LINE = "run and manage OCI containers without root and without a daemon"
# The commands in the order of the page. A command that is in no group is an error.
GROUPS = {
    "Run containers": (
        "run",
        "create",
        "start",
        "exec",
        "kill",
        "stop",
        "wait",
        "cp",
        "delete",
        "pause",
        "resume",
        "update",
    ),
    "Look at containers": ("explain", "list", "state", "ps", "events"),
    "Images and bundles": ("convert", "import", "inspect", "pack", "spec", "remove", "unshare", "cache"),
    "Checkpoints": ("checkpoint", "restore"),
    "About the program": ("doctor", "features", "completion", "help", "speedup"),
}
INTRODUCTION = """\
Global flags stand before the command. Every flag takes one dash or two, and `--flag value` or `--flag=value`. What
follows the id of `exec` and `ps`, and all that follows `unshare`, belongs to the program that is run.

[Compatibility](compatibility.md) compares the commands with runc's; [exit codes](exit-codes.md) and
[environment variables](environment.md) have pages of their own. The same text is in the man pages:
`man rootless-run`.\
""".splitlines()


TROUBLESHOOTING = """\
`rootless doctor` looks at everything that decides whether and how containers run on this machine. Each line says `ok`,
`limited` or `missing`; below it stand what does not work for that reason, and the command that mends it. The last line,
and the exit code, say whether a plain `run` works: doctor has tried one.

- `rootless doctor BUNDLE` and `rootless doctor IMAGE.tar` also say what in the config or the archive cannot work here.
  For a bundle, doctor creates and deletes a container whose program never starts. A config with hooks, a terminal, or
  the cgroup or namespaces of others is only planned, because `create` would do something outside of the container.
- `--json` prints the same for programs: `works`, and `lines` with `name`, `status`, `detail`, `cost`, `hint`, `command`
  and `who`.
- `--clean` lists and removes what is left: ended containers with their cgroups and mounts, half-written entries of the
  cache, code of installations that are gone, and throw-away roots without a container. Do not use it where an engine
  still asks for containers that have ended. A container that still runs is only named, if its state directory is gone,
  as after a log-out that has removed `/run/user/UID`. Only containers of root without a mount namespace can leave
  mounts. All other mounts are in a namespace that the kernel removes with its last process, also after `kill -9`.

An error message takes its hint from the same table as doctor:\
""".splitlines()


def usage(name: str) -> str:
    """Return the usage line of a command, as its help has it: `rootless kill [OPTIONS] ID [SIGNAL]`."""
    if name in OPERANDS:
        return f"rootless {name} {OPERANDS[name]}"
    _, positionals, options = COMMANDS[name]
    words = ["rootless", name] + (["[OPTIONS]"] if options else [])
    for positional in positionals:
        key = positional.rstrip("?*")
        word = NAMES.get(key, key.upper())
        words.append(f"[{word}]" if positional[-1] in "?*" else word)
    return " ".join(words)


def flag(option: Option) -> str:
    """Return how a flag is written: `-b, --bundle DIR`."""
    name, short, kind, metavar, _ = option
    if kind == "maybe":
        return f"--{name}[={metavar}]"
    return (f"-{short}, " if short else "") + f"--{name}" + (f" {metavar}" if kind != "flag" else "")


def sentence(option: Option) -> str:
    """Return the help of a flag, and whether it may be repeated."""
    return option[4] + (" (may be repeated)" if option[2] == "list" else "")


def groups() -> dict[str, list[str]]:
    """Return the commands that exist, in their groups. Raises SystemExit for one that is in none."""
    known = {name for names in GROUPS.values() for name in names}
    if lost := sorted(set(COMMANDS) - known):
        raise SystemExit(f"scripts/reference.py: give these commands a place in GROUPS: {', '.join(lost)}")
    existing = {title: [name for name in names if name in COMMANDS] for title, names in GROUPS.items()}
    return {title: names for title, names in existing.items() if names}


def markdown() -> str:
    """Return docs/reference/commands.md."""
    lines = [
        "<!-- Written by scripts/reference.py from the table of options: change that, then run `make reference`. -->"
    ]
    lines += ["", "# Commands", ""]
    lines += INTRODUCTION
    for title, names in groups().items():
        lines += ["", f"**{title}**", "", "| command | what it does |", "|---|---|"]
        lines += [f"| [`{name}`](#{name}) | {COMMANDS[name][0]} |" for name in names]
    lines += ["", "## Global flags", "", *_table(GLOBAL)]
    for names in groups().values():
        for name in names:
            lines += ["", f"## {name}", "", f"{_upper(COMMANDS[name][0])}.", "", "```text", usage(name), "```"]
            lines += ["", *_table(COMMANDS[name][2])] if COMMANDS[name][2] else []
    return "\n".join(lines) + "\n"


def troubleshooting() -> str:
    """Return docs/guide/troubleshooting.md."""
    lines = [
        "<!-- Written by scripts/reference.py from rootless/kernel/hints.py: change that, run `make reference`. -->",
        "",
        "# Troubleshooting",
        "",
        *TROUBLESHOOTING,
        "",
        "| the hint of the message, and of doctor | what to type | who |",
        "|---|---|---|",
    ]
    for hint in HINTS.values():
        text, command = (re.sub(r"\{(\w+)\}", lambda m: m[1].upper(), words) for words in (hint.text, hint.command))
        lines.append(f"| {text} | {f'`{command}`' if command else ''} | {hint.who} |")
    return "\n".join(lines) + "\n"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _table(options: list[Option]) -> list[str]:
    rows = [f"| `{flag(option)}` | {sentence(option)} |" for option in options]
    return ["| flag | what it does |", "|---|---|", *(_escape_bars(row) for row in rows)]


def _escape_bars(row: str) -> str:
    """Return a table's row with the bars of `text|json` escaped, which would else end the cell."""
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in row[2:-2].split(" | ")) + " |"


# ---------------------------------------------------------------------------------------------------- man pages


def man_pages() -> dict[str, str]:
    """Return the text of each man page by its file's name."""
    pages = {"rootless.1": _main_page()}
    for name in COMMANDS:
        pages[f"rootless-{name}.1"] = _command_page(name)
    return pages


def _main_page() -> str:
    lines = [
        *_head("rootless", ONE_LINE),
        ".SH SYNOPSIS",
        r".B rootless",
        r"[GLOBAL OPTIONS] COMMAND [OPTIONS] [ARG...]",
    ]
    lines += [".SH DESCRIPTION", _roff(
        "rootless makes a bundle of an image archive and runs it as a container, as the user who types the command."
        " It needs no daemon, no setuid program of its own and no root. Commands, flags and exit codes are runc's"
        " where runc has them, so podman, docker, containerd and buildah use it in place of runc.")]  # fmt: skip
    for title, names in groups().items():
        lines.append(f".SS {_roff(title)}")
        for name in names:
            lines += [".TP", rf".BR rootless\-{_roff(name)} (1)", _roff(_upper(COMMANDS[name][0]) + ".")]
    lines += [".SH OPTIONS", *_options(GLOBAL)]
    lines += [".SH EXIT STATUS", *_rows("exit-codes.md"), ".SH ENVIRONMENT", *_rows("environment.md")]
    lines += [".SH EXAMPLES", ".nf", *map(_roff, EXAMPLES), ".fi"]
    others = [rf".BR rootless\-{_roff(name)} (1)," for name in COMMANDS]
    lines += [".SH SEE ALSO", *others, ".BR runc (8),", ".BR user_namespaces (7)"]
    return "\n".join(lines) + "\n"


EXAMPLES = (
    "rootless convert image.tar",
    "rootless run ./image -- sh -c 'id; ps'",
    "rootless run --dry-run ./image",
)


def _command_page(name: str) -> str:
    summary, _, options = COMMANDS[name]
    lines = [*_head(f"rootless-{name}", summary), ".SH SYNOPSIS", f".B {_roff(usage(name))}"]
    lines += [".SH DESCRIPTION", _roff(_upper(summary) + ".")]
    if options:
        lines += [".SH OPTIONS", *_options(options)]
    lines += [".SH SEE ALSO", ".BR rootless (1)"]
    return "\n".join(lines) + "\n"


def _head(name: str, summary: str) -> list[str]:
    title = f'.TH {_roff(name.upper())} 1 "" "rootless {__version__}" "User Commands"'
    return [title, ".SH NAME", rf"{_roff(name)} \- {_roff(summary)}"]


def _options(options: list[Option]) -> list[str]:
    lines = []
    for option in options:
        lines += [".TP", f".B {_roff(flag(option))}", _roff(_upper(sentence(option)) + ".")]
    return lines


def _rows(page: str) -> list[str]:
    """Return the rows of the first table of a reference page as tagged paragraphs."""
    lines = []
    for row in re.findall(r"^\| (`.*?) \| (.*?) \|$", (REFERENCE / page).read_text(), re.MULTILINE):
        first, second = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", cell).replace("`", "") for cell in row)
        lines += [".TP", f".B {_roff(first)}", _roff(_upper(second))]
    return lines


def _roff(text: str) -> str:
    """Return text in which nothing is a request or an escape of roff (groff_char(7))."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return r"\&" + text if text[:1] in (".", "'") else text


def main(arguments: list[str]) -> int:
    """Write the files, or with --check name those that differ."""
    wanted = {REFERENCE / "commands.md": markdown()}
    wanted[CHECKOUT / "docs/guide/troubleshooting.md"] = troubleshooting()
    wanted |= {REFERENCE / "man" / name: text for name, text in man_pages().items()}
    wanted |= {REFERENCE / "completions" / COMPLETIONS[shell]: text for shell, text in SCRIPTS.items()}
    extra = set((REFERENCE / "man").glob("*.1")) - set(wanted)
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if arguments == ["--check"]:
        for path in sorted([*stale, *extra]):
            print(f"{path.relative_to(CHECKOUT)} is out of date: run `make reference`")
        return 1 if stale or extra else 0
    for name in ("man", "completions"):
        (REFERENCE / name).mkdir(exist_ok=True)
    for path in extra:
        path.unlink()
    for path in stale:
        path.write_text(wanted[path])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
