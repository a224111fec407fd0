"""What may come next on a command line, for the completion of bash, zsh and fish. It reads the option table, so a new
flag completes without further work.

The script of a shell (commands/completion.py prints it) asks `rootless completion answer -- SHELL WORD...`;
the last word is the one to complete. The answer is one line for the kind, then a line for each word that fits: `word
TAB help`. Kinds: `words` has all there is to offer; `paths` too, and they are directories; with `files`, `directories`
and `programs` the shell looks for itself.
"""

from __future__ import annotations

import os

from rootless.cli.options import COMMANDS, GLOBAL, VERBATIM, Option

_HELP: Option = ("help", "h", "flag", "", "show this and end")
_KINDS = {"FILE": "files", "DIR": "directories", "PATH": "files", "BUNDLE": "directories", "IMAGE.tar": "files",
          "IMAGE": "files"}  # fmt: skip
Answer = tuple[str, list[tuple[str, str]]]
_NOTHING: Answer = ("words", [])


class Line:
    """What the words before the one to complete have said.

    command: "" before there is one; words: its words that are no flags; values: the flags' values; waiting: the flag
    whose value comes next; over: a `--` has ended the flags; program: the words are a program's from here on.
    """

    def __init__(self) -> None:
        self.command = ""
        self.words: list[str] = []
        self.values: dict[str, str] = {}
        self.waiting: Option | None = None
        self.over = False
        self.program = False

    def table(self) -> list[Option]:
        """The flags that may stand here."""
        return [*(COMMANDS[self.command][2] if self.command else GLOBAL), _HELP]

    def read(self, word: str) -> None:
        """Take note of one word, by the rules of options.parse."""
        if self.program:
            self.words.append(word)
        elif self.waiting:
            self.values[self.waiting[0]] = word
            self.waiting = None
        elif word == "--" and not self.over:
            self.over = True
            self.program = bool(self.words and self._has_program()) or self._positionals() == ("args*",)
        elif word[:1] == "-" and word != "-" and not self.over:
            self._read_flag(word)
        elif not self.command:
            self.command, self.over = word, False
        else:
            self.words.append(word)
            ends = 1 if self.command in VERBATIM or self.over else 2
            self.program = self._has_program() and len(self.words) >= ends

    def _positionals(self) -> tuple[str, ...]:
        return COMMANDS[self.command][1] if self.command in COMMANDS else ()

    def _has_program(self) -> bool:
        return self._positionals()[-1:] == ("args*",)

    def _read_flag(self, word: str) -> None:
        name, equals, value = word.partition("=")
        for option in self.table() if not self.command or self.command in COMMANDS else []:
            if name.lstrip("-") in option[:2] and name.lstrip("-"):
                if equals:
                    self.values[option[0]] = value
                elif option[2] != "flag":
                    self.waiting = option


def answer(shell: str, words: list[str]) -> str:
    """The lines for a shell's script. bash divides `--flag=value` into three words and replaces the last alone."""
    joined = ""
    if shell == "bash":
        words, joined = _join(words)
    kind, found = complete(words)
    lines = [kind]
    for word, text in found:
        if word.isprintable():
            lines.append(word.removeprefix(joined) if shell == "bash" else f"{word}\t{text}")
    return "\n".join(lines) + "\n"


def _join(words: list[str]) -> tuple[list[str], str]:
    """The words with `--flag`, `=`, `value` as one, and what of the last was joined to it: `--flag=`."""
    found: list[str] = []
    joined = ""
    for word in words:
        if word == "=" and found and found[-1].startswith("-") and "=" not in found[-1]:
            found[-1] += word
            joined = found[-1]
        elif joined and found[-1] == joined:
            found[-1] += word
        else:
            found.append(word)
            joined = ""
    return found, joined


def complete(words: list[str]) -> Answer:
    """What fits the last of `words`, the first of which follows `rootless`."""
    *before, current = words or [""]
    line = Line()
    for word in before:
        line.read(word)
    if line.command and line.command not in COMMANDS:
        return _NOTHING
    if line.waiting:
        return _filter(_value(line.waiting, line, current), current)
    if not line.program and not line.over and current[:1] == "-":
        return _flags(line, current)
    if not line.command:
        return _filter(("words", [(name, entry[0]) for name, entry in COMMANDS.items()]), current)
    return _filter(_positional(line, current), current)


def _filter(answer: Answer, current: str) -> Answer:
    kind, found = answer
    return kind, [entry for entry in found if entry[0].startswith(current)]


def _flags(line: Line, current: str) -> Answer:
    name, equals, value = current.partition("=")
    if equals:  # --flag=VALUE is one word
        option = next((option for option in line.table() if f"--{option[0]}" == name), None)
        if option is None or option[2] == "flag":
            return _NOTHING
        kind, found = _filter(_value(option, line, value), value)
        return kind, [(f"{name}={word}", text) for word, text in found]
    found = [(f"--{option[0]}", option[4]) for option in line.table()]
    if not current.startswith("--"):
        found += [(f"-{option[1]}", option[4]) for option in line.table() if option[1]]
    return _filter(("words", found), current)


def _value(option: Option, line: Line, current: str) -> Answer:
    """The values of a flag: those that its metavar lists, or what it stands for."""
    name, metavar = option[0], option[3]
    if "|" in metavar:
        return "words", [(word, "") for word in metavar.split("|")]
    if metavar == "CAP":
        from rootless.kernel.caps import CAPABILITIES

        return "words", [(word, "") for word in CAPABILITIES]
    if name == "bundle":
        return _bundles(current)
    return _KINDS.get(metavar, "words"), []


def _positional(line: Line, current: str) -> Answer:
    """The words that are no flags, by their place."""
    names = [name.rstrip("?*") for name in COMMANDS[line.command][1]]
    name = names[len(line.words)] if len(line.words) < len(names) else "args" if line.program else ""
    if name == "container_id":
        if line.command in ("create", "run"):  # its id is a new one: what is there is the bundle
            return _bundles(current)
        return _NOTHING if line.command == "restore" else ("words", _ids(line))
    if name == "args":
        return ("files" if line.words else "programs", []) if line.command == "unshare" else _NOTHING
    if name == "signal":
        from rootless.kernel.signals import SIGNALS

        return "words", [(word, "") for word in SIGNALS]
    if name == "topic":
        return "words", [(command, entry[0]) for command, entry in COMMANDS.items()]
    found = {"shell": ("bash", "zsh", "fish"), "action": ("ls", "prune")}.get(name)
    if found:
        return "words", [(word, "") for word in found]
    if name in ("bundle", "bundle_dir"):
        return _bundles(current)
    return "files" if name == "image" else "words", []


def _ids(line: Line) -> list[tuple[str, str]]:
    """The containers of the state root that the line names, or of the user's own."""
    from rootless.cli.containers import state_root
    from rootless.cli.options import Options
    from rootless.runtime.state import ids

    options = Options("")
    options.root = os.path.expanduser(line.values.get("root", ""))
    root = state_root(options)
    return [(container_id, "") for container_id in ids(root) if os.path.isdir(f"{root}/{container_id}")]


def _bundles(current: str) -> Answer:
    """The directories that hold a config.json, as far as `current` says where; all directories if there is none."""
    head, slash, start = current.rpartition("/")
    place = os.path.expanduser(head + slash) or "."
    try:
        with os.scandir(place) as entries:
            names = [entry.name for entry in entries if os.path.isfile(f"{entry.path}/config.json")]
    except OSError:  # no such directory: there is nothing to offer
        return "directories", []
    found = [(head + slash + name, "") for name in sorted(names) if name.startswith(start)]
    found = [entry for entry in found if start or not entry[0].rpartition("/")[2].startswith(".")]
    return ("paths", found) if found else ("directories", [])
